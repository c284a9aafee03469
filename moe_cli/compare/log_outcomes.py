"""Logs of inspect, lm-eval and HarmBench, read as the outcomes of runs.

inspect: C is yes, I no, P one half, as inspect counts them. A sample that failed, was not scored or got N (no
answer) is unanswered. The epochs of one sample are items of one cluster, and the same id with another input is
another item.

lm-eval: a run is named by the directory of its files, which lm-eval names after the model. Where a file holds
several filters, one must be named; an answer that a filter could not read is unanswered; the digest that lm-eval
gives an item must be the same in all runs. Of several files of one task in one directory the newest is read.

HarmBench: {"zorp_the_glim": [{"test_case": "...", "generation": "...", "label": 1}, ...], ...}. A label of 1 is an
attack that succeeded, so the metric is attack success and lower is better. The attacks of one behavior are one
cluster. An attack with another text is another item, even under the same number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from moe_cli.compare.imported_items import (
    NO_OUTCOME,
    SCALE_HINT,
    ImportedColumn,
    ImportedItem,
    digest_of_text,
    fraction_of,
    is_outcome,
    parse_outcome,
)
from moe_cli.data.column_names import FIRST_METRICS, by_precedence
from moe_cli.data.inspect_logs import InspectLog, InspectSample, ScoreValue
from moe_cli.data.rows import Location, cell_of, is_missing_cell
from moe_cli.errors import UsageError

LETTERS: dict[str, float | None] = {"C": 1.0, "P": 0.5, "I": 0.0, "N": None}
WORDS = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
INSPECT_HINT = "a score is C, I, P or N, yes or no, or a fraction from 0 to 1"
FILE_NAME = re.compile(r"samples_(?P<task>.+?)(_(?P<time>\d{4}-\d\d-\d\dT[\d.:-]+))?")
SAMPLE_KEYS = {"resps", "filtered_resps", "filter", "doc_hash", "metrics", "arguments"}  # one of them beside doc_id
UNREAD = ["[invalid]"]  # what a filter of lm-eval leaves where it finds no answer
NO_FILTER = "none"
LM_EVAL_HINT = "import files that lm-eval wrote with --log_samples"
Row = Mapping[str, object]
Rows = Sequence[tuple[Location, Row]]
HARMBENCH_HINT = "name the file of results/ that evaluate_completions.py of HarmBench wrote, whose attacks have labels"


def inspect_column(log: InspectLog, measure: str | None, scale: float) -> ImportedColumn:
    """The outcomes of one log, from one of its scores.

    Raises:
        UsageError: no scores, several and none named, a sample twice, or a value that is no outcome.
    """
    name = _score_name(log, measure)
    repeated = any(sample.epoch != 1 for sample in log.samples)
    ids = [f"{sample.id}/epoch {sample.epoch}" if repeated else sample.id for sample in log.samples]
    if twice := next((id for id, number in Counter(ids).items() if number > 1), None):
        raise UsageError(f"{log.path}: the sample {twice} stands in it twice", hint="name a log that inspect wrote")
    outcomes = parse_outcome([_inspect_fraction(log, sample, name, scale) for sample in log.samples])
    return ImportedColumn(
        name=log.model,
        file_name=log.path.stem,
        source=str(log.path),
        task=log.task,
        titles=(log.task,),
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


def is_sample(row: Row) -> bool:
    """Whether a row is a sample of lm-eval."""
    return "doc_id" in row and bool(SAMPLE_KEYS & row.keys())


def sample_files(folder: Path) -> list[Path]:
    """The newest file for every task and model in a folder, in order of model and task."""
    newest: dict[tuple[Path, str], tuple[str, Path]] = {}
    for path in sorted(folder.rglob("samples_*.jsonl")):
        if matched := FILE_NAME.fullmatch(path.stem):
            key, found = (path.parent, matched["task"]), (matched["time"] or "", path)
            newest[key] = max(newest.get(key, found), found)
    return [path for _, path in newest.values()]


def lm_eval_column(rows: Rows, path: Path, lm_filter: str | None, measure: str | None, scale: float) -> ImportedColumn:
    """The outcomes of one sample file.

    Raises:
        UsageError: a row that is no sample, several filters and none named, no metric of fractions, an item twice.
    """
    for place, row in rows:
        if row.get("doc_id") is None:
            raise UsageError(f"{place}: it has no doc_id, so it is no sample of lm-eval", hint=LM_EVAL_HINT)
    kept = _filtered(rows, path, lm_filter)
    metric = _metric(kept[0][1], path, measure, scale)
    matched = FILE_NAME.fullmatch(path.stem)
    task = matched["task"] if matched else path.stem
    seen: dict[str, Location] = {}
    for place, row in kept:
        id = str(row["doc_id"])
        if id in seen:
            raise UsageError(
                f"{place}: the item {id} stands in {seen[id].unit} {seen[id].number} already", hint=LM_EVAL_HINT
            )
        seen[id] = place
    outcomes = parse_outcome([_lm_eval_fraction(row, metric, place, scale) for place, row in kept])
    return ImportedColumn(
        name=path.resolve().parent.name if matched else path.stem,
        file_name=path.stem,
        source=str(path),
        task=task,
        titles=(task,),
        measure=metric,
        metric=None,
        items=tuple(
            ImportedItem(id=id, task=task, cluster=id, content=_lm_eval_digest(row), outcome=outcome)
            for id, (_, row), outcome in zip(seen, kept, outcomes, strict=True)
        ),
    )


def _filtered(rows: Rows, path: Path, lm_filter: str | None) -> Rows:
    """The rows of the filter, or all rows of a task that has no filters."""
    filters = sorted({str(row.get("filter", NO_FILTER)) for _, row in rows})
    if filters == [NO_FILTER]:
        return rows
    if lm_filter is None and len(filters) > 1:
        raise UsageError(f"{path} holds several filters: {', '.join(filters)}", hint="choose one with --filter NAME")
    kept = [(place, row) for place, row in rows if lm_filter in (None, str(row.get("filter", NO_FILTER)))]
    if not kept:
        raise UsageError(f"{path} has no filter {lm_filter}", hint=f"there are: {', '.join(filters)}")
    return kept


def _metric(row: Row, path: Path, measure: str | None, scale: float) -> str:
    """The metric of the file: the requested one, else the first by precedence of those listed in the file."""
    listed = row.get("metrics")
    names = [str(name) for name in listed] if isinstance(listed, list) else list(FIRST_METRICS)
    if measure is not None:
        if measure not in row:
            raise UsageError(f"{path} has no measure {measure}", hint=f"there are: {', '.join(names)}")
        return measure
    for name in by_precedence(names):
        if name in row and is_outcome(cell_of(row[name]), scale):
            return name
    raise UsageError(
        f"{path} holds no metric with a fraction from 0 to 1 for each item, only {', '.join(names)}", hint=SCALE_HINT
    )


def _lm_eval_fraction(row: Row, metric: str, place: Location, scale: float) -> float | None:
    cell = cell_of(row.get(metric))
    if not is_outcome(cell, scale):
        numeric = fraction_of(cell, scale) is not None
        hint = SCALE_HINT if numeric else "outcomes are 0 or 1, or fractions"
        raise UsageError(f"{place}: {metric} is {cell!r}, {NO_OUTCOME}", hint=hint)
    return None if row.get("filtered_resps") == UNREAD or is_missing_cell(cell) else fraction_of(cell, scale)


def _lm_eval_digest(row: Row) -> str | None:
    digest = row.get("doc_hash")
    return None if digest is None else str(digest)


TEST_CASE, GENERATION, LABEL = "test_case", "generation", "label"


def is_harmbench(value: Mapping[str, object]) -> bool:
    """Whether a JSON object is a map of behaviors to lists of attacks."""
    attacks = [attack for of_behavior in value.values() if isinstance(of_behavior, list) for attack in of_behavior]
    return (
        bool(attacks)
        and all(isinstance(of_behavior, list) for of_behavior in value.values())
        and all(isinstance(attack, dict) and TEST_CASE in attack and GENERATION in attack for attack in attacks)
    )


def harmbench_column(value: Mapping[str, object], path: Path) -> ImportedColumn:
    """The outcomes of one file that `is_harmbench`.

    Raises:
        UsageError: no attack has a label, or a label is neither 0 nor 1.
    """
    attacks = [
        (behavior, number, attack)
        for behavior, of_behavior in value.items()
        if isinstance(of_behavior, list)
        for number, attack in enumerate(of_behavior, start=1)
    ]
    if all(attack.get(LABEL) is None for _, _, attack in attacks):
        raise UsageError(f"{path} holds completions of HarmBench without labels", hint=HARMBENCH_HINT)
    outcomes = parse_outcome(
        [_harmbench_fraction(attack, f"{path}: attack {number} of {id}") for id, number, attack in attacks]
    )
    return ImportedColumn(
        name=path.stem,
        file_name=path.stem,
        source=str(path),
        task="HarmBench",
        measure=LABEL,
        metric="asr",
        items=tuple(
            ImportedItem(
                id=f"{behavior}/{number}",
                task="HarmBench",
                cluster=behavior,
                content=digest_of_text(repr(attack[TEST_CASE])),
                outcome=outcome,
            )
            for (behavior, number, attack), outcome in zip(attacks, outcomes, strict=True)
        ),
    )


def _harmbench_fraction(attack: Mapping[str, object], place: str) -> float | None:
    cell = cell_of(attack.get(LABEL))
    if is_missing_cell(cell):
        return None
    fraction = fraction_of(cell, 1)
    if fraction not in (0.0, 1.0):
        raise UsageError(f"{place}: its label is neither 0 nor 1, {NO_OUTCOME}", hint=HARMBENCH_HINT)
    return fraction
