"""Readers for one answer: of a table row, an inspect log, an lm-eval sample, or a record of moe.

Nothing is guessed: a row with a value that its field cannot have is a bad row, and whether an answer ended by itself is
known only where the file says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from moe_cli.codec import decode
from moe_cli.data import Kind, Location
from moe_cli.data.inspect_logs import InspectLog
from moe_cli.data.rows import BadRowError, Row, describe_value, is_whole, name_of
from moe_cli.data.turns import Turns, are_turns, messages_of, turns
from moe_cli.errors import ArtifactError
from moe_cli.records import EvaluationItem

NO_ANSWER, NO_PROMPT = "it holds no answer", "it holds no prompt"
LOST_ANSWER = "its answer is the error of a spreadsheet"
ENDED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence"}
CUT = {"length", "max_tokens", "model_length", "max_new_tokens"}
NO_TEXT = "its prompt holds images, files or tools"
OTHER_FILTER = "the same answer under another filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAnswer:
    """One answer of a file, with everything the file says about it."""

    place: Location
    id: str | None
    messages: Turns  # the prompt; ends with a user turn
    text: str
    kind: Kind | None  # None: the file does not say
    goal: str | None = None
    suite: str | None = None
    cluster: str | None = None
    expected: str | None = None
    finished: bool | None = None
    num_tokens: int | None = None


RowAnswers = tuple[FileAnswer, ...] | str  # the answers of a row, or why it has none


def asked_of(value: object, key: str) -> Turns:
    """Turns of a prompt given as text or turns; a list of one text counts as that text."""
    alone = value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else value
    return turns(alone, key)


def separate_system_turn(value: object, key: str) -> tuple[object, object]:
    """Split turns that end with the answer into prompt and answer; the answer is None where there is none."""
    if value is None or not are_turns(value):
        if value is not None:
            raise BadRowError(f"`{key}` is {describe_value(value)}, not a list of turns")
        return None, None
    *prompt, last = messages_of(value, key)
    if last.role != "assistant":
        return value, None
    return [{"role": turn.role, "content": turn.content} for turn in prompt], last.content


def texts_of(value: object, key: str) -> tuple[str, ...]:
    """The text of one answer, or of several to the same prompt; an empty text is an answer, too."""
    several = value if isinstance(value, list) else [value]
    for text in several:
        if not isinstance(text, str) or not is_whole(text):
            raise BadRowError(f"`{key}` is {describe_value(text)}, not an answer")
    return tuple(several)


def finished_of(row: Row) -> bool | None:
    """Whether the answer ended by itself, where a column says so."""
    flag = row.get("finished")
    if isinstance(flag, bool):
        return flag
    return next(
        (ended for key in ("finish_reason", "stop_reason") if (ended := has_ended(row.get(key))) is not None), None
    )


def has_ended(reason: object) -> bool | None:
    """Whether a stop reason means that the answer ended by itself; None: it does not say."""
    word = str(reason or "").lower()
    return True if word in ENDED else False if word in CUT else None


def inspect_answers(log: InspectLog, name: str) -> Iterator[RowAnswers]:
    """Answers of an inspect log, sample by sample; the prompt is the one in its data set (`input`)."""
    for number, sample in enumerate(log.samples, start=1):
        if sample.input is None or sample.input[-1].role != "user":
            yield NO_TEXT
        elif sample.answer is None:
            yield NO_ANSWER
        else:
            answer = FileAnswer(
                place=Location(name, number, "element"),
                id=sample.id,
                messages=sample.input,
                text=sample.answer,
                kind=None,
                finished=False if sample.limit else has_ended(sample.stop_reason),
            )
            yield (answer,)


@dataclass(slots=True)
class LmEvalSamples:
    """Reader of the answers in lm-eval samples: one line per question and filter, each with all answers to it."""

    filter: str | None = None  # the first that the file holds; the others have the same answers

    def read(self, row: Row, place: Location) -> RowAnswers:
        """The answers of one line."""
        filter_name = str(row.get("filter", "none"))
        self.filter = self.filter or filter_name
        if filter_name != self.filter:
            return OTHER_FILTER
        first = FileAnswer(
            place=place,
            id=name_of(row, "doc_id"),
            messages=asked_of(_context(row.get("arguments")), "arguments"),
            text="",
            kind=None,
        )
        return tuple(replace(first, text=text) for text in texts_of(_first(row.get("resps")), "resps"))


def _context(arguments: object) -> object:
    """The prompt of an lm-eval sample: from lists of (context, settings), or from the objects of newer versions."""
    first = _first(list(arguments.values()) if isinstance(arguments, dict) else arguments)
    context = first.get("arg_0") if isinstance(first, dict) else _first(first)
    if isinstance(context, str) and context.startswith("["):
        try:
            value = json.loads(context)  # turns, where the model is behind an API
        except (ValueError, RecursionError):
            return context
        return (
            [{"role": turn.get("role"), "content": turn.get("content")} for turn in value]
            if _objects(value)
            else context
        )
    return context


def _objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else value


def recorded_answers(row: Row, place: Location) -> RowAnswers:
    """The answers of a line of `records.jsonl`."""
    try:
        item = decode(EvaluationItem, json.dumps(row.get("item")), source=str(place))
    except ArtifactError as error:
        raise BadRowError(f"`item` is no item of moe evaluate: {error.message.removeprefix(f'{place}: ')}") from error
    finished, tokens = row.get("finished"), row.get("num_answer_tokens")
    if item.kind == "text":
        raise BadRowError("`item` is a text, to which there is no answer")
    return tuple(
        FileAnswer(
            place=place,
            id=item.id,
            messages=item.messages,
            text=text,
            kind=item.kind,
            suite=item.suite,
            cluster=item.cluster,
            expected=item.expected,
            finished=finished if isinstance(finished, bool) else None,
            num_tokens=tokens if type(tokens) is int else None,
        )
        for text in texts_of(row.get("answer"), "answer")
    )
