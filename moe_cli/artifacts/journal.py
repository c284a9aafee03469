"""Journal files: records appended line by line, so that long work can be resumed.

Records are on disk before the next ones are made; a partial last line after a crash is dropped, and its work repeated.
Of several processes each has a journal of its own beside the one in whose place it stands.

Ctrl-C and the signals by which schedulers stop a job become an error that says what was kept. Outside the main thread
no handler is changed; the old handlers are always restored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Generic, TypeVar

from moe_cli.artifacts.files import append_lines, drop_partial_line
from moe_cli.codec import decode_lines, encode_lines
from moe_cli.errors import StoppedError
from moe_cli.signals import stop_signals_interrupt

Record = TypeVar("Record")

ANSWERS, VERDICTS = ".answers-*.jsonl", ".verdicts-*.jsonl"
LIMITED = re.compile(r"-(\d+)(-kept)?(\.rank\d+-of-\d+)?\.jsonl$")


def answer_journal(run: Path, *whose: object, limit: int, kept: bool = False) -> Path:
    """Path of the answers of an unfinished run: hidden, so that it is no part of the finished run.

    `whose` is what the answers depend on (model, prompts, settings) beside `limit`, the token limit: when it changes,
    old answers are not found. `kept` names those reused from other limits.
    """
    return run / f".answers-{settings_digest_of(*whose)}-{limit}{'-kept' if kept else ''}.jsonl"


def other_answer_journals(run: Path, *whose: object, limit: int) -> dict[Path, int]:
    """The journals of the same answers under other limits, with these limits in ascending order."""
    matches = ((path, LIMITED.search(path.name)) for path in run.glob(f".answers-{settings_digest_of(*whose)}-*.jsonl"))
    limits = {path: int(match[1]) for path, match in matches if match}
    others = sorted(path for path in limits if limits[path] != limit)
    return {path: limits[path] for path in sorted(others, key=limits.__getitem__)}


def own_journal(path: Path, index: int, total: int) -> Path:
    """Where the process `index` of `total` writes, `answers-24.rank0-of-2.jsonl`: `path` itself where it is alone."""
    return path if total == 1 else path.with_name(f"{path.stem}.rank{index}-of-{total}.jsonl")


def journals_in_place_of(path: Path) -> list[Path]:
    """The journals that several processes left, however many they were."""
    return sorted(path.parent.glob(f"{path.stem}.rank*-of-*.jsonl"))


def verdict_journal(run: Path, *whose: object) -> Path:
    """Path of the verdicts of an unfinished run; `whose` identifies the judge."""
    return run / f".{journal_name('verdicts', *whose)}"


def journal_name(what: str, *whose: object) -> str:
    """A name such as `answers-0123456789abcdef.jsonl`, which is the same if all that the records depend on is."""
    return f"{what}-{settings_digest_of(*whose)}.jsonl"


def settings_digest_of(*whose: object) -> str:
    """16 hexadecimal digits that change with everything in `whose`."""
    return sha256(repr(whose).encode()).hexdigest()[:16]


def drop_journals(run: Path) -> None:
    """Remove the journals, which only an unfinished run needs."""
    for journal in (*run.glob(ANSWERS), *run.glob(VERDICTS)):
        journal.unlink()


class Journal(Generic[Record]):
    """Records of one type in one JSON Lines file."""

    def __init__(self, path: Path, record_type: type[Record]) -> None:
        drop_partial_line(path)
        self.path = path
        self.record_type = record_type

    def records(self) -> list[Record]:
        """All records written so far, in order."""
        return list(decode_lines(self.record_type, self.path)) if self.path.is_file() else []

    def append(self, records: Iterable[Record]) -> None:
        """Append records and flush them to disk."""
        append_lines(self.path, encode_lines(records))


@contextmanager
def resumable(run: Path, kept: str) -> Iterator[None]:
    """Let an interruption of the block say that `--resume` continues, if anything in `run` matches the pattern `kept`.

    Raises:
        StoppedError: interrupted, and there is something to resume from.
        KeyboardInterrupt: interrupted, and there is nothing.
    """
    try:
        with stop_signals_interrupt():
            yield
    except KeyboardInterrupt as interrupt:
        if not any(path.is_dir() or path.stat().st_size for path in run.glob(kept)):
            raise
        raise StoppedError(
            f"interrupted; the work so far is kept in {run}",
            hint="run the same command with --resume to go on",
        ) from interrupt
