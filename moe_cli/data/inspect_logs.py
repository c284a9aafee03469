"""Logs of inspect (UKGovernmentBEIS/inspect_ai), `.eval` archives and `.json` files, as typed records.

A file is recognised as a log by its content, whatever its name. Samples are ordered by epoch and id, as inspect sorts
them. A score that inspect marks as unscored (NaN) has no value; a sample without an answer has None, never "".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from moe_cli.codec import parse_json
from moe_cli.data.inspect_zip import LogArchive, is_zip, open_archive
from moe_cli.errors import UsageError
from moe_cli.records import Message

HEADER, START, FIRST_START = "header.json", "_journal/start.json", "start.json"
SAMPLE = re.compile(r"samples/.+_epoch_\d+\.json")
CHUNKED_SAMPLE = re.compile(r"samples/.+_epoch_\d+/sample\.json")  # version 3 of the format
ATTACHMENT = re.compile(r"(?:attachment|tc)://")
LOG_KEYS = {"eval", "status", "samples", "version"}
HINT = "name a log that inspect wrote: logs/TIME_TASK_ID.eval or .json"

Json = Mapping[str, object]
ScoreValue = str | float | bool | None
Status = Literal["started", "success", "cancelled", "error"]
STATUSES: tuple[Status, ...] = ("started", "success", "cancelled", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectScore:
    """The value of one scorer for one answer."""

    name: str  # "match"; of a scorer with several values "rubric.clarity"
    value: ScoreValue  # "C", "I", "P", "N", 0.5, True; None: unscored
    answer: str | None  # what the scorer took for the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectSample:
    """One sample in one epoch."""

    id: str  # "17"; the same in every epoch
    epoch: int  # from 1
    input: tuple[Message, ...] | None  # None: it holds images, files or turns of tools, which no text stands for
    choices: tuple[str, ...]
    target: tuple[str, ...]
    answer: str | None  # text of the first choice, without its reasoning; None: the model gave none
    stop_reason: str | None  # "stop", "max_tokens", "content_filter"
    scores: tuple[InspectScore, ...]
    error: str | None  # what halted the sample; may quote its prompt
    limit: str | None  # "token": what cut the sample short

    def score(self, name: str) -> InspectScore | None:
        """The score of this name."""
        return next((score for score in self.scores if score.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectLog:
    """One evaluation of one model on one task."""

    path: Path
    task: str  # "gsm8k"
    model: str  # "openai/gpt-4o"
    status: Status  # only "success" holds every sample
    samples: tuple[InspectSample, ...]  # at least one

    def score_names(self) -> tuple[str, ...]:
        """The names of all scores in the samples, in order of first occurrence."""
        return tuple(dict.fromkeys(score.name for sample in self.samples for score in sample.scores))


def read_inspect_log(path: Path) -> InspectLog:
    """The log in a file.

    Raises:
        UsageError: no log of inspect, a damaged one, or one without samples.
    """
    log = inspect_log_in(path)
    if log is None:
        raise UsageError(f"{path} is no log of inspect", hint=HINT)
    return log


def inspect_log_in(path: Path) -> InspectLog | None:
    """The log in a file; None where the file is something else.

    Raises:
        UsageError: a zip archive that is cut short, a damaged log, or one without samples.
    """
    if is_zip(path):
        with open_archive(path) as archive:
            return _from_archive(archive)
    content = path.read_bytes()
    if content.lstrip()[:1] != b"{" or b'"eval"' not in content:
        return None
    header = _value(content)
    if not isinstance(header, dict) or not _is_header(header):
        return None
    samples = header.get("samples")
    return _log(path, header, samples if isinstance(samples, list) else [])


def _from_archive(archive: LogArchive) -> InspectLog | None:
    members = archive.members()
    name = next((name for name in (HEADER, START, FIRST_START) if name in members), None)
    if name is None:
        return None
    header = _parsed(archive.content(members[name]), f"{archive.path}: {name}")
    if not _is_header(header):
        return None
    if any(map(CHUNKED_SAMPLE.fullmatch, members)):
        raise UsageError(
            f"{archive.path} is a log of inspect whose samples are in chunks (version {header.get('version')})",
            hint="versions 1 and 2 are read: write it anew as JSON with `inspect log convert --to json`",
        )
    samples = [
        _parsed(archive.content(info), f"{archive.path}: {sample}")
        for sample, info in members.items()
        if SAMPLE.fullmatch(sample)
    ]
    return _log(archive.path, header, samples)


def _is_header(value: Json) -> bool:
    spec = value.get("eval")
    return isinstance(spec, dict) and "task" in spec and "model" in spec and bool(LOG_KEYS & value.keys())


def _log(path: Path, header: Json, samples: Sequence[object]) -> InspectLog:
    spec = cast(Json, header["eval"])
    status: Status = next((known for known in STATUSES if known == header.get("status")), "started")
    if not samples:
        _refuse_empty(path, status)
    parsed = [_sample(sample, f"{path}: sample {number}") for number, sample in enumerate(samples, start=1)]
    parsed.sort(key=lambda sample: (sample.epoch, sample.id.zfill(20)))
    return InspectLog(path=path, task=str(spec["task"]), model=str(spec["model"]), status=status, samples=tuple(parsed))


def _refuse_empty(path: Path, status: Status) -> None:
    reason = {
        "success": "it was run without --log-samples, or only its header was saved",
        "started": "the evaluation had not finished its first sample when it was saved",
        "cancelled": "the evaluation was cancelled before its first sample",
        "error": "the evaluation failed before its first sample",
    }[status]
    raise UsageError(f"{path} is a log of inspect without samples: {reason}", hint="inspect eval TASK --log-samples")


def _sample(value: object, place: str) -> InspectSample:
    if not isinstance(value, dict) or not isinstance(value.get("id"), (str, int)):
        raise UsageError(f"{place} has no id, so it is no sample of inspect", hint=HINT)
    sample: Json = value
    attachments = _object(sample.get("attachments"))
    answer, stop_reason = _answer(_object(sample.get("output")), attachments)
    epoch = sample.get("epoch", 1)
    if not isinstance(epoch, int):
        raise UsageError(f"{place}: its epoch is no whole number", hint=HINT)
    target = sample.get("target")
    return InspectSample(
        id=str(sample["id"]),
        epoch=epoch,
        input=_turns(sample.get("input"), attachments),
        choices=_texts(sample.get("choices")),
        target=(target,) if isinstance(target, str) else _texts(target),
        answer=answer,
        stop_reason=stop_reason,
        scores=_scores(sample),
        error=_named(sample.get("error"), "message"),
        limit=_named(sample.get("limit"), "type"),
    )


def _answer(output: Json, attachments: Json) -> tuple[str | None, str | None]:
    """Text and stop reason of the first choice, or the completion if the log has nothing else."""
    choices = output.get("choices")
    if isinstance(choices, list) and choices:
        choice = _object(choices[0])
        stop_reason = choice.get("stop_reason")
        text = _text(_object(choice.get("message")).get("content"), attachments, only_text=False)
        return text, None if stop_reason is None else str(stop_reason)
    completion = output.get("completion")
    return (_resolved(completion, attachments) if isinstance(completion, str) and completion else None), None


def _turns(value: object, attachments: Json) -> tuple[Message, ...] | None:
    if isinstance(value, str):
        return (Message(role="user", content=_resolved(value, attachments)),)
    turns: list[Message] = []
    for message in map(_object, value if isinstance(value, list) else []):
        role, text = message.get("role"), _text(message.get("content"), attachments, only_text=True)
        if role not in ("system", "user", "assistant") or text is None or message.get("tool_calls"):
            return None
        turns.append(Message(role=role, content=text))
    return tuple(turns) or None


def _text(content: object, attachments: Json, *, only_text: bool) -> str | None:
    """The text of a message, whose content may be in parts; with `only_text`, None if a part is no text."""
    if isinstance(content, str):
        return _resolved(content, attachments)
    if not isinstance(content, list):
        return None
    parts = [_object(part) for part in content]
    texts = [part["text"] for part in parts if part.get("type") == "text" and isinstance(part.get("text"), str)]
    if only_text and len(texts) < len(parts):
        return None
    return "\n".join(_resolved(cast(str, text), attachments) for text in texts)


def _resolved(text: str, attachments: Json) -> str:
    """The text behind a reference: a sample stores repeated texts once, under their hash."""
    match = ATTACHMENT.match(text)
    attachment = attachments.get(text[match.end() :]) if match else None
    return attachment if isinstance(attachment, str) else text


def _scores(sample: Json) -> tuple[InspectScore, ...]:
    scores = sample.get("scores")
    if not isinstance(scores, dict):  # logs of 2024 have one without a name
        scores = {"score": sample["score"]} if isinstance(sample.get("score"), dict) else {}
    return tuple(parsed for name, score in scores.items() for parsed in _values(str(name), _object(score)))


def _values(name: str, score: Json) -> list[InspectScore]:
    value, answer = score.get("value"), score.get("answer")
    values: dict[str, object] = {name: value}
    if isinstance(value, dict):
        values = {f"{name}.{key}": each for key, each in value.items()}
    elif isinstance(value, list):
        values = {f"{name}.{number}": each for number, each in enumerate(value, start=1)}
    return [
        InspectScore(name=key, value=_scalar(each), answer=answer if isinstance(answer, str) else None)
        for key, each in values.items()
    ]


def _scalar(value: object) -> ScoreValue:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, bool)) else float(value) if isinstance(value, int) else None


def _named(value: object, key: str) -> str | None:
    """The text under a key; the object may be missing."""
    return str(_object(value).get(key, "")) if isinstance(value, dict) else value if isinstance(value, str) else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _parsed(content: bytes, source: str) -> Json:
    value = _value(content)
    if not isinstance(value, dict):
        raise UsageError(f"{source} is damaged: it is no JSON object", hint=HINT)
    return value


def _value(content: bytes) -> object:
    """The JSON value; None if it is no JSON. NaN is accepted: inspect writes it for unscored samples."""
    try:
        return parse_json(content, source="", hint="", error_type=UsageError)
    except UsageError:
        try:
            return cast(object, json.loads(content))
        except (ValueError, RecursionError):
            return None
