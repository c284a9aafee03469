"""An append-only file of records, so that long work can go on where it stopped.

Comes in: records, as they are made. Goes out: all records written so far. Always holds: a record is on disk before the
next one begins; a last line that a crash cut short is dropped and its work done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from moe_cli.artifacts.files import append_lines, drop_torn_line
from moe_cli.codec import decode_lines, encode_lines
from moe_cli.errors import StoppedError

Record = TypeVar("Record")


@contextmanager
def resumable(journal: Path) -> Iterator[None]:
    """Inside the block Ctrl-C says that `--resume` goes on, if the journal holds anything to go on from.

    Raises:
        StoppedError: interrupted, and the work in the journal is kept.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not (journal.is_file() and journal.stat().st_size):
            raise
        raise StoppedError(
            f"interrupted; the answers so far are kept in {journal.parent}",
            hint="run the same command with --resume to go on",
        ) from interrupt


class Journal(Generic[Record]):
    """Records of one type in one JSON Lines file."""

    def __init__(self, path: Path, record_type: type[Record]) -> None:
        drop_torn_line(path)
        self.path = path
        self.record_type = record_type

    def records(self) -> list[Record]:
        """All records written so far, in order."""
        return list(decode_lines(self.record_type, self.path)) if self.path.is_file() else []

    def append(self, records: Iterable[Record]) -> None:
        """Write records and bring them to disk."""
        append_lines(self.path, encode_lines(records))
