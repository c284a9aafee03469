"""One run directory: empty, begun, interrupted, complete, foreign; and nothing is read that changed."""

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest

from moe_cli.artifacts import ScratchFiles, finished_run, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.finished import kind_in
from moe_cli.artifacts.run_directory import free_directory
from moe_cli.codec import decode, encode
from moe_cli.config import MoeConfig, load_config
from moe_cli.errors import ArtifactError, LockedError, RunCompleteError
from moe_cli.records import Manifest, StartedRun

CONFIG = MoeConfig()
FACTS = {"base_fingerprint": "f" * 64, "model_name": "tiny", "device": "cpu"}


FILES = ["manifest.json", "summary.json"]


def finish(path, kind="prepare", contents=None, *, resume=False, config=CONFIG):
    with open_run(path, kind, config, resume=resume) as writer:
        for name, data in (contents or {"summary.json": b"{}"}).items():
            write_atomic(path / name, data)
        manifest = writer.manifest(**FACTS)
        writer.finish(manifest)
        return manifest


def interrupt(path, kind="prepare", *, config=CONFIG):
    with pytest.raises(RuntimeError, match="power cut"), open_run(path, kind, config, resume=False):
        write_atomic(path / "work.jsonl", b"some work")
        raise RuntimeError("power cut")


def refusal(path, kind="prepare", *, resume=False, config=CONFIG, error=ArtifactError, **options):
    with pytest.raises(error) as found, open_run(path, kind, config, resume=resume, **options):
        pass
    return f"{found.value.message} / {found.value.hint}"


def names(path):
    return sorted(entry.name for entry in path.iterdir())


def test_an_empty_or_missing_directory_becomes_a_complete_run(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "not/yet/there"):
        manifest = finish(path)
        assert names(path) == ["config.yaml", "manifest.json", "summary.json"]
        run = finished_run(path, "prepare")
        assert run.manifest == manifest
        assert set(manifest.files) == {"config.yaml", "summary.json"}
        assert (manifest.seed, manifest.model_name, manifest.device) == (42, "tiny", "cpu")
        assert manifest.id.startswith("prepare-") and manifest.packages["torch"]


def test_the_config_in_a_run_resolves_to_the_settings_of_the_run(tmp_path):
    config = MoeConfig.model_validate({"seed": 7, "model": {"name": "no"}, "prepare": {"budget": None}})
    finish(tmp_path / "out", config=config)
    file = tmp_path / "out" / layout.CONFIG
    assert load_config(file=file, environment={}, assignments=(), flags={}) == config


def test_a_complete_run_is_never_overwritten(tmp_path):
    finish(tmp_path / "out")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in names(tmp_path / "out")}
    assert "already holds a complete run" in refusal(tmp_path / "out")
    other = CONFIG.model_copy(update={"seed": 7})
    assert "already holds a complete run" in refusal(tmp_path / "out", resume=True, config=other)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names(tmp_path / "out")} == before


def test_resuming_a_complete_run_has_nothing_left_to_do_but_to_remove_what_was_for_the_work_alone(tmp_path):
    run, before = tmp_path / "out", finish(tmp_path / "out")
    for leftover in (layout.STARTED, "checkpoint-3"):
        (run / leftover).write_bytes(b"left by a crash")
    scratch = ScratchFiles(names="checkpoint-*", clear=lambda path: (path / "checkpoint-3").unlink())
    assert "nothing left to do" in refusal(run, resume=True, scratch=scratch, error=RunCompleteError)
    assert names(run) == ["config.yaml", "manifest.json", "summary.json"]
    assert finished_run(run).manifest == before


def test_what_is_there_for_the_work_alone_is_no_file_of_the_run_and_goes_after_the_manifest(tmp_path):
    seen = []

    def clear(path):
        seen.append((path / layout.MANIFEST).is_file())
        (path / "checkpoint-1").unlink()

    scratch = ScratchFiles(names="checkpoint-*", clear=clear)
    with open_run(tmp_path / "out", "prepare", CONFIG, resume=False, scratch=scratch) as writer:
        write_atomic(tmp_path / "out" / "checkpoint-1", b"weights")
        writer.finish(writer.manifest(**FACTS))
    assert seen == [True]
    assert set(finished_run(tmp_path / "out").manifest.files) == {"config.yaml"}


