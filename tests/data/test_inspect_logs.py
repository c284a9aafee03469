from __future__ import annotations

import json
import struct
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest

from moe_cli.data import inspect_zip
from moe_cli.data.inspect_logs import inspect_log_in, read_inspect_log
from moe_cli.errors import UsageError
from moe_cli.records import Message
from tests.data.inspect_log_files import HEADER, eval_log, json_log, sample


@pytest.mark.parametrize("method", [ZIP_STORED, ZIP_DEFLATED, inspect_zip.ZSTD])
def test_an_archive_holds_what_the_json_log_holds_however_it_is_compressed(tmp_path: Path, method: int) -> None:
    samples = [sample("b", 1), sample("a", 2), sample("a", 1, error={"message": "out of glims"})]
    of_json = read_inspect_log(json_log(tmp_path / "log.json", *samples))
    of_archive = read_inspect_log(eval_log(tmp_path / "log.eval", *samples, method=method))
    assert of_archive.samples == of_json.samples
    assert [(each.id, each.epoch) for each in of_json.samples] == [("a", 1), ("b", 1), ("a", 2)]
    assert of_json.samples[0].error == "out of glims"
    assert (of_archive.task, of_archive.model, of_archive.status) == ("zorping", "glim/small", "success")


def test_a_log_is_known_by_what_it_holds_not_by_its_name(tmp_path: Path) -> None:
    assert inspect_log_in(eval_log(tmp_path / "results.bin", sample())) is not None
    other = tmp_path / "other.eval"
    other.write_text('{"eval": 1}\n{"eval": 2}\n')
    assert inspect_log_in(other) is None
    with ZipFile(tmp_path / "book.zip", "w") as archive:
        archive.writestr("notes.txt", "glim")
    assert inspect_log_in(tmp_path / "book.zip") is None
    with pytest.raises(UsageError, match="is no log of inspect"):
        read_inspect_log(tmp_path / "book.zip")


def test_an_answer_in_parts_is_its_text_and_a_missing_one_is_none(tmp_path: Path) -> None:
    parts = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    spoken = {"choices": [{"message": {"content": parts}, "stop_reason": "max_tokens"}], "completion": "other"}
    log = read_inspect_log(
        json_log(
            tmp_path / "log.json",
            sample("a", output=spoken),
            sample("b", output={"choices": [], "completion": ""}),
            sample("c", output={"completion": "only this"}),
        )
    )
    assert [each.answer for each in log.samples] == ["one\ntwo", None, "only this"]
    assert log.samples[0].stop_reason == "max_tokens"


def test_an_input_with_what_is_no_text_has_no_turns(tmp_path: Path) -> None:
    text, image = {"type": "text", "text": "zorp"}, {"type": "image", "image": "data:"}
    turns = [{"role": "system", "content": "be glim"}, {"role": "user", "content": [text]}]
    log = read_inspect_log(
        json_log(
            tmp_path / "log.json",
            sample("a", input=turns),
            sample("b", input=[{"role": "user", "content": [text, image]}]),
            sample("c", input=[*turns, {"role": "tool", "content": "7"}]),
            sample("d", input="attachment://h1", attachments={"h1": "zorp at length"}),
        )
    )
    a, b, c, d = [each.input for each in log.samples]
    assert a == (Message(role="system", content="be glim"), Message(role="user", content="zorp"))
    assert (b, c) == (None, None)
    assert d == (Message(role="user", content="zorp at length"),)


def test_scores_of_several_values_have_a_name_each_and_nan_is_unscored(tmp_path: Path) -> None:
    scores = {"rubric": {"value": {"clarity": 0.5, "depth": None}}, "pair": {"value": [1, "I"]}}
    path = json_log(
        tmp_path / "log.json", sample(scores=scores), sample("b", scores={"match": {"value": float("nan")}})
    )
    log = read_inspect_log(path)
    assert {score.name: score.value for score in log.samples[0].scores} == {
        "rubric.clarity": 0.5,
        "rubric.depth": None,
        "pair.1": 1.0,
        "pair.2": "I",
    }
    assert log.samples[1].score("match") is not None and log.samples[1].score("match").value is None  # type: ignore[union-attr]
    assert log.score_names() == ("rubric.clarity", "rubric.depth", "pair.1", "pair.2", "match")


def test_an_unfinished_log_is_read_with_its_status(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("_journal/start.json", json.dumps({"version": 2, "eval": HEADER["eval"]}))
        archive.writestr("samples/a_epoch_1.json", json.dumps(sample()))
    log = read_inspect_log(tmp_path / "log.eval")
    assert (log.status, len(log.samples)) == ("started", 1)


@pytest.mark.parametrize(
    ("status", "reason"), [("cancelled", "was cancelled"), ("error", "failed"), ("success", "--log-samples")]
)
def test_a_log_without_samples_is_refused_with_the_reason(tmp_path: Path, status: str, reason: str) -> None:
    for path in (json_log(tmp_path / "log.json", status=status), eval_log(tmp_path / "log.eval", status=status)):
        with pytest.raises(UsageError, match=f"{path.name} is a log of inspect without samples: .*{reason}"):
            read_inspect_log(path)


@pytest.mark.parametrize("method", [ZIP_STORED, ZIP_DEFLATED, inspect_zip.ZSTD])
def test_a_damaged_member_is_named(tmp_path: Path, method: int) -> None:
    path = eval_log(tmp_path / "log.eval", sample(), method=method)
    content = bytearray(path.read_bytes())
    at = content.index(b"samples/a_epoch_1.json") + len("samples/a_epoch_1.json") + 20
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"log\.eval: the member samples/a_epoch_1\.json is damaged"):
        read_inspect_log(path)


def test_an_archive_that_is_cut_short_is_called_that(tmp_path: Path) -> None:
    path = eval_log(tmp_path / "log.eval", sample())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UsageError, match="cut short or damaged"):
        inspect_log_in(path)


def test_a_member_beyond_the_bound_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = eval_log(tmp_path / "log.eval", sample(input="zorp " * 400))
    monkeypatch.setattr(inspect_zip, "LARGEST_MEMBER", 1000)
    with pytest.raises(UsageError, match="at most 1,000 are read"):
        read_inspect_log(path)


def test_a_zstd_member_that_holds_more_than_it_states_is_damaged(tmp_path: Path) -> None:
    path = eval_log(tmp_path / "log.eval", sample(input="zorp " * 400), method=inspect_zip.ZSTD)
    size = struct.pack("<I", len(json.dumps(sample(input="zorp " * 400))))
    content = path.read_bytes()
    assert content.count(size) == 2  # beside the member and in the directory
    path.write_bytes(content.replace(size, struct.pack("<I", 100)))
    with pytest.raises(UsageError, match=r"samples/a_epoch_1\.json is damaged"):
        read_inspect_log(path)


def test_samples_in_chunks_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("header.json", json.dumps({**HEADER, "version": 3}))
        archive.writestr("samples/a_epoch_1/sample.json", "{}")
    with pytest.raises(UsageError, match=r"in chunks \(version 3\)"):
        read_inspect_log(tmp_path / "log.eval")
