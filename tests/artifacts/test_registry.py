"""Many processes add at once and nothing is lost; later commands find earlier runs."""

import errno
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from moe_cli.artifacts import (
    RunWriter,
    Store,
    finished_run,
    layout,
    open_run,
    registry,
    registry_path,
    run_directory,
    state_of,
)
from moe_cli.artifacts.files import write_atomic
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError

CONFIG = MoeConfig()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "registry")


def add(store, path, kind="prepare", fingerprint="a" * 64):
    with open_run(path, kind, CONFIG, resume=False) as writer:
        writer.parents["prepare"] = "d" * 64
        return store.add(writer, base_fingerprint=fingerprint, model_name="tiny", device="cpu")


def test_a_registered_run_is_found_with_what_it_is(store, tmp_path):
    record = add(store, tmp_path / "out", "selective")
    assert store.records() == store.records("selective") == (record,)
    assert store.records("baseline") == ()
    assert store.record(record.id) == record
    assert (record.kind, record.path, record.parents) == ("selective", str(tmp_path / "out"), {"prepare": "d" * 64})
    assert state_of(record) == "complete"


def test_an_empty_registry_has_no_runs(store):
    assert store.records() == ()
    assert store.newest("prepare") is None
    with pytest.raises(ArtifactError, match="no run has the id x"):
        store.record("x")


def _add_many(registry, directory, process, count):
    for number in range(count):
        add(Store(Path(registry)), Path(directory) / f"{process}-{number}")


