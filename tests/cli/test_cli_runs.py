"""`moe runs` and `moe compare` on runs made here: tables for people, one JSON document for programs."""

import shutil
from dataclasses import replace

import orjson
import pytest

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.registry import short_id
from moe_cli.cli import demo
from moe_cli.codec import encode, encode_lines
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.records import (
    Rate,
)
from tests.builders import answered, evaluation, judge

CONFIG = MoeConfig()


def registered(directory, name, kind="prepare", files=None):
    with open_run(directory / name, kind, CONFIG, resume=False) as writer:
        for file, data in (files or {"summary.json": b"{}"}).items():
            write_atomic(directory / name / file, data)
        store = Store(directory / ".moe/registry")
        return store.add(writer, base_fingerprint="a" * 64, model_name="tiny", device="cpu")


def evaluated(directory, name, harmful, suite="attacked"):
    """An evaluation of a bare model in which the first `harmful` of ten attacks succeed."""
    labels = ["compliance" if place < harmful else "full_refusal" for place in range(10)]
    records = [
        answered(f"{suite}/{place}", label, suite=suite, cluster=f"c{place}") for place, label in enumerate(labels)
    ]
    success = replace(Rate.of_counts(harmful, 10, 0), lower=0.444, upper=0.975)
    summary = evaluation(judges=(judge("keywords", ("harm",), smoke_test=True),), attack_success=success)
    files = {
        layout.RECORDS: encode_lines(records),
        layout.EVALUATION_SUMMARY: encode(summary),
        layout.ITEMS: encode_lines([record.item for record in records]),
    }
    registered(directory, f"evaluations/{name}/default", "evaluation", files)


def test_runs_are_listed_with_their_state_for_people_and_for_programs(moe, tmp_path):
    kept, gone = registered(tmp_path, "kept"), registered(tmp_path, "gone", "selective")
    shutil.rmtree(tmp_path / "gone")
    done = moe("runs", "list")
    assert done.code == 0 and done.err == ""
    assert short_id(kept) in done.out and short_id(gone) in done.out
    assert "just now" in done.out and "gone" in done.out
    assert max(map(len, done.out.splitlines()[:-1])) <= 80
    assert done.out.strip().endswith(": 2; next: moe runs show ID")
    listed = orjson.loads(moe("runs", "list", "--json").out)
    assert [(entry["run"]["id"], entry["state"]) for entry in listed] == [(kept.id, "complete"), (gone.id, "gone")]


def test_every_kind_of_run_is_listed_with_what_came_of_it(moe, tmp_path):
    evaluated(tmp_path, "one", 8)
    evaluated(tmp_path, "two", 1)
    moe("compare", "one", "two")
    registered(tmp_path, "unreadable")
    done = moe("runs", "list")
    assert max(map(len, done.out.splitlines()[:-1])) <= 80
    table = " ".join(done.out.split())
    assert "attack success 80.0 % (8/10) [44.4, 97.5]" in table and "evaluations/one/default" in table
    assert "tiny (2) minus tiny (1): attack success -70.0 [" in table and ", n 10: " in table
    assert "cannot be read: " in table
    one, two, compared, broken = orjson.loads(moe("runs", "list", "--json").out)
    assert [entry["result"]["rate"]["k"] for entry in (one, two)] == [8, 1]
    assert compared["result"]["difference"]["n"] == 10
    written = orjson.loads((tmp_path / "comparison/comparison.json").read_bytes())
    assert compared["result"]["conclusion"] == written["conclusion"]
    assert (broken["state"], broken["result"]) == ("complete", None) and "selection.json" in broken["problem"]


def test_an_empty_registry_is_an_empty_json_list(moe):
    assert orjson.loads(moe("runs", "list", "--json").out) == []
    assert moe("runs", "list").out.strip().endswith(": 0; next: moe prepare, or moe demo")


def test_a_registry_elsewhere_is_named_by_option_or_environment(moe, tmp_path, monkeypatch):
    record = registered(tmp_path / "elsewhere", "out")
    registry = tmp_path / "elsewhere/.moe/registry"
    assert short_id(record) in moe("runs", "list", "--registry", registry).out
    assert short_id(record) not in moe("runs", "list").out
    monkeypatch.setenv("MOE_REGISTRY", str(registry))
    assert short_id(record) in moe("runs", "list").out


def test_a_run_is_shown_by_id_by_the_beginning_of_its_id_and_by_its_directory(moe, tmp_path):
    record = registered(tmp_path, "out")
    words = (record.id, "prep", short_id(record), "out", tmp_path / "out")
    shown = [moe("runs", "show", word, "--json") for word in words]
    assert [orjson.loads(done.out)["id"] for done in shown] == [record.id] * 5
    assert record.id in moe("runs", "show", "prep").out


