"""Files and directories are whole or absent, whatever goes wrong in between."""

import errno
import os
import stat
import types

import numpy as np
import pytest

from moe_cli.artifacts import files
from moe_cli.artifacts.files import (
    RowFile,
    append_lines,
    atomic_directory,
    atomic_file,
    drop_partial_line,
    sha256_of,
    write_array,
)
from moe_cli.artifacts.files import write_atomic as write


class Interruption(BaseException):
    """Neither an error nor caught by anyone."""


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_written_with_its_directories(tmp_path):
    write(tmp_path / "a/b/c.json", b"new")
    assert (tmp_path / "a/b/c.json").read_bytes() == b"new"
    assert names(tmp_path / "a/b") == ["c.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "no space"), Interruption()], ids=["full disk", "interrupted"])
def test_a_write_that_fails_keeps_the_old_content_and_leaves_nothing_behind(tmp_path, monkeypatch, step, fault):
    file = tmp_path / "c.json"
    write(file, b"old")

    def fail(*_):
        raise fault

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (files.Path, "replace")), fail)
    with pytest.raises(type(fault)):
        write(file, b"new")
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["c.json"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_syncs_no_directory_is_no_fault_and_another_error_names_it(tmp_path, monkeypatch, number):
    fsync = os.fsync

    def of_files_alone(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", of_files_alone)
    if number == errno.EIO:
        with pytest.raises(OSError, match=str(tmp_path)):
            write(tmp_path / "c.json", b"new")
        return
    write(tmp_path / "c.json", b"new")
    with atomic_directory(tmp_path / "e") as staging:
        (staging / "f").write_bytes(b"x")
    assert names(tmp_path) == ["c.json", "e"]


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, files.Path.replace

    def noted_fsync(handle):
        done.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def noted_replace(path, target):
        done.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(files.Path, "replace", noted_replace)
    write(tmp_path / "c.json", b"new")
    assert done == ["file", "rename", "directory"]
    done.clear()
    with atomic_file(tmp_path / "d.bin") as temporary:
        temporary.write_bytes(b"x")
    assert done == ["file", "rename", "directory"]
    done.clear()
    with atomic_directory(tmp_path / "e") as staging:
        (staging / "f").write_bytes(b"x")
    assert done == ["directory", "file", "rename", "directory"]


def test_the_mode_of_a_file_follows_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        write(tmp_path / "private", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


@pytest.mark.parametrize("fault", [RuntimeError("library"), Interruption()], ids=["error", "interrupted"])
def test_a_library_that_fails_leaves_no_file_and_keeps_the_old_one(tmp_path, fault):
    (tmp_path / "old.bin").write_bytes(b"old")
    for name in ("old.bin", "new.bin"):
        with pytest.raises(type(fault)), atomic_file(tmp_path / name) as temporary:
            temporary.write_bytes(b"half")
            raise fault
    assert names(tmp_path) == ["old.bin"]
    assert (tmp_path / "old.bin").read_bytes() == b"old"


@pytest.mark.parametrize("fault", [RuntimeError("library"), Interruption()], ids=["error", "interrupted"])
def test_a_directory_that_fails_leaves_nothing_and_keeps_the_old_one(tmp_path, fault):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/kept").write_bytes(b"old")
    for name in ("old", "new"):
        with pytest.raises(type(fault)), atomic_directory(tmp_path / name) as staging:
            (staging / "half").write_bytes(b"half")
            raise fault
    assert names(tmp_path) == ["old"]
    assert names(tmp_path / "old") == ["kept"]


def test_a_directory_replaces_the_old_one_wholly(tmp_path):
    for content in ("one", "two"):
        with atomic_directory(tmp_path / "model") as staging:
            (staging / "deep").mkdir()
            (staging / "deep" / content).write_bytes(b"x")
    assert names(tmp_path) == ["model"]
    assert names(tmp_path / "model/deep") == ["two"]


def test_what_a_killed_process_left_is_not_taken_over(tmp_path):
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial/half").write_bytes(b"half")
    with atomic_directory(tmp_path / "model") as staging:
        (staging / "whole").write_bytes(b"x")
    assert names(tmp_path / "model") == ["whole"]


@pytest.mark.parametrize("data", [b"", b"one\n", b"one\ntwo\n"])
def test_whole_lines_are_left_alone(tmp_path, data):
    file = tmp_path / "lines"
    file.write_bytes(data)
    drop_partial_line(file)
    assert file.read_bytes() == data


@pytest.mark.parametrize(("data", "kept"), [(b"half", b""), (b"one\nhal", b"one\n"), (b"one\ntwo\n{", b"one\ntwo\n")])
def test_a_torn_last_line_is_dropped(tmp_path, data, kept):
    file = tmp_path / "lines"
    file.write_bytes(data)
    drop_partial_line(file)
    assert file.read_bytes() == kept


def test_dropping_makes_no_file(tmp_path):
    drop_partial_line(tmp_path / "none")
    assert names(tmp_path) == []


def test_lines_are_appended(tmp_path):
    append_lines(tmp_path / "lines", b"one\n")
    append_lines(tmp_path / "lines", b"two\nthree\n")
    assert (tmp_path / "lines").read_bytes() == b"one\ntwo\nthree\n"


def test_arrays_are_read_back_equal_and_never_pickled(tmp_path):
    masks = np.arange(12).reshape(3, 4) % 2 == 0
    write_array(tmp_path / "masks.npy", masks)
    assert np.array_equal(np.load(tmp_path / "masks.npy", allow_pickle=False), masks)
    with pytest.raises(ValueError, match="allow_pickle"):
        write_array(tmp_path / "objects.npy", np.array([object()]))
    assert names(tmp_path) == ["masks.npy"]


def test_rows_are_written_in_any_order_to_a_file_that_has_no_name(tmp_path):
    expected = np.random.default_rng(0).integers(0, 99, size=(7, 2, 3))
    rows = RowFile(tmp_path, (7, 2, 3), np.int32)
    for some in ([6, 0, 3], [5], [1, 2]):
        rows.write(some, expected[some])
    expected[4] = 0  # of no row that was written
    array = rows.array()
    del rows
    assert np.array_equal(array, expected) and array.dtype == np.int32
    assert names(tmp_path) == []
    assert RowFile(tmp_path, (0, 2), np.float64).array().shape == (0, 2)


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**32])
def test_a_number_that_the_type_of_the_rows_does_not_hold_is_refused_and_never_wrapped(tmp_path, number):
    rows = RowFile(tmp_path, (2, 1), np.int32)
    rows.write([0], np.array([[2**31 - 1]]))
    with pytest.raises(OverflowError, match="int64 is not the same as int32"):
        rows.write([1], np.array([[number]]))
    assert rows.array().tolist() == [[2**31 - 1], [0]]


def test_a_full_disk_is_told_with_the_directory_of_the_rows(tmp_path, monkeypatch):
    rows = RowFile(tmp_path, (2, 1), np.int32)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rows, "_file", types.SimpleNamespace(seek=lambda _: None, write=full))
    with pytest.raises(OSError, match=tmp_path.name) as caught:
        rows.write([0], np.array([[1]]))
    assert caught.value.errno == errno.ENOSPC


def test_the_digest_is_that_of_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_files_that_a_library_wrote_for_the_owner_alone_get_the_rights_of_the_umask(tmp_path):
    with atomic_file(tmp_path / "one") as temporary:
        temporary.touch(mode=0o600)
    with atomic_directory(tmp_path / "many") as staging:
        (staging / "two").touch(mode=0o600)
    plain = tmp_path / "plain"
    plain.touch()
    for file in (tmp_path / "one", tmp_path / "many" / "two"):
        assert file.stat().st_mode == plain.stat().st_mode
