"""`moe select` from words to files: a prepare run, a published table, and what is refused."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from moe_cli.artifacts import Store, finished_run
from tests.prepare.finished import finished_prepare

PUBLISHED = Path(__file__).parents[1] / "prepare" / "published"


@pytest.fixture
def prepared(tmp_path):
    finished_prepare(tmp_path / "prepared", Store(tmp_path / ".moe" / "registry"), gradients=True, top_k=7)
    return tmp_path / "prepared"


def test_a_new_run_is_written_beside_the_old_one_with_its_settings_and_what_to_run_next(moe, prepared):
    done = moe("select", "prepared", "--method", "esft-token", "--top-p", "0.4")
    assert done.code == 0
    assert "Selected experts (esft-token)" in done.out
    assert done.out.rstrip().endswith(
        "wrote prepared_esft-token; next: moe train selective --prepared prepared_esft-token"
    )
    config = finished_run(prepared.parent / "prepared_esft-token", "prepare").manifest.config["prepare"]
    assert (config["method"], config["top_p"], config["top_k"], config["resamples"]) == ("esft-token", 0.4, 7, 60)
    assert config["output_dir"] == "prepared_esft-token"


def test_json_is_one_document_on_stdout(moe, prepared):
    done = moe("select", "prepared", "--select-by", "q<0.05", "-o", "strict", "--json")
    selection = orjson.loads(done.out)
    assert selection["select_by"] == "q<0.05"
    assert selection["union"] == [{"layer": 1, "index": 0}, {"layer": 2, "index": 0}]
    assert "wrote strict" in done.err


def test_a_dry_run_prints_the_resolved_settings_and_writes_nothing(moe, prepared):
    done = moe("select", "prepared", "--method", "stability", "--dry-run")
    assert "method: stability" in done.out and "output_dir: prepared_stability" in done.out
    assert not (prepared.parent / "prepared_stability").exists()


def test_a_selection_file_is_named_for_one_selection_and_left_behind_by_the_next(moe, prepared):
    (prepared.parent / "mine.json").write_text("[[1, 3]]")
    assert moe("select", "prepared", "--method", "file", "--selection-file", "mine.json").code == 0
    done = moe("select", "prepared_file", "--method", "frequency", "-o", "next")
    assert done.code == 0
    assert finished_run(prepared.parent / "next").manifest.config["prepare"]["selection_file"] is None


def test_random_draws_are_written_as_numbered_runs_with_what_they_can_show(moe, refused, prepared):
    done = moe("select", "prepared", "--method", "random", "--random-draws", "3", "-o", "control")
    assert done.code == 0
    assert "Random draws" in done.out and "selects all" in done.out
    last = "wrote control_1 to control_3; with 3 no p is below 0.25; next, for each: moe train selective --prepared"
    assert f"{last} control_1" in done.out
    assert finished_run(prepared.parent / "control_3", "prepare").manifest.config["prepare"]["method"] == "random"
    again = refused("select", "prepared", "--method", "random", "--random-draws", "1", "-o", "control")
    assert "control_1 is there already" in again.err
    json = moe("select", "prepared", "--method", "random", "--random-draws", "2", "--json", "-o", "other")
    assert [selection["method"] for selection in orjson.loads(json.out)] == ["random", "random"]
    assert "add --method random" in refused("select", "prepared", "--random-draws", "2", "-o", "x").err
    assert "without --resume" in refused("select", "prepared", "--random-draws", "2", "--resume").err


def test_a_published_table_of_counts_is_ranked_and_written(moe, tmp_path):
    table = PUBLISHED / "routing_counts_olmoe_layers.csv"
    done = moe("select", "--from-counts", table, "--top-k", "5", "-o", "ranked.csv")
    assert done.code == 0
    assert "selected: 5 of 128 experts in 2 layers" in done.out
    assert "over 128 rows" in done.out and "9.39" in done.out
    assert len((tmp_path / "ranked.csv").read_text().splitlines()) == 129
    assert len(orjson.loads(moe("select", "--from-counts", table, "--json").out)["rows"]) == 128


def test_published_scores_give_the_published_experts(moe, tmp_path):
    done = moe("select", "--from-scores", PUBLISHED / "esft_translation_layers.json", "--top-p", "0.2", "-o", "e.json")
    assert "exactly the selected ones in 4 of 4 layers" in done.out
    assert [11, 17] in orjson.loads((tmp_path / "e.json").read_bytes())


def test_select_wants_exactly_one_source(refused, prepared):
    assert "select from one of" in refused("select").err
    assert "select from one of" in refused("select", "prepared", "--from-counts", "x.csv").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "is no run directory"),
        (("prepared", "--select-by", "q is small"), "no comparison"),
        (("prepared", "--method", "magic"), "prepare.method"),
        (("prepared", "--method", "file"), "selection_file belong together"),
        (("prepared", "--per-layer", "0"), "prepare.per_layer"),
        (("--from-counts", "nowhere.csv"), "there is no file nowhere.csv"),
        (("--from-scores", "nowhere.json"), "there is no file nowhere.json"),
    ],
)
def test_what_cannot_be_selected_is_two_lines(refused, prepared, words, said):
    assert said in refused("select", *words).err
