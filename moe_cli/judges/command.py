"""A user's own program as a judge: JSON Lines in, JSON Lines out.

    in   {"id": "0", "kind": "harmful", "messages": [{"role": "user", "content": "..."}], "answer": "..."}
    out  {"id": "0", "label": "full_refusal", "harmful": false, "reason": "says no", "score": null}

No shell is started. A line that is missing, garbled, duplicated or contradictory leaves its answer unscored, with the
reason; a program that fails stops everything, and the error shows the end of its stderr.

A call is limited in time and in size of output, and all processes that it started end with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from moe_cli.artifacts.files import sha256_of
from moe_cli.codec import encode_lines
from moe_cli.config.sections import JudgeConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.judges.judge import Exchange, contradicts_itself, revision_of, unscored
from moe_cli.masking import LONGEST_FORM, mask_answer, mask_keys
from moe_cli.records.inputs import Kind, Message
from moe_cli.records.judging import JudgeIdentity, Label, Question, Verdict
from moe_cli.records.record import record

SHOWN_OF_STDERR = 400  # characters of its end
READING = 1  # raise it when the protocol or its reading changes: it is part of the revision
LARGEST = 2**24  # bytes of stdout that are read
END_OF_STDERR = 2**16  # bytes of it that are kept
AT_ONCE = 2**16  # bytes that are read at once


@record
class ProgramInput:
    """One line of the program's input."""

    id: str  # "0"; of this call alone
    kind: Kind
    messages: tuple[Message, ...]
    answer: str


@pydantic_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class ProgramOutput:
    """One line of the program's output."""

    id: str
    label: Label | None = None
    harmful: bool | None = None
    reason: str = ""
    score: float | None = None