def test_a_run_that_cannot_be_gone_on_with_leaves_nothing_where_it_breaks_off(tmp_path):
    with pytest.raises(RuntimeError), open_run(tmp_path / "out", "comparison", CONFIG, resume=False, lasting=False):
        write_atomic(tmp_path / "out" / "comparison.json", b"half")
        raise RuntimeError("power cut")
    assert not (tmp_path / "out").exists()


def test_what_a_killed_comparison_left_is_begun_anew_in_the_same_place(tmp_path):
    interrupt(tmp_path / "out", "comparison")
    killed = decode(StartedRun, (tmp_path / "out" / layout.STARTED).read_bytes(), source="killed")
    assert free_directory(tmp_path / "out", "comparison") == tmp_path / "out"
    with open_run(tmp_path / "out", "comparison", CONFIG, resume=False, lasting=False) as writer:
        assert not writer.resumed
        assert writer.started.id == killed.id  # so that a record that was begun is its own
        assert names(tmp_path / "out") == [".lock", ".run.json", "config.yaml"]
        assert free_directory(tmp_path / "out", "comparison") == tmp_path / "out_2"


def test_a_complete_run_that_is_passed_by_keeps_nothing_of_the_process_that_was_killed_after_it(tmp_path):
    path = tmp_path / "out"
    finish(path, "comparison")
    whole = names(path)
    for left in (layout.STARTED, layout.LOCK, ".manifest.json.0badcafe"):
        (path / left).touch()
    assert free_directory(path, "comparison") == tmp_path / "out_2"
    assert names(path) == whole


def test_selecting_anew_never_removes_the_answers_of_an_interrupted_prepare_run(tmp_path):
    with pytest.raises(RuntimeError), open_run(tmp_path / "out", "prepare", CONFIG, resume=False):
        write_atomic(tmp_path / "out" / ".answers-0123456789abcdef-8.jsonl", b"{}")
        raise RuntimeError("power cut")
    assert "holds an interrupted run" in refusal(tmp_path / "out", lasting=False)
    assert (tmp_path / "out" / ".answers-0123456789abcdef-8.jsonl").read_bytes() == b"{}"


def test_an_interrupted_run_is_refused_without_resume_and_continued_with_it(tmp_path):
    interrupt(tmp_path / "out")
    assert kind_in(tmp_path / "out") == "prepare"
    assert "holds an interrupted run / add --resume" in refusal(tmp_path / "out")
    with pytest.raises(ArtifactError, match="holds an interrupted run") as unfinished:
        finished_run(tmp_path / "out")
    assert "--resume" in unfinished.value.hint
    with open_run(tmp_path / "out", "prepare", CONFIG, resume=True) as writer:
        assert writer.resumed
        assert (writer.path / "work.jsonl").read_bytes() == b"some work"
        begun = writer.started
        writer.finish(writer.manifest(**FACTS))
    manifest = finished_run(tmp_path / "out").manifest
    assert (manifest.id, manifest.started) == (begun.id, begun.started)


def test_a_resumed_run_takes_the_earlier_run_that_it_found_before(tmp_path):
    with pytest.raises(RuntimeError), open_run(tmp_path / "out", "selective", CONFIG, resume=False) as writer:
        assert writer.remembered("prepare") is None
        writer.remember("prepare", tmp_path / "prepared")
        write_atomic(writer.path / "work.jsonl", b"some work")
        raise RuntimeError
    with open_run(tmp_path / "out", "selective", CONFIG, resume=True) as writer:
        assert writer.remembered("prepare") == tmp_path / "prepared"
        assert writer.remembered("other") is None


def test_resume_in_an_empty_directory_begins_a_run(tmp_path):
    with open_run(tmp_path / "out", "prepare", CONFIG, resume=True) as writer:
        assert not writer.resumed
        writer.finish(writer.manifest(**FACTS))


def test_an_interrupted_run_of_another_kind_is_refused_even_with_resume(tmp_path):
    interrupt(tmp_path / "out", "selective")
    assert "of kind selective, not baseline" in refusal(tmp_path / "out", "baseline", resume=True)


