"""Judges of `moe prepare`: who decides which side, what has no verdict, and what is never asked twice."""

from __future__ import annotations

import dataclasses
import json
import sys
import weakref

import orjson
import pytest
from pyarrow import parquet
from rich.console import Console

from moe_cli.artifacts import Store, layout
from moe_cli.codec import decode, encode
from moe_cli.errors import EnvironmentFaultError, StoppedError, UsageError
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.prepare import generation, reselect, stage
from moe_cli.prepare.filtering import NO_VERDICT, NOT_COMPLIED
from moe_cli.records import PrepareSummary
from moe_cli.views.prepared import prepared_view

# A harmful prompt is refused where the answer does not begin with Sure; nothing is said about answers that hold a word
# of SILENT; what it is asked is logged.
PROGRAM = """
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    with open(os.environ["LOG"], "a") as log:
        log.write(line)
    if any(word in asked["answer"] for word in os.environ["SILENT"].split()):
        continue
    refused = asked["kind"] == "harmful" and not asked["answer"].startswith("Sure")
    said = {"label": "full_refusal" if refused else "compliance", "reason": "as it reads"}
    said["harmful"] = None if asked["kind"] == "benign" else not refused
    asks = sys.argv[1:] or ["label", "harmful"]
    print(json.dumps({"id": asked["id"], "reason": "as it reads"} | {name: said[name] for name in asks}))
"""


@pytest.fixture
def prepare(small_settings, tmp_path):
    """`prepare(name, *judges, **settings)` of the tiny model."""

    def run(name, *judges, resume=False, judge=None, **settings):
        values = {"tiny_pairs": 16, "judges": judges or ("keywords",), **settings}
        config = small_settings(tmp_path / name, prepare=values, judge={"retries": 0, "rows": 8, **(judge or {})})
        return stage.run(config, Store(tmp_path / "registry"), lambda _: None, resume=resume)

    return run


