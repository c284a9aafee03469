"""Paths that are too long, lead nowhere or to something else: an error that names them, before any work."""

import logging
import os

import orjson
import pytest

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import atomic_directory
from moe_cli.characters import escape_json
from moe_cli.prepare import generation

LONG = "z" * 300


def refuse_to_work(monkeypatch):
    def work(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(generation, "load_model", work)


@pytest.mark.parametrize(
    "words",
    [
        *("runs show {}", "runs verify {}", "runs add {}", "runs list --registry {}", "prepare --config {}"),
        *("prepare --model tiny -o {}", "prepare --model tiny --registry {}", "prepare --model {} --pairs FILE"),
        *("train selective --model tiny --prepared {}", "evaluate {}", "evaluate tiny --output-name {}"),
        *("compare {} b", "demo -o {}", "select {}", "select --from-counts {}", "prepare --model tiny --pairs {}"),
        *("prepare --model tiny --judge rubric:{}", "prepare --model tiny --judge harmbench:{}"),
    ],
)
def test_a_name_that_is_too_long_for_the_system_is_refused_and_leaves_nothing(refused, tmp_path, monkeypatch, words):
    refuse_to_work(monkeypatch)
    (tmp_path / "FILE").write_text('{"goal": "g", "safe": "s", "unsafe": "u"}\n')
    done = refused(*words.format(LONG).split())
    assert done.code in (2, 3, 4) and "zzz" in done.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["FILE"]


@pytest.mark.parametrize("place", ["FILE/x", "/proc/x", "loop", "loop/x", "dangling"])
@pytest.mark.parametrize("words", ["demo -o", "prepare --model tiny -o", "prepare --model tiny --registry"])
def test_a_place_where_nothing_can_be_written_is_refused_before_the_work(refused, tmp_path, monkeypatch, words, place):
    refuse_to_work(monkeypatch)
    (tmp_path / "FILE").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    done = refused(*words.split(), place)
    assert done.code in (2, 3, 4) and place.removesuffix("/x") in done.err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["FILE", "dangling", "loop"]


@pytest.mark.parametrize("kind", ["directory", "dangling link", "loop", "pipe"])
def test_what_is_no_record_in_the_registry_is_named(refused, tmp_path, kind):
    registry, entry = tmp_path / "r", tmp_path / "r/x.json"
    registry.mkdir()
    make = {
        "directory": entry.mkdir,
        "dangling link": lambda: entry.symlink_to("nowhere"),
        "loop": lambda: entry.symlink_to("x.json"),
        "pipe": lambda: os.mkfifo(entry),
    }
    make[kind]()
    done = refused("runs", "list", "--registry", "r")
    assert done.code == 3
    assert done.err.startswith("error: r/x.json is no file with a record of a run\nhint: remove it")


def test_a_long_name_of_a_model_leaves_room_in_the_names_of_its_files():
    name = f"/home/{'a' * 100}/{'b' * 100}/model"
    for file in (layout.batch_outputs(name), *layout.risk_pictures(name)):
        assert len(f".{file}.partial") <= 255
    assert layout.file_stem(name) != layout.file_stem(f"{name}2")
    assert layout.file_stem("allenai/OLMoE-1B-7B") == "allenai--OLMoE-1B-7B"


def test_a_directory_that_the_system_brings_to_disk_by_itself_is_written(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(22, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_directory(tmp_path / "model") as staging:
        (staging / "x").write_text("x")
    assert (tmp_path / "model/x").read_text() == "x"


NAME = "m\x9b2J\x7f\u202e\u2066\u200b\U000e0041é"


def test_json_is_the_same_value_without_a_character_that_a_terminal_obeys(moe):
    done = moe("config", "show", "--json", "--set", f"model.name={NAME}")
    assert '"m\\u009b2J\\u007f\\u202e\\u2066\\u200b\\udb40\\udc41é"' in done.out
    assert orjson.loads(done.out)["model"]["name"] == NAME
    assert escape_json('"é"', "ascii") == '"\\u00e9"'


def test_settings_in_yaml_hold_no_such_character_and_load_to_the_same(moe, tmp_path):
    done = moe("config", "show", "--set", f"model.name={NAME}")
    assert done.out.replace("\n", "").isprintable()
    (tmp_path / "again.yaml").write_text(done.out)
    assert orjson.loads(moe("config", "show", "--json", "--config", "again.yaml").out)["model"]["name"] == NAME


def test_settings_come_from_a_pipe_that_is_written_and_one_that_nobody_writes_into_is_refused_at_once(moe, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = moe("config", "show", "--config", "pipe")
    assert done.code == 2 and done.err.startswith("error: nobody writes into the pipe pipe\nhint: ")
    source, sink = os.pipe()
    os.write(sink, b"seed: 7\n")
    os.close(sink)
    assert moe("config", "show", "--config", f"/dev/fd/{source}").out.startswith("seed: 7\n")
    os.close(source)


def test_a_device_is_no_config_file_to_the_end(refused):
    assert "/dev/zero has more than 400,000 bytes" in refused("config", "show", "--config", "/dev/zero").err


@pytest.mark.parametrize(
    "words", ["compare a b --labels pipe", "evaluate tiny --items harmful=pipe", "export pipe -o m"]
)
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(refused, tmp_path, words):
    os.mkfifo(tmp_path / "pipe")
    done = refused(*words.split())
    assert done.code in (2, 3) and done.err.startswith("error: pipe is ")


def test_a_name_with_a_line_break_stays_on_the_line_of_the_error(refused):
    lines = refused("prepare", "--model", "tiny", "--pairs", "a\nb").err.splitlines()
    assert lines[0] == "error: there is no file a↵b" and len(lines) == 2


def test_what_a_library_logs_is_one_safe_line(moe, caplog):
    before = logging.getLogRecordFactory()
    try:
        moe("config", "show")
        logging.getLogger("strange").error("%s", "m\x1b]0;X\x07\nerror: none")
        assert caplog.messages == ["m�]0;X�↵error: none"]
    finally:
        logging.setLogRecordFactory(before)


def test_the_result_of_a_benchmark_has_a_place_before_it_is_measured(refused, tmp_path):
    (tmp_path / "link").symlink_to("FILE")
    (tmp_path / "FILE").touch()
    for place in ("link", "/dev/full", "FILE/x", "/proc/x"):
        assert refused("bench", "-o", place).code in (2, 4)
    assert (tmp_path / "link").is_symlink()


def test_a_dry_run_looks_at_the_registry_where_the_run_would(moe, tmp_path):
    (tmp_path / "FILE").touch()
    for words in ("prepare --model tiny", "train selective --model tiny", "evaluate tiny", "compare a b"):
        assert moe(*words.split(), "--dry-run", "--registry", "FILE").code == 4
    assert moe("train", "selective", "--dry-run", "--prepared", "nowhere").code == 3


def test_no_run_is_forgotten_by_an_empty_id(refused):
    assert "the id of a run is empty" in refused("runs", "forget", "").err


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_selection_file_is_read_before_the_model_is(moe, tmp_path, monkeypatch, more):
    refuse_to_work(monkeypatch)
    (tmp_path / "chosen.json").write_text('{"experts": {"0": [1], "0": [2]}}')
    done = moe("prepare", "--model", "tiny", "--method", "file", "--selection-file", "chosen.json", *more)
    assert done.code == 2 and "error: chosen.json: the key `0` stands twice in one object" in done.err