def test_resuming_a_training_with_other_settings_names_each_of_them(tmp_path):
    interrupt(tmp_path / "out", "baseline")
    other = MoeConfig.model_validate({"seed": 7, "train": {"num_epochs": 1}})
    message = refusal(tmp_path / "out", "baseline", resume=True, config=other)
    assert "begun with other settings: seed 42 -> 7, train.num_epochs 3 -> 1" in message
    # Neither where the run is noted nor the settings of another room change it.
    elsewhere = MoeConfig.model_validate({"registry": "elsewhere", "prepare": {"limit": 3}})
    finish(tmp_path / "out", "baseline", resume=True, config=elsewhere)


def test_a_setting_that_the_version_which_began_a_run_did_not_have_is_its_default(tmp_path):
    interrupt(tmp_path / "out", "alternating")
    file = tmp_path / "out" / ".run.json"
    begun = json.loads(file.read_text())
    del begun["config"]["alternating"]["router_consistency_weight"]
    file.write_text(json.dumps(begun))
    joint = MoeConfig.model_validate({"alternating": {"router_consistency_weight": 1.0}})
    message = refusal(tmp_path / "out", "alternating", resume=True, config=joint)
    assert "begun with other settings: alternating.router_consistency_weight 0.0 -> 1.0" in message
    finish(tmp_path / "out", "alternating", resume=True)


def test_resuming_a_prepare_takes_the_new_settings_since_its_answers_name_theirs(tmp_path):
    interrupt(tmp_path / "out", "prepare")
    finish(tmp_path / "out", "prepare", resume=True, config=MoeConfig.model_validate({"prepare": {"limit": 3}}))
    assert finished_run(tmp_path / "out").manifest.config["prepare"]["limit"] == 3
    assert "limit: 3" in (tmp_path / "out" / "config.yaml").read_text()


@pytest.mark.parametrize("name", ["photo.jpg", ".hidden", "folder"])
def test_a_directory_with_foreign_files_is_refused_and_left_as_it_is(tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).mkdir() if name == "folder" else (tmp_path / "out" / name).write_bytes(b"mine")
    for resume in (False, True):
        assert "is not empty and is no run of moe" in refusal(tmp_path / "out", resume=resume)
    assert names(tmp_path / "out") == [name]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    for path in (tmp_path / "file", tmp_path / "file/below/it"):
        assert "file is a file" in refusal(path)


def test_a_run_that_fails_before_it_wrote_anything_leaves_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "there", tmp_path / "not/yet/there"):
        for fault in (RuntimeError, KeyboardInterrupt):
            with pytest.raises(fault), open_run(path, "prepare", CONFIG, resume=False):
                raise fault
    assert names(tmp_path) == ["there"]
    assert names(tmp_path / "there") == []


def test_the_hint_for_an_evaluation_names_its_own_option(tmp_path):
    finish(tmp_path / "out", "evaluation")
    assert "--output-name" in refusal(tmp_path / "out", "evaluation")
    assert "--output-dir" in refusal(tmp_path / "out", "prepare")


def test_a_crash_while_the_manifest_is_made_leaves_a_run_that_can_be_resumed(tmp_path, monkeypatch):
    from moe_cli.artifacts import run_directory

    def crash(_):
        raise OSError("power cut")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="power cut"):
        patch.setattr(run_directory, "sha256_of", crash)
        finish(tmp_path / "out")
    assert "interrupted run" in refusal(tmp_path / "out")
    finish(tmp_path / "out", resume=True)
    assert finished_run(tmp_path / "out").damaged() == ()


def test_a_crash_before_the_config_is_written_leaves_a_run_that_can_be_resumed(tmp_path):
    interrupt(tmp_path / "out")
    (tmp_path / "out" / layout.CONFIG).unlink()
    assert layout.CONFIG in finish(tmp_path / "out", resume=True).files


def test_only_the_kind_that_is_asked_for_is_given(tmp_path):
    finish(tmp_path / "out", "selective")
    assert finished_run(tmp_path / "out", "selective", "baseline").manifest.kind == "selective"
    with pytest.raises(ArtifactError, match="of kind selective, but prepare or evaluation is needed"):
        finished_run(tmp_path / "out", "prepare", "evaluation")