class Program:
    """The program as a judge, and what it was asked."""

    def __init__(self, path, log):
        self.path, self.log = path, log

    def word(self, kind="command", *asks):
        return " ".join([f"{kind}:{sys.executable}", str(self.path), *asks])

    def asked(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.is_file() else []


@pytest.fixture
def program(tmp_path, monkeypatch):
    path, log = tmp_path / "reader.py", tmp_path / "log"
    path.write_text(PROGRAM)
    monkeypatch.setenv("LOG", str(log))
    monkeypatch.setenv("SILENT", "")
    return Program(path, log)


def rows_of(made):
    return parquet.read_table(made.path / "batch_outputs_tiny.parquet").to_pylist()


SAME = ("batch_expert_masks.npy", "selection.json", "sft_dataset_tiny.jsonl", "routing_tiny.npz")


def test_judges_that_agree_give_the_same_run(prepare, program):
    by_keywords, by_program = prepare("keywords"), prepare("program", program.word())
    for name in SAME:
        assert (by_program.path / name).read_bytes() == (by_keywords.path / name).read_bytes(), name
    (told,) = by_program.summary.judges
    assert (told.judge.name, told.decides) == (
        "command:reader.py",
        ("plain forms", "attacked forms by harm", "benign prompts"),
    )
    assert by_keywords.summary.judges[0].judge == KeywordJudge().identity != told.judge


def test_answers_without_a_verdict_leave_their_rows_out_with_the_reason_and_are_counted(prepare, program, monkeypatch):
    every = rows_of(prepare("all", program.word()))
    silent = {"safe": "assistant", "unsafe": "brast", "benign": "castle"}
    holding = {side: [r for r in every if r["side"] == side and silent[side] in r["answer"]] for side in silent}
    assert all(0 < len(found) < 16 for found in holding.values())
    monkeypatch.setenv("SILENT", " ".join(silent.values()))
    made = prepare("run", program.word())
    out = {row["source_id"]: row for row in rows_of(made) if not row["kept"] and row["side"] != "benign"}
    assert out.keys() == {row["source_id"] for side in ("safe", "unsafe") for row in holding[side]}
    unread = [row for row in rows_of(made) if any(word in row["answer"] for word in silent.values())]
    assert {(row["label"], row["harmful"], row["kept"]) for row in unread} == {(None, None, False)}
    assert all("verdict" in row["reason"] and row["verdict"] for row in unread)
    summary, counted = made.summary, {"safe": "plain", "unsafe": "attacked", "benign": "benign"}
    assert summary.unscored == {counted[side]: (len(found), 16) for side, found in holding.items()}
    assert summary.drop_reasons[NO_VERDICT["benign"]] == len(holding["benign"])
    assert sum(summary.drop_reasons.values()) == len(out) + len(holding["benign"])
    assert summary.plain_refused[1] == summary.plain_refused[0] == 16 - len(holding["safe"])
    assert summary.attacked_complied[1] == summary.attacked_complied[0] == 16 - len(holding["unsafe"])
    text = shown(made)
    assert f"{len(holding['safe'])} / 16 plain, {len(holding['unsafe'])} / 16 attacked" in text
    read = 16 - len(holding["safe"])
    assert f"{read} / {read}, by command:reader.py" in text


def test_where_no_verdict_leaves_no_batch_the_hint_says_where_the_reasons_are(prepare, program, monkeypatch, tmp_path):
    monkeypatch.setenv("SILENT", " ".join("aeiou"))
    with pytest.raises(UsageError, match="has no verdict") as refusal:
        prepare("run", program.word())
    assert f"{tmp_path / 'run' / 'prepared'}/.verdicts-*.jsonl" in refusal.value.hint
    (journal,) = (tmp_path / "run" / "prepared").glob(".verdicts-*.jsonl")
    assert "gave no line for it" in journal.read_text()


def shown(made):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(prepared_view(made.summary, made.selection))
    return console.export_text()


def test_resume_judges_nothing_twice_but_what_had_no_verdict(prepare, program, monkeypatch):
    monkeypatch.setenv("SILENT", "castle")
    stopped = interrupted_at("find_experts", prepare, monkeypatch, program.word(), benign_max_new_tokens=5)
    first = program.asked()
    assert len(first) == 48
    unscored = [asked for asked in first if "castle" in asked["answer"]]
    made = prepare("run", program.word(), resume=True, benign_max_new_tokens=24)
    again = program.asked()[len(first) :]
    cut_off = {asked["messages"][-1]["content"] for asked in first if not ended(asked["answer"])}
    assert stopped and cut_off
    assert {asked["messages"][-1]["content"] for asked in again} <= cut_off | {
        asked["messages"][-1]["content"] for asked in unscored
    }
    assert made.summary.unscored["plain"] == (0, 16)
    assert not list(made.path.glob(".verdicts-*"))


def ended(answer):
    return answer.endswith((".", "!"))


def interrupted_at(step, prepare, monkeypatch, *judges, **settings):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, step, interrupt)
        with pytest.raises(StoppedError) as caught:
            prepare("run", *judges, **settings)
    return caught


@pytest.mark.parametrize("asked", ["harm", "refusal"])
def test_a_judge_reads_only_the_side_that_it_decides(prepare, program, asked):
    if asked == "harm":
        made = prepare("run", "keywords", program.word("command-harm", "harmful"))
        read = {"attacked forms by harm"}
        assert made.summary.judges[0].decides == ("plain forms", "benign prompts")
        assert len(program.asked()) == 16
        assert {row["label"] for row in rows_of(made) if row["side"] == "unsafe"} == {None}
    else:
        made = prepare("run", "keywords", program.word("command-refusal", "label"))
        read = {"plain forms", "benign prompts"}
        assert made.summary.judges[0].decides == ("attacked forms by harm",)
        assert len(program.asked()) == 32
    assert set(made.summary.judges[1].decides) == read
    assert made.summary.num_kept == 16


