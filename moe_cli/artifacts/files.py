"""Files that are written atomically, read with errors that name them, and compared with their checksums.

A reader never sees half a file. A partial last line of an append-only file, left by a crash, is dropped before the next
one is written. A directory can be sealed with checksums: a changed, cut, missing or added file is found, the checksum
file included.

A digest says that a file is unchanged, not that a run of this program wrote it: arrays of other shapes, tables without
a column and checkpoints of another optimizer can come with digests that match.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from moe_cli.activity import begin_activity
from moe_cli.codec import AGAIN, decode_file, encode
from moe_cli.errors import ArtifactError, MoeError, first_line

CHUNK_BYTES = 1 << 22
TEMPORARY = re.compile(r"\.(.+)\.(?:[0-9a-f]{8}|partial)", re.DOTALL)  # of a file or directory that becomes \1
NO_SYNC_OF_NAMES = (errno.EINVAL, errno.ENOTSUP)  # of file systems that bring the names to disk by themselves
SEAL = "digests.json"
Digests = dict[str, str]  # name -> sha256; the one of the seal is over all others


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write `data`, whole or piece by piece, to `path` atomically; on any error the old content stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with _naming(path), temporary.open("xb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path for libraries that write files themselves, renamed to `path` when the block succeeds."""
    staging = path.with_name(f".{path.name}.partial")  # a directory: libraries have temporary files of their own
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging / path.name
        sync_to_disk(staging / path.name)
        (staging / path.name).replace(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _sync(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A staging directory, renamed to `path` when the block succeeds; an older `path` is replaced."""
    staging = path.with_name(f".{path.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        sync_to_disk(staging)
        if path.exists():
            shutil.rmtree(path)
        staging.replace(path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _sync(path.parent)


def is_temporary(entry: Path, *, of: str | None = None) -> bool:
    """Whether it is a temporary of one of the functions above, left by a killed process; `of` names its target."""
    match = TEMPORARY.fullmatch(entry.name)
    return match is not None and of in (None, match[1])


def drop_temporaries(directory: Path, *, of: str | None = None) -> None:
    """Remove the temporaries of killed processes, in a directory or for a file that nobody else writes to."""
    for entry in directory.iterdir():
        if is_temporary(entry, of=of):
            remove(entry)


def remove(entry: Path) -> None:
    """Remove a file, a directory with its content, or a link (not its target); a missing path is no error."""
    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Flush a file, or a directory with its content, to disk, with the permissions of the user's umask."""
    for entry in (path, *path.rglob("*")):
        _share(entry)
        _sync(entry)


def _share(entry: Path) -> None:
    """Give a file the permissions of the user's umask; safetensors makes files that only the owner can read."""
    umask = os.umask(0)
    os.umask(umask)
    if entry.is_file():
        entry.chmod(0o666 & ~umask)


def append_lines(path: Path, lines: bytes) -> None:
    """Append whole lines, each with a newline, and flush them to disk."""
    with _naming(path), path.open("ab") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def write_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write one array as `.npy`, atomically and without pickle."""
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    write_atomic(path, data.getvalue())


class RowFile:
    """An array in a temporary file without a name, whose rows are written in any order; 0 where none was written.

    The system frees the file as soon as nobody holds it, even if the process is killed. Memory holds what is read last.
    """

    def __init__(self, directory: Path | None, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """`directory` has room for the array; None: the system's for temporary files."""
        self._directory = directory or Path(tempfile.gettempdir())
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115, as the array outlives every block
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._row_bytes = prod(shape[1:]) * self._dtype.itemsize
        self._file.truncate(shape[0] * self._row_bytes)

    def write(self, rows: Sequence[int], values: NDArray[np.generic]) -> None:
        """Write one row of values for each index.

        Raises:
            OverflowError: a value is not the same in the array's type.
        """
        stored = values.astype(self._dtype)
        if stored.dtype != values.dtype and not np.array_equal(stored, values):
            raise OverflowError(f"a value of {values.dtype} is not the same as {self._dtype}")
        with _naming(self._directory):
            for row, value in zip(rows, stored, strict=True):
                self._file.seek(row * self._row_bytes)
                self._file.write(value.tobytes())

    def array(self) -> NDArray[Any]:
        """The whole array, read-only, which the system reads from the file page by page."""
        with _naming(self._directory):
            self._file.flush()
            os.fsync(self._file.fileno())  # some file systems tell only now that they are full
        if not prod(self._shape):
            return np.zeros(self._shape, self._dtype)
        return np.asarray(np.memmap(self._file, self._dtype, "r", shape=self._shape))


def drop_partial_line(path: Path) -> None:
    """Cut off a last line without a newline, which a crash left."""
    if not path.is_file():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        write_atomic(path, data[:whole])


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        begin_activity(f"hashing {path.name}", total=path.stat().st_size, unit="bytes") as hashing,
    ):
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            hashing.advance(len(chunk))
    return digest.hexdigest()


def is_there(path: Path) -> bool:
    """Whether something has this path, a dangling link included.

    Raises:
        OSError: the path is invalid: too long, or with a link that leads to itself.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the file's name to system errors; those of an open file, such as a full disk, name none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to disk, as far as the system supports it."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno in NO_SYNC_OF_NAMES):
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(handle)


@contextmanager
def naming_file(file: Path, *, hint: str = AGAIN) -> Iterator[None]:
    """Turn errors inside the block into one that names `file`; the block should only read and interpret that file.

    Raises:
        ArtifactError: a library, or the code in the block, found something else than expected.
    """
    try:
        yield
    except (MoeError, OSError, MemoryError):
        raise
    except Exception as error:
        reason = first_line(error)
        raise ArtifactError(f"{file} does not hold what it should: {reason}", hint=hint) from error


def write_checksums(directory: Path) -> None:
    """Write the digests of all files in the directory and below it."""
    digests = {name: sha256_of(directory / name) for name in _names_of_files(directory)}
    (directory / SEAL).write_bytes(encode({**digests, SEAL: _digest_of(digests)}))


def check_checksums(directory: Path, *, hint: str) -> None:
    """Compare every file with its digest; `hint` says what to do about a damaged one.

    Raises:
        ArtifactError: a file is changed, cut, missing or added.
    """
    expected = _read(directory, hint)
    present = {*_names_of_files(directory)} - {SEAL}
    for name in sorted(present | expected.keys()):
        file = directory / name
        if name not in expected:
            raise ArtifactError(f"{file} does not belong there (it is not in {SEAL})", hint=hint)
        if not file.is_file():
            raise ArtifactError(f"{file} is missing", hint=hint)
        if sha256_of(file) != expected[name]:
            raise ArtifactError(f"{file} is damaged (its sha256 is not the recorded one)", hint=hint)


def _names_of_files(directory: Path) -> list[str]:
    return sorted(file.relative_to(directory).as_posix() for file in directory.rglob("*") if not file.is_dir())


def _read(directory: Path, hint: str) -> Digests:
    """The recorded digests of the other files."""
    file = directory / SEAL
    if not file.is_file():
        raise ArtifactError(f"{file} is missing", hint=hint)
    try:
        digests = decode_file(Digests, file)
    except ArtifactError as error:  # the same fault, but nobody can make this file again
        raise ArtifactError(f"{file} is damaged (it is no list of digests)", hint=hint) from error
    own = digests.pop(SEAL, None)
    if own != _digest_of(digests):
        raise ArtifactError(f"{file} is damaged (its digests are not the written ones)", hint=hint)
    return digests


def _digest_of(digests: Mapping[str, str]) -> str:
    return sha256(encode(dict(digests))).hexdigest()