def test_nothing_where_nothing_is(tmp_path):
    assert kind_in(tmp_path / "none") is None
    with pytest.raises(ArtifactError, match="is no run directory"):
        finished_run(tmp_path / "none")


def test_a_manifest_of_another_schema_is_refused(tmp_path):
    finish(tmp_path / "out")
    file = tmp_path / "out" / layout.MANIFEST
    file.write_bytes(file.read_bytes().replace(b'"schema_version": 2', b'"schema_version": 3'))
    with pytest.raises(ArtifactError, match="schema version 3, but this moe reads 2"):
        finished_run(tmp_path / "out")


CONTENTS = {"summary.json": b'{"a": 1}', "final_model/weights.safetensors": bytes(range(64)), "masks.npy": b"masks"}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_truncated_flipped_or_missing_file_is_never_handed_out(tmp_path, name):
    finish(tmp_path / "out", contents=CONTENTS)
    run = finished_run(tmp_path / "out")
    assert run.damaged() == ()
    assert run.file(name).read_bytes() == CONTENTS[name]
    whole = CONTENTS[name]
    flipped = [bytes([*whole[:k], whole[k] ^ (1 << (k % 8)), *whole[k + 1 :]]) for k in range(len(whole))]
    for broken in (*flipped, *(whole[:k] for k in range(len(whole))), whole + b"\n"):
        (tmp_path / "out" / name).write_bytes(broken)
        assert run.damaged() == (name,)
        with pytest.raises(ArtifactError, match="changed since the run wrote it"):
            run.file(name)
    (tmp_path / "out" / name).unlink()
    assert run.damaged() == (name,)
    with pytest.raises(ArtifactError, match="has no file"):
        run.file(name)


def test_a_directory_is_handed_out_only_if_all_its_files_are_whole(tmp_path):
    finish(tmp_path / "out", contents=CONTENTS)
    run = finished_run(tmp_path / "out")
    assert run.directory("final_model") == tmp_path / "out/final_model"
    with pytest.raises(ArtifactError, match="has no directory final"):
        run.directory("final")
    (tmp_path / "out/final_model/weights.safetensors").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="changed since"):
        run.directory("final_model")


def test_a_file_that_the_manifest_does_not_know_is_not_handed_out(tmp_path):
    finish(tmp_path / "out")
    (tmp_path / "out/extra.json").write_bytes(b"{}")
    with pytest.raises(ArtifactError, match=r"has no file extra\.json"):
        finished_run(tmp_path / "out").file("extra.json")


def test_a_damaged_manifest_is_named(tmp_path):
    finish(tmp_path / "out")
    file = tmp_path / "out" / layout.MANIFEST
    file.write_bytes(file.read_bytes()[:-5])
    for read in (finished_run, kind_in):
        with pytest.raises(ArtifactError, match=r"manifest\.json: Manifest"):
            read(tmp_path / "out")


def test_an_evaluation_inside_a_run_does_not_break_the_run(tmp_path):
    finish(tmp_path / "out", "selective", CONTENTS)
    digest = finished_run(tmp_path / "out").digest
    inside = layout.evaluation_directory(tmp_path / "out", "tiny", "default")
    finish(inside, "evaluation", {"records.jsonl": b"{}\n"})
    run = finished_run(tmp_path / "out", "selective")
    assert (run.digest, run.damaged()) == (digest, ())
    assert finished_run(inside, "evaluation").damaged() == ()


def test_an_evaluation_inside_a_run_is_no_file_of_the_run(tmp_path):
    interrupt(tmp_path / "out", "selective")
    finish(layout.evaluation_directory(tmp_path / "out", "tiny", "default"), "evaluation")
    manifest = finish(tmp_path / "out", "selective", resume=True)
    assert set(manifest.files) == {"config.yaml", "summary.json", "work.jsonl"}