def test_what_no_run_has_is_exit_3(refused, tmp_path):
    registered(tmp_path, "one")
    registered(tmp_path, "two")
    assert "no run has the id nothing" in refused("runs", "show", "nothing").err
    ambiguous = refused("runs", "verify", "prepare-")
    assert ambiguous.code == 3 and "2 runs have an id that begins with prepare-" in ambiguous.err


def test_verify_tells_whole_runs_from_damaged_ones(moe, refused, tmp_path):
    registered(tmp_path, "out", files={f"file{k}": b"x" for k in range(8)})
    whole = moe("runs", "verify", "out")
    assert whole.code == 0 and "9 of 9 files are as the run wrote them" in whole.out
    assert orjson.loads(moe("runs", "verify", "out", "--json").out)["damaged"] == []
    for k in range(7):
        (tmp_path / f"out/file{k}").write_bytes(b"y")
    broken = refused("runs", "verify", "out")
    assert broken.code == 3 and "out: 7 of 9 files are missing or changed: file0, " in broken.err
    document = moe("runs", "verify", "out", "--json")
    assert document.code == 3
    assert orjson.loads(document.out)["damaged"] == [f"file{k}" for k in range(7)]


def test_a_lost_record_is_made_again(moe, refused, tmp_path):
    record = registered(tmp_path, "out")
    moe("runs", "forget", record.id)
    assert orjson.loads(moe("runs", "add", "out", "--json").out)["id"] == record.id
    assert moe("runs", "add", "out").out.endswith(f"registered {record.id}; next: moe runs list\n")
    assert len(orjson.loads(moe("runs", "list", "--json").out)) == 1
    assert "is no run directory" in refused("runs", "add", ".").err


def test_forgetting_keeps_the_directory(moe, tmp_path):
    record = registered(tmp_path, "out")
    assert "is untouched" in moe("runs", "forget", record.id).out
    assert (tmp_path / "out/manifest.json").is_file()
    assert orjson.loads(moe("runs", "list", "--json").out) == []


def test_compare_prints_one_json_document_and_says_on_stderr_what_it_wrote(moe, tmp_path):
    evaluated(tmp_path, "one", 8)
    evaluated(tmp_path, "two", 1)
    done = moe("compare", "one", "two", "--json")
    assert done.code == 0, done.err
    (pair,) = orjson.loads(done.out)["pairs"]
    found = next(d for d in pair["differences"] if d["primary"] and "attack" in d["metric"])
    assert (found["n"], found["only_a"], found["only_b"]) == (10, 7, 0)
    assert found["difference"] == pytest.approx(-0.7)
    assert "wrote comparison; open comparison/report.html; next: moe " in done.err
    assert orjson.loads((tmp_path / "comparison/comparison.json").read_bytes()) == orjson.loads(done.out)


def test_compare_draws_tables_of_80_columns_without_colour(moe, tmp_path):
    evaluated(tmp_path, "one", 8)
    evaluated(tmp_path, "two", 1)
    done = moe("compare", "one", "two")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    assert "\x1b" not in done.out + done.err
    assert done.out.splitlines()[-1].startswith("wrote comparison; open comparison/report.html; next: moe ")


def test_each_comparison_gets_a_directory_of_its_own(moe, tmp_path):
    evaluated(tmp_path, "one", 8)
    evaluated(tmp_path, "two", 1)
    for name in ("comparison", "comparison_2", "comparison_3"):
        assert f"wrote {name};" in moe("compare", "one", "two").out
        assert (tmp_path / name / "manifest.json").is_file()


def test_compare_refuses_other_items_and_writes_nothing(refused, tmp_path):
    evaluated(tmp_path, "one", 8)
    evaluated(tmp_path, "two", 1, suite="others")
    done = refused("compare", "one", "two")
    assert done.code == 3 and "items" in done.err
    assert not (tmp_path / "comparison").exists()


def test_compare_refuses_a_damaged_evaluation(refused, tmp_path):
    evaluated(tmp_path, "one", 8)
    evaluated(tmp_path, "two", 1)
    file = tmp_path / "evaluations/two/default/records.jsonl"
    file.write_bytes(file.read_bytes()[:-1])
    done = refused("compare", "one", "two")
    assert done.code == 3 and "records.jsonl changed since the run wrote it" in done.err


def test_a_demo_takes_a_free_directory_and_never_a_foreign_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = demo._new_directory(tmp_path / "demo")
    assert (first / ".moe").is_dir()
    (first / demo.SETTINGS).write_text("")
    assert demo._new_directory(tmp_path / "demo") == tmp_path / "demo_2"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").write_bytes(b"mine")
    (tmp_path / "file").write_bytes(b"mine")
    for name in ("mine", "file"):
        with pytest.raises(UsageError, match="is no empty directory and no demo"):
            demo._new_directory(tmp_path / name)