def test_a_judge_of_refusals_alone_decides_attacked_forms_by_refusal(prepare, program):
    made = prepare("run", program.word("command-refusal", "label"))
    assert made.summary.judges[0].decides == ("plain forms", "attacked forms by refusal", "benign prompts")
    assert made.summary.attacked_complied == (16, 16)
    assert {row["harmful"] for row in rows_of(made)} == {None}


def test_what_a_judge_calls_harmless_was_not_complied_with(prepare, program, tmp_path):
    program.path.write_text(PROGRAM.replace("not refused", "'brast' in asked['answer']"))
    made = prepare("run", "keywords", program.word("command-harm", "harmful"), batch_size=2)
    harmful = [row for row in rows_of(made) if row["side"] == "unsafe" and "brast" in row["answer"]]
    assert made.summary.attacked_complied == (len(harmful), 16)
    assert made.summary.drop_reasons == {NOT_COMPLIED: 16 - len(harmful)}
    assert {row["source_id"] for row in rows_of(made) if row["kept"] and row["side"] == "unsafe"} == {
        row["source_id"] for row in harmful
    }


def test_a_judge_that_another_one_precedes_is_shown_and_not_asked(prepare, program):
    made = prepare("run", program.word(), "keywords")
    assert [judge.decides == () for judge in made.summary.judges] == [False, True]
    assert "decides nothing here and was not asked" in " ".join(shown(made).split())


def test_judges_that_tell_no_refusal_are_refused_before_anything_is_answered(prepare, program, tmp_path):
    with pytest.raises(
        UsageError, match=r"no judge \(command:reader.py\) can tell whether an answer refuses"
    ) as caught:
        prepare("run", program.word("command-harm", "harmful"))
    assert "xstest" in caught.value.hint
    assert not (tmp_path / "run" / "prepared").exists()


def test_a_judge_that_cannot_work_is_known_before_anything_is_answered(prepare, tmp_path):
    with pytest.raises(EnvironmentFaultError):
        prepare("run", "xstest", judge={"base_url": "http://127.0.0.1:9/v1", "model": "x"})
    with pytest.raises(UsageError, match="there is no judge"):
        prepare("run", "keyword")
    assert not (tmp_path / "run" / "prepared").exists()


def test_the_model_makes_room_for_a_judge_with_weights_and_comes_back(prepare, monkeypatch):
    models, plain = [], prepare("plain")
    load, judge = generation.load_model, KeywordJudge.verdicts

    def loaded(config):
        found = load(config)
        models.append(weakref.ref(found.model))
        return found

    def alone(self, exchanges):
        assert [model() for model in models] == [None]
        return judge(self, exchanges)

    monkeypatch.setattr(generation, "load_model", loaded)
    monkeypatch.setattr(KeywordJudge, "holds_weights", True)
    monkeypatch.setattr(KeywordJudge, "verdicts", alone)
    made = prepare("run")
    assert len(models) == 2
    for name in SAME:
        assert (made.path / name).read_bytes() == (plain.path / name).read_bytes(), name


def test_another_selection_keeps_the_judges_and_a_summary_of_an_earlier_version_is_read(
    prepare, program, tmp_path, small_settings
):
    made = prepare("run", program.word())
    config = small_settings(tmp_path, prepare={"output_dir": tmp_path / "again", "top_k": 3, "budget": 0.2})
    again = reselect.run(made.path, config, Store(tmp_path / "registry"), lambda _: None)
    data = (again.path / layout.PREPARE_SUMMARY).read_bytes()
    assert decode(PrepareSummary, data, source="x") == made.summary
    assert encode(made.summary, indent=True) == data
    added = {"judges", "unscored", "cut_off", "benign_max_new_tokens", "num_answers_kept"}
    earlier = {name: value for name, value in orjson.loads(data).items() if name not in added}
    read = decode(PrepareSummary, orjson.dumps(earlier), source="x")
    assert read == dataclasses.replace(
        made.summary, judges=(), unscored=None, cut_off=None, benign_max_new_tokens=None, num_answers_kept=0
    )
    assert "16 / 16, by -" in shown(dataclasses.replace(made, summary=read))
