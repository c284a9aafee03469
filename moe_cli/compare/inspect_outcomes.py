"""The scores of a log of inspect, as the outcomes of one run.

C is yes, I no, P one half, as inspect counts them. A sample that failed, was not scored or got N (no answer) is
unanswered. The epochs of one sample are items of one cluster, and the same id with another input is another item.
"""

from __future__ import annotations

from moe_cli.compare.imported_items import (
    NO_OUTCOME,
    SCALE_HINT,
    ImportedColumn,
    ImportedItem,
    cell_of,
    digest_of_text,
    fraction_of,
    parse_outcome,
)
from moe_cli.data.inspect_logs import InspectLog, InspectSample, ScoreValue
from moe_cli.errors import UsageError

LETTERS: dict[str, float | None] = {"C": 1.0, "P": 0.5, "I": 0.0, "N": None}
WORDS = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
INSPECT_HINT = "a score is C, I, P or N, yes or no, or a fraction from 0 to 1"


def inspect_column(log: InspectLog, measure: str | None, scale: float) -> ImportedColumn:
    """The outcomes of one log by one of its scores.

    Raises:
        UsageError: no scores, several and none named, a sample twice, or a value that is no outcome.
    """
    name = _score_name(log, measure)
    repeated = any(sample.epoch != 1 for sample in log.samples)
    ids = [f"{sample.id}/epoch {sample.epoch}" if repeated else sample.id for sample in log.samples]
    if twice := next((id for id in ids if ids.count(id) > 1), None) if len(set(ids)) < len(ids) else None:
        raise UsageError(f"{log.path}: the sample {twice} stands in it twice", hint="name a log that inspect wrote")
    outcomes = parse_outcome([_inspect_fraction(log, sample, name, scale) for sample in log.samples])
    return ImportedColumn(
        name=log.model,
        file_name=log.path.stem,
        source=str(log.path),
        task=log.task,
        measure=name,
        metric=None,
        items=tuple(
            ImportedItem(id=id, task=log.task, cluster=sample.id, content=_inspect_digest(sample), outcome=outcome)
            for id, sample, outcome in zip(ids, log.samples, outcomes, strict=True)
        ),
    )


def _score_name(log: InspectLog, measure: str | None) -> str:
    names = log.score_names()
    if not names:
        raise UsageError(f"{log.path}: no sample of this log is scored", hint=f"inspect score {log.path}")
    if measure is not None and measure not in names:
        raise UsageError(f"{log.path} has no score {measure}", hint=f"there are: {', '.join(names)}")
    if measure is None and len(names) > 1:
        raise UsageError(f"{log.path} holds several scores: {', '.join(names)}", hint="choose one with --measure NAME")
    return measure or names[0]


def _inspect_fraction(log: InspectLog, sample: InspectSample, name: str, scale: float) -> float | None:
    score = sample.score(name)
    if sample.error is not None or score is None or score.value is None or score.value == "N":
        return None
    fraction = _number(score.value, scale)
    if fraction is None or not 0 <= fraction <= 1:
        # A text may be the words of an answer, so it is not repeated.
        shown = "a text" if isinstance(score.value, str) and fraction is None else repr(score.value)
        raise UsageError(
            f"{log.path}: {name} of sample {sample.id} is {shown}, {NO_OUTCOME}",
            hint=INSPECT_HINT if fraction is None else SCALE_HINT,
        )
    return fraction


def _number(value: ScoreValue, scale: float) -> float | None:
    if isinstance(value, str) and value in LETTERS:
        return LETTERS[value]
    if isinstance(value, str) and value.casefold() in WORDS:
        return WORDS[value.casefold()]
    return fraction_of(cell_of(value), scale)


def _inspect_digest(sample: InspectSample) -> str | None:
    return None if sample.input is None else digest_of_text(repr(sample.input))
