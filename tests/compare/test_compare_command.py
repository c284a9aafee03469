"""`moe compare` on whole run directories: several seeds, the gate, thresholds, documents, and the words of flips."""

import sys
from shutil import rmtree

import orjson
import pytest
import typer

from moe_cli.artifacts import finished_run, layout
from moe_cli.cli import compare as command
from moe_cli.cli.app import app, main
from moe_cli.codec import decode
from moe_cli.records import Comparison, ValidationLoss
from tests.compare.runs_on_disk import bare, records, trained


@pytest.fixture
def moe(tmp_path, monkeypatch, capsys):
    """Run `moe compare` in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["moe", "compare", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def seeds(tmp_path):
    """An untrained model, two seeds of either arm."""
    bare(tmp_path, "tiny", records(36), items_digest="attacked" * 8)
    for number, harmful in ((1, 8), (2, 10)):
        trained(tmp_path, f"base_{number}", records(harmful), seed=number)
        trained(tmp_path, f"sel_{number}", records(harmful + 12), seed=number, arm="selective")


SEEDS = ("sel_1", "sel_2", "--vs", "base_1", "--vs", "base_2", "--base", "tiny")


def test_several_seeds_are_compared_as_two_arms_beside_the_base(moe, seeds, tmp_path):
    code, out, err = moe(*SEEDS, "--json")
    assert code == 0, err
    found = decode(Comparison, out, source="stdout")
    assert [(arm.name, arm.runs) for arm in found.arms] == [
        ("tiny", ("tiny",)),
        ("base", ("base_1", "base_2")),
        ("sel", ("sel_1", "sel_2")),
    ]
    assert [(pair.a, pair.b) for pair in found.pairs] == [("tiny", "base"), ("tiny", "sel"), ("base", "sel")]
    difference = found.pairs[2].differences[0]
    assert (difference.n, difference.rate_a, difference.rate_b) == (40, 9 / 40, 21 / 40)
    assert [check.name for check in found.fairness if check.status == "differs"] == []
    assert (finished_run(tmp_path / "comparison").manifest.parents.keys()) >= {"run 2", "evaluation 1", "run 5"}


def test_vs_takes_every_word_up_to_the_next_option():
    typed = ["sel_1", "sel_2", "--vs", "base_1", "base_2", "--base", "tiny", "--strict"]
    assert command.split_arms(typed) == [*SEEDS[:6], "--base", "tiny", "--strict"]
    assert command.split_arms(["--vs", "a", "b", "--", "c", "--vs"]) == ["--vs", "a", "--vs", "b", "--", "c", "--vs"]
    taken = []
    own = typer.Typer()

    @own.command(cls=command.CompareCommand)
    def show(runs: list[str], vs: list[str] = typer.Option([])):
        taken.extend([runs, vs])

    own(["a", "b", "--vs", "c", "d", "e"], standalone_mode=False)
    assert taken == [["a", "b"], ["c", "d", "e"]]


def test_the_program_reads_the_words_after_vs_so():
    assert isinstance(typer.main.get_command(app).commands["compare"], command.CompareCommand)


def test_the_tables_of_several_seeds_stay_in_80_columns_and_show_means_with_their_range(moe, seeds):
    code, out, _ = moe(*SEEDS)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "sel (2 runs)" in out and "52.5" in out
    line = next(line for line in out.splitlines() if line.startswith("│ trainable params"))
    assert [cell.strip() for cell in line.split("│")[2:-1]] == ["-", "40", "40"]
    assert "sel (B) minus base (A), same items" in out
    assert out.splitlines()[-1] == "wrote comparison; open comparison/report.html; next: moe runs list"


def test_the_rates_of_the_base_stand_beside_those_of_both_arms(moe, seeds):
    _, out, _ = moe(*SEEDS)
    line = next(line for line in out.partition("sel (B) minus base")[2].splitlines() if "attack success" in line)
    assert line.split()[:6] == ["attack", "success", "40", "90.0", "22.5", "52.5"]


def test_the_same_seeds_twice_are_refused(moe, tmp_path):
    for name in ("a", "b", "c"):
        trained(tmp_path, name, records(3), fingerprint="w" * 64)
    code, out, err = moe("a", "b", "--vs", "c")
    assert (code, out) == (3, "")
    assert "a and b are the same weights" in err


def test_a_threshold_that_is_not_ruled_out_ends_with_7_after_everything_was_shown_and_written(moe, seeds, tmp_path):
    code, out, err = moe(*SEEDS, "--fail-if", "asr>+0.02", "--fail-if", "asr[base]>0.9")
    assert code == 7
    assert "Conclusion" in out and "wrote comparison" in out
    assert "1 of 2 thresholds failed" in err and "asr>+0.02: attack success of sel minus base is +0.3000" in err
    written = decode(Comparison, (tmp_path / "comparison/comparison.json").read_bytes(), source="")
    assert [check.failed for check in written.thresholds] == [True, False]
    assert moe(*SEEDS, "--fail-if", "asr>+0.9")[0] == 0


def test_a_threshold_that_is_not_understood_ends_before_anything_is_written(moe, seeds, tmp_path):
    code, out, err = moe(*SEEDS, "--fail-if", "asr>0.02")
    assert (code, out) == (2, "") and "has no sign and names no run" in err
    assert not (tmp_path / "comparison").exists()


def test_an_unfair_comparison_is_told_and_with_strict_refused(moe, tmp_path):
    trained(tmp_path, "a", records(3))
    trained(tmp_path, "b", records(3), num_steps=55)
    code, out, _ = moe("a", "b")
    assert code == 0 and "The comparison is not fair: steps differs (a 54, b 55)." in " ".join(out.split())
    code, out, err = moe("a", "b", "--strict", "-o", "other")
    assert (code, out) == (3, "")
    assert "the comparison is not fair\n  - steps differs (a 54, b 55)" in err
    assert not (tmp_path / "other").exists()


def test_other_items_are_refused_and_with_intersect_left_out_and_counted(moe, tmp_path):
    trained(tmp_path, "a", records(3, num=40))
    trained(tmp_path, "b", records(9, num=30))
    code, out, err = moe("a", "b")
    assert (code, out) == (3, "")
    assert "10 are only in a" in err and "--evaluation" in err and "--intersect" in err
    code, out, _ = moe("a", "b", "--intersect", "--strict", "--json")
    found = decode(Comparison, out, source="")
    assert (code, found.pairs[0].differences[0].n) == (0, 30)
    assert [column.items_left_out for column in found.columns] == [10, 0]
    assert "left out are 10 of a and 0 of b" in " ".join(found.conclusion)


def test_a_run_that_is_not_evaluated_is_compared_by_its_cost_and_named(moe, tmp_path):
    trained(tmp_path, "a", records(3))
    trained(tmp_path, "b", records(9))
    rmtree(tmp_path / "b" / layout.EVALUATIONS)
    code, out, err = moe("a", "b", "--json")
    assert code == 0, err
    found = decode(Comparison, out, source="")
    assert "b was not evaluated: nothing is known of its safety and capability." in found.conclusion
    assert (found.pairs, found.columns[1].evaluation) == ((), None)
    page = (tmp_path / "comparison/report.html").read_text()
    assert "b was not evaluated" in page


def test_flips_are_counted_and_shown_with_their_words_only_where_asked_for(moe, tmp_path):
    trained(tmp_path, "a", records(3))
    trained(tmp_path, "b", records(9))
    code, out, _ = moe("a", "b")
    assert code == 0
    assert "attacked/3" not in out
    assert next(line.split()[-2:] for line in out.splitlines() if "attacked  " in line) == ["6", "0"]
    _, out, _ = moe("a", "b", "--show-flips", "2")
    shown = [line for line in out.splitlines() if line.startswith("worse: ")]
    assert [line.split()[4] for line in shown] == ["attacked/3", "attacked/4"]
    assert "  prompt: " in out and "  before: " in out and "  after: " in out


def test_the_markdown_document_is_printed_and_written_and_holds_the_ids_of_all_flips(moe, tmp_path):
    trained(tmp_path, "a", records(3))
    trained(tmp_path, "b", records(9))
    code, out, err = moe("a", "b", "--markdown")
    assert code == 0 and "wrote comparison" in err
    assert (tmp_path / "comparison/comparison.md").read_text() == out
    assert "comparison.md" in finished_run(tmp_path / "comparison").manifest.files
    assert [line.split(" | ")[3] for line in out.splitlines() if line.startswith("| worse")] == [
        f"attacked/{place}" for place in range(3, 9)
    ]
    for title in ("# Comparison", "## Fairness gate", "## Side by side", "### What flipped"):
        assert title in out


def test_sizes_of_what_was_written_stand_beside_time_and_memory(moe, tmp_path):
    trained(tmp_path, "a", records(3))
    trained(tmp_path, "b", records(3))
    (tmp_path / "b" / layout.FINAL_MODEL / "model.safetensors").unlink()
    columns = orjson.loads(moe("a", "b", "--json")[1])["columns"]
    assert [(column["final_model_bytes"], column["delta_bytes"]) for column in columns] == [
        (3_000_000, None),
        (None, None),
    ]


def test_the_step_of_the_final_model_and_its_held_out_loss_are_read_from_the_run(moe, tmp_path):
    losses = (ValidationLoss(step=36, loss=1.93), ValidationLoss(step=54, loss=2.5))
    trained(tmp_path, "a", records(3), validation=losses, final_step=36)
    trained(tmp_path, "b", records(3))
    found = orjson.loads(moe("a", "b", "--json")[1])
    columns = [(run["num_steps"], run["final_step"], run["held_out_loss"]) for run in found["columns"]]
    assert columns == [(54, 36, 1.93), (54, 54, None)]
    assert any("a step 36 of 54 and b step 54 of 54" in sentence for sentence in found["conclusion"])


def test_a_threshold_on_an_unknown_suite_is_a_usage_error_before_anything_is_written(moe, seeds, tmp_path):
    code, out, err = moe(*SEEDS, "--fail-if", "asr:nosuite>+0.02")
    assert (code, out) == (2, "") and "there are: attacked" in err
    assert not (tmp_path / "comparison").exists()


def test_a_table_of_outcomes_is_compared_without_any_run(moe, tmp_path):
    (tmp_path / "x.csv").write_text("item,full,selective\n" + "".join(f"{k},0,1\n" for k in range(20)))
    code, out, _ = moe("--import", "x.csv")
    assert code == 0
    assert "selective is better than full in accuracy, as imported" in " ".join(out.split())
    assert "trainable" not in out
    assert moe("x.csv")[1].partition("wrote")[0] == out.partition("wrote")[0]  # --import is not needed
    code, out, _ = moe("--import", "x.csv", "full", "selective", "--metric", "asr", "--fail-if", "asr>+0.02")
    assert code == 7 and "full is safer than selective" in " ".join(out.split())


def test_files_of_runs_are_arms_beside_the_untrained_model(moe, tmp_path):
    for run, right in (("plain", 1), ("full_1", 0), ("full_2", 0), ("sel", 1)):
        (tmp_path / f"{run}.csv").write_text("item,correct\n" + "".join(f"{k},{right}\n" for k in range(20)))
    code, out, _ = moe("sel.csv", "--vs", "full_1.csv", "full_2.csv", "--base", "plain.csv", "--json")
    found = decode(Comparison, out, source="stdout")
    assert code == 0 and [arm.runs for arm in found.arms] == [("plain",), ("full_1", "full_2"), ("sel",)]
    assert found.columns[0].training_mode == "base"


def test_a_run_is_not_compared_with_results_from_elsewhere(moe, seeds, tmp_path):
    (tmp_path / "x.csv").write_text("item,a,b\n1,1,0\n")
    code, out, err = moe("x.csv", SEEDS[0])
    assert (code, out) == (2, "") and "is a run, and results made elsewhere are compared among themselves" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--vs", "a"], "nothing stands before --vs"),
        (["--json", "--markdown", "a", "b"], "are two documents"),
        (["--import", "none.csv"], "there is no file none.csv"),
        (["none.csv"], "there is no file none.csv"),
        (["none.eval", "other.eval"], "there is no file none.eval"),
    ],
)
def test_wrong_words_are_a_usage_error(moe, words, said):
    code, out, err = moe(*words)
    assert (code, out) == (2, "") and said in err