def test_the_manifest_is_read_back_equal_and_moves_with_its_directory(tmp_path):
    manifest = finish(tmp_path / "out", contents=CONTENTS)
    shutil.move(tmp_path / "out", tmp_path / "moved")
    data = (tmp_path / "moved" / layout.MANIFEST).read_bytes()
    assert decode(Manifest, data, source="memory") == manifest == finished_run(tmp_path / "moved").manifest
    assert finished_run(tmp_path / "moved").damaged() == ()
    assert encode(manifest, indent=True) == data


def _work_until_told(path, begun, told):
    with open_run(Path(path), "prepare", CONFIG, resume=False) as writer:
        begun.set()
        told.wait(30)
        writer.finish(writer.manifest(**FACTS))


def test_of_two_processes_exactly_one_writes(tmp_path):
    context = multiprocessing.get_context("fork")
    begun, told = context.Event(), context.Event()
    other = context.Process(target=_work_until_told, args=(str(tmp_path / "out"), begun, told))
    other.start()
    try:
        assert begun.wait(30)
        for resume in (False, True):
            message = refusal(tmp_path / "out", resume=resume, error=LockedError)
            assert "another run is writing to" in message and "wait for it" in message
    finally:
        told.set()
        other.join(30)
    assert other.exitcode == 0
    assert LockedError.exit_code == 6
    assert finished_run(tmp_path / "out").damaged() == ()


def test_a_killed_process_holds_no_lock_and_leaves_an_interrupted_run(tmp_path):
    context = multiprocessing.get_context("fork")
    begun, told = context.Event(), context.Event()
    other = context.Process(target=_work_until_told, args=(str(tmp_path / "out"), begun, told))
    other.start()
    assert begun.wait(30)
    os.kill(other.pid, signal.SIGKILL)
    other.join(30)
    assert "add --resume" in refusal(tmp_path / "out")
    finish(tmp_path / "out", resume=True)


def _try(path, start, outcomes):
    start.wait(30)
    try:
        with open_run(Path(path), "prepare", CONFIG, resume=True) as writer:
            outcomes.put("wrote")
            write_atomic(writer.path / "work", str(os.getpid()).encode())
            writer.finish(writer.manifest(**FACTS))
    except (LockedError, ArtifactError) as error:
        outcomes.put(type(error).__name__)


def test_processes_that_begin_at_the_same_moment_write_one_run(tmp_path):
    context = multiprocessing.get_context("fork")
    start, outcomes = context.Event(), context.SimpleQueue()
    others = [context.Process(target=_try, args=(str(tmp_path / "out"), start, outcomes)) for _ in range(8)]
    for other in others:
        other.start()
    start.set()
    found = [outcomes.get() for _ in others]
    for other in others:
        other.join(30)
    assert found.count("wrote") == 1
    assert set(found) <= {"wrote", "LockedError", "ArtifactError"}
    assert finished_run(tmp_path / "out").damaged() == ()


def test_a_run_that_was_killed_in_its_first_write_can_be_begun_again(tmp_path):
    for resume, name in ((False, "one"), (True, "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "..run.json.0badcafe").write_bytes(b"{")
        finish(tmp_path / name, resume=resume)
        assert names(tmp_path / name) == ["config.yaml", "manifest.json", "summary.json"]


def test_temporary_files_of_a_killed_run_are_gone_when_it_is_complete(tmp_path):
    interrupt(tmp_path / "out")
    (tmp_path / "out/final_model").mkdir()
    for left in (
        ".summary.json.6553a8d4",
        "final_model/.config.json.0badcafe",
        ".delta.partial/x",
        ".checkpoint-3.partial/y",
    ):
        (tmp_path / "out" / left).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / left).write_bytes(b"half")
    mine = tmp_path / "out/evaluations/default/.records.jsonl.0badcafe"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"of an evaluation that is written at this moment")
    finish(tmp_path / "out", resume=True)
    left = [str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(left) == [
        "config.yaml",
        str(mine.relative_to(tmp_path / "out")),
        "manifest.json",
        "summary.json",
        "work.jsonl",
    ]


def test_a_file_of_a_person_is_never_taken_for_a_temporary_one(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.thesis.deadbeef").write_bytes(b"mine")
    assert "is not empty and is no run of moe" in refusal(tmp_path / "out", resume=True)
    assert (tmp_path / "out/.thesis.deadbeef").read_bytes() == b"mine"