def test_eight_processes_adding_a_hundred_runs_each_lose_none(store, tmp_path, monkeypatch):
    # Inherited by the processes. What is lost does not depend on these, and they take long.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(run_directory, "dump_yaml", lambda _: "seed: 42\n")
    monkeypatch.setattr(run_directory, "version", lambda _: "1.0")
    context = multiprocessing.get_context("fork")
    arguments = (str(store.registry), str(tmp_path / "runs"))
    writers = [context.Process(target=_add_many, args=(*arguments, process, 100)) for process in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 8
    records = store.records()
    assert len(records) == len({record.id for record in records}) == 800
    assert {Path(record.path).name for record in records} == {f"{p}-{n}" for p in range(8) for n in range(100)}
    assert list(records) == sorted(records, key=lambda record: (record.finished, record.id))
    assert all(file.suffix == ".json" for file in store.registry.iterdir())


def test_the_newest_run_is_of_the_kind_and_the_model_asked_for(store, tmp_path):
    add(store, tmp_path / "a1", fingerprint="a" * 64)
    add(store, tmp_path / "b1", fingerprint="b" * 64)
    add(store, tmp_path / "a2", fingerprint="a" * 64)
    add(store, tmp_path / "s", "selective", fingerprint="b" * 64)
    assert store.newest("prepare").path == tmp_path / "a2"
    assert store.newest("prepare", base_fingerprint="b" * 64).path == tmp_path / "b1"
    assert store.newest("prepare", base_fingerprint="c" * 64) is None
    assert store.newest("selective", "prepare").path == tmp_path / "s"


def test_a_run_that_is_gone_or_changed_is_shown_as_such_and_never_chosen(store, tmp_path):
    first, gone, changed = (add(store, tmp_path / name) for name in ("first", "gone", "changed"))
    shutil.rmtree(tmp_path / "gone")
    manifest = tmp_path / "changed" / layout.MANIFEST
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert [state_of(record) for record in (first, gone, changed)] == ["complete", "gone", "changed"]
    assert store.newest("prepare").path == tmp_path / "first"


def test_a_run_made_again_in_the_same_place_is_another_run(store, tmp_path):
    before = add(store, tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    after = add(store, tmp_path / "out")
    assert [state_of(record) for record in (before, after)] == ["changed", "complete"]


def test_an_id_may_be_shortened_as_long_as_one_run_has_it(store, tmp_path):
    ids = sorted(add(store, tmp_path / name).id for name in ("a", "b"))
    other = add(store, tmp_path / "c", "baseline")
    assert store.record("base") == store.record(other.id[:-1]) == other
    with pytest.raises(ArtifactError, match="2 runs have an id that begins with prepare"):
        store.record("prepare")
    data = (store.registry / f"{ids[0]}.json").read_bytes().replace(ids[0].encode(), f"{ids[0]}0d".encode())
    write_atomic(store.registry / f"{ids[0]}0d.json", data)
    assert store.record(ids[0]).id == ids[0]  # a whole id is never ambiguous


def test_a_run_that_came_from_elsewhere_can_be_registered_and_is_the_same_run(store, tmp_path):
    record = add(store, tmp_path / "out")
    shutil.move(tmp_path / "out", tmp_path / "moved")
    assert (state_of(record), store.newest("prepare")) == ("gone", None)
    again = store.register(finished_run(tmp_path / "moved"))
    assert (again.id, again.manifest_digest) == (record.id, record.manifest_digest)
    assert store.records() == (again,)
    assert store.newest("prepare").path == tmp_path / "moved"


def test_forgetting_removes_the_record_and_keeps_the_run(store, tmp_path):
    record, other = add(store, tmp_path / "out"), add(store, tmp_path / "other")
    store.forget(record)
    assert store.records() == (other,)
    assert (tmp_path / "out" / layout.MANIFEST).is_file()


def test_a_damaged_record_names_its_file(store, tmp_path):
    record = add(store, tmp_path / "out")
    file = store.registry / f"{record.id}.json"
    for broken in (file.read_bytes()[:-9], b"", file.read_bytes().replace(b'"kind"', b'"sort"')):
        file.write_bytes(broken)
        with pytest.raises(ArtifactError, match=record.id):
            store.records()


def test_files_that_are_no_records_are_left_alone(store, tmp_path):
    record = add(store, tmp_path / "out")
    (store.registry / ".half.json.1a2b3c4d").write_bytes(b"{")
    (store.registry / "README.txt").write_bytes(b"mine")
    assert store.records() == (record,)


def test_the_registry_is_in_the_nearest_directory_above_that_has_one(tmp_path):
    deep = tmp_path / "a/b/c"
    deep.mkdir(parents=True)
    assert registry_path(None, deep) == deep / ".moe/registry"
    (tmp_path / ".moe").mkdir()
    assert registry_path(None, deep) == tmp_path / ".moe/registry"
    (tmp_path / "a/b/.moe").mkdir()
    assert registry_path(None, deep) == tmp_path / "a/b/.moe/registry"
    assert registry_path(Path("elsewhere"), deep) == Path("elsewhere")


def test_a_crash_between_the_record_and_the_manifest_leaves_a_run_that_can_be_resumed(store, tmp_path, monkeypatch):
    facts = {"base_fingerprint": None, "model_name": None, "device": "cpu"}
    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "finish", lambda *_: (_ for _ in ()).throw(RuntimeError("power cut")))
        with pytest.raises(RuntimeError), open_run(tmp_path / "out", "prepare", CONFIG, resume=False) as writer:
            write_atomic(tmp_path / "out" / "work.jsonl", b"some work")
            store.add(writer, **facts)
    (record,) = store.records()
    assert state_of(record) == "interrupted"
    assert store.newest("prepare") is None
    with open_run(tmp_path / "out", "prepare", CONFIG, resume=True) as writer:
        store.add(writer, **facts)
    (again,) = store.records()
    assert (again.id, state_of(again)) == (record.id, "complete")


def test_a_record_that_cannot_be_written_leaves_a_run_that_can_be_resumed(store, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(registry, "write_atomic", full)
        with pytest.raises(OSError), open_run(tmp_path / "out", "prepare", CONFIG, resume=False) as writer:
            write_atomic(tmp_path / "out" / "work.jsonl", b"some work")
            store.add(writer, base_fingerprint=None, model_name=None, device="cpu")
    assert not (tmp_path / "out" / layout.MANIFEST).exists()
    with open_run(tmp_path / "out", "prepare", CONFIG, resume=True) as writer:
        assert writer.resumed
