"""The answers in what programs for evaluation write: logs of inspect, samples of lm-eval, records of moe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from moe_cli.codec import decode
from moe_cli.data import Location
from moe_cli.data.faults import BadRowError
from moe_cli.data.inspect_logs import InspectLog
from moe_cli.data.values import Row, name_of
from moe_cli.errors import ArtifactError
from moe_cli.evaluate.answer_fields import NO_ANSWER, FileAnswer, RowAnswers, asked_of, has_ended, texts_of
from moe_cli.records import EvaluationItem

NO_TEXT = "its prompt holds images, files or tools"
OTHER_FILTER = "the same answer under another filter"


def inspect_answers(log: InspectLog, name: str) -> Iterator[RowAnswers]:
    """The answers of a log of inspect, sample by sample; the prompt is what its data set says (`input`)."""
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
    """Samples of lm-eval: one line per question and filter, each with all answers to it."""

    filter: str | None = None  # the first that the file holds; the others have the same answers

    def read(self, row: Row, place: Location) -> RowAnswers:
        """The answers of one line."""
        found = str(row.get("filter", "none"))
        self.filter = self.filter or found
        if found != self.filter:
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
    """What the model was given: lists of (context, settings), or the objects that newer versions make of them."""
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
    """A line of `records.jsonl`."""
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