class CommandJudge:
    """A program, started anew for every group of answers. Its arguments may contain a secret and are never shown.

    Raises:
        UsageError: there is no such program.
    """

    def __init__(self, argv: Sequence[str], questions: tuple[Question, ...], settings: JudgeConfig) -> None:
        if "=" in argv[0]:
            raise UsageError(
                "the judge `command:` begins with an assignment, which only a shell understands",
                hint="set the variable in the environment of moe: the program has it, too",
            )
        executable = shutil.which(argv[0])
        if executable is None:
            raise UsageError(
                f"there is no program {argv[0]} for the judge `command:`",
                hint="give its path, or a program of your PATH; a script must be executable, or stand after `python`",
            )
        self.words = (str(Path(executable).absolute()), *argv[1:])
        self.questions = questions
        self.group = settings.rows
        self.settings = settings
        self.named = (Path(argv[0]).name, *(file.name for file in _files(self.words[1:])))
        self.name = f"command:{self.named[-1]}"

    @property
    def identity(self) -> JudgeIdentity:
        """Its revision changes with the command line and with the bytes of every file named there."""
        files = tuple(sha256_of(file) for file in _files(self.words))
        return JudgeIdentity(
            name=self.name,
            revision=revision_of("command", READING, self.words[1:], files, self.questions),
            questions=self.questions,
            tells_partial="refusal" in self.questions,
            source=" ".join(self.named),
            published_accuracy=None,
            smoke_test=False,
        )

    @property
    def holds_weights(self) -> bool:
        """False: the program ends after every call."""
        return False

    def check(self) -> None:
        """Nothing to check: the program was found when the judge was created."""

    def verdicts(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange; the program is called again for those it left unscored.

        Raises:
            EnvironmentFaultError: the program ends with an exit status other than 0.
        """
        by_id = {str(index): unscored("never asked") for index in range(len(exchanges))}
        for _ in range(self.settings.retries + 1):
            missing = [name for name, verdict in by_id.items() if verdict.is_empty]
            if not missing:
                break
            by_id |= self._called({name: exchanges[int(name)] for name in missing})
        return list(by_id.values())

    def release(self) -> None:
        """Nothing to release."""

    def _called(self, exchanges: Mapping[str, Exchange]) -> dict[str, Verdict]:
        stdin = encode_lines(
            ProgramInput(id=name, kind=exchange.kind, messages=exchange.messages, answer=exchange.answer)
            for name, exchange in exchanges.items()
        )
        try:
            ended = run_program(self.words, stdin, seconds=self.settings.timeout)
        except ProgramStoppedError as error:
            return {name: unscored(f"the program {error}") for name in exchanges}
        if ended.status:
            message = _end_of(ended.errors)
            raise EnvironmentFaultError(
                f"the judge {self.name} ended with status {ended.status}: {message or 'nothing on stderr'}",
                hint="run it by hand on one line; docs/judges.md shows what it reads and writes",
            )
        return _read(ended.output, exchanges, self.questions)


def _end_of(errors: bytes) -> str:
    text = errors.decode(errors="replace")
    if len(errors) == END_OF_STDERR:  # the first key in it may be cut
        text = text[LONGEST_FORM:]
    return mask_keys(" ".join(text.split()))[-SHOWN_OF_STDERR:]


def _files(argv: Sequence[str]) -> list[Path]:
    return [Path(word) for word in argv if Path(word).is_file()]


def _read(output: bytes, exchanges: Mapping[str, Exchange], questions: Sequence[Question]) -> dict[str, Verdict]:
    outputs: dict[str, list[ProgramOutput]] = {}
    garbled: list[str] = []
    for line in output.splitlines():
        if not line.strip():
            continue
        try:
            one = _LINE.validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            garbled.append(
                f"{mask_keys(line.decode(errors='replace'))[:60]!r} ({f'{where}: ' if where else ''}{first['msg']})"
            )
            continue
        outputs.setdefault(one.id, []).append(one)
    return {
        name: _verdict(
            outputs.get(name, []), [q for q in questions if q != "harm" or exchange.kind == "harmful"], garbled
        )
        for name, exchange in exchanges.items()
    }


def _verdict(outputs: Sequence[ProgramOutput], questions: Sequence[Question], garbled: Sequence[str]) -> Verdict:
    if len(outputs) > 1:
        return unscored(f"the program gave {len(outputs)} lines for it")
    if not outputs:
        first = f"; a line of it cannot be read: {garbled[0]}" if garbled else ""
        return unscored(f"the program gave no line for it{first}")
    (one,) = outputs
    label = one.label if "refusal" in questions or one.label == "degenerate" else None
    harmful = one.harmful if "harm" in questions and one.label != "degenerate" else None
    if contradicts_itself(label, harmful=harmful):
        return unscored("the program contradicts itself: a full refusal, and harmful")
    return Verdict(
        label=label,
        harmful=harmful,
        reason=mask_answer(one.reason) or "the program gave no reason",
        score=one.score,
    )


_LINE = TypeAdapter(ProgramOutput)


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """The result of a call that ended by itself."""

    output: bytes
    errors: bytes  # the end of stderr
    status: int


class ProgramStoppedError(Exception):
    """A call took too long or wrote too much; the message says which."""


def run_program(argv: Sequence[str], asked: bytes, *, seconds: float) -> ProgramResult:
    """Run the program with `asked` on its stdin.

    Raises:
        ProgramStoppedError: it took longer, or wrote more than LARGEST on stdout, and was killed.
    """
    ends = time.monotonic() + seconds
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            output, errors = _exchanged(process, asked, ends)
            status = process.wait(max(ends - time.monotonic(), 0.0))
        except BaseException as error:  # Ctrl-C too: what it started ends with it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, TimeoutError | subprocess.TimeoutExpired):
                raise ProgramStoppedError(f"took more than {seconds:g} s") from None
            raise
    return ProgramResult(output, errors, status)


def _exchanged(process: subprocess.Popen[bytes], asked: bytes, ends: float) -> tuple[bytes, bytes]:
    """Stdout and the end of stderr; all three pipes are served concurrently, so that none blocks another."""
    served = [cast(IO[bytes], pipe) for pipe in (process.stdin, process.stdout, process.stderr)]
    to, out, err = (pipe.fileno() for pipe in served)
    output, errors, left = bytearray(), b"", memoryview(asked)
    with selectors.DefaultSelector() as pipes:
        for pipe in served:
            pipes.register(pipe, selectors.EVENT_WRITE if pipe is process.stdin else selectors.EVENT_READ, data=pipe)
        while pipes.get_map():
            if time.monotonic() >= ends:
                raise TimeoutError
            for key, _ in pipes.select(max(ends - time.monotonic(), 0.0)):
                if key.fd == to:
                    more = left = _unwritten(to, left)
                else:
                    more = memoryview(os.read(key.fd, AT_ONCE))
                    output += more if key.fd == out else b""
                    errors = (errors + more)[-END_OF_STDERR:] if key.fd == err else errors
                if len(output) > LARGEST:
                    raise ProgramStoppedError(f"wrote more than {LARGEST:,} bytes")
                if not more:
                    pipes.unregister(key.data)
                    key.data.close()
    return bytes(output), errors


def _unwritten(pipe: int, left: memoryview) -> memoryview:
    """The input that is still to be written; empty if the program no longer reads."""
    try:
        return left[os.write(pipe, left[: select.PIPE_BUF]) :]  # a pipe that is ready takes as much without blocking
    except BrokenPipeError:
        return left[:0]
