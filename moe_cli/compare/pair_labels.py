"""Labels of people matched to the arms whose answers they labelled.

A code is a digest of item, prompt and answer: whoever has the runs can find the arm again, whoever has the file
cannot. Labels belong to that exact answer, however often it is judged; two runs that gave the same answer share its
label.

A file belongs to two arms of one run each if every answer in it is one of theirs. Several files about the same two
arms are several labellers of one draw: their labels are averaged, and their agreement is reported. Answers that no
run gave are refused, as are files with missing or changed rows, and fewer than 50 labelled items of a measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from math import isnan

import numpy as np

from moe_cli.codec import encode
from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.config.settings import FEWEST_LABELS
from moe_cli.data.label_sheets import ASKED, Asked, LabelSheet
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.records import Agreement, ComparedArm, EvaluationRecord, LabelFile
from moe_cli.records.judging import Question
from moe_cli.stats.labelled import ItemLabels, PairLabels
from moe_cli.stats.metrics import ATTACK_SUCCESS, OVER_REFUSAL
from moe_cli.stats.proportions import cohens_kappa

LENGTH = 16  # hexadecimal digits: with a million answers one chance in 10^7 that two share a code
METRIC_OF: dict[Asked, str] = {"harmful": ATTACK_SUCCESS, "refused": OVER_REFUSAL}
AGAIN = "moe label RUN_A RUN_B -o labels.csv makes a file of the answers that are compared"
Codes = Mapping[str, str]  # id of the item, by the code of an answer to it


def answer_code(record: EvaluationRecord) -> str:
    """Code of an answer: `r5d0c...`, with a letter first, so that a spreadsheet does not take it for a number."""
    answer = record.answer.encode("utf-8", errors="surrogatepass")
    digest = sha256(encode(record.item) + b"\0" + answer)
    return f"r{digest.hexdigest()[:LENGTH]}"


def draw_code(drawn: Iterable[tuple[str, float]]) -> str:
    """Code of a draw: `d93b1...`, equal in all its rows; a digest of every drawn answer's code and probability.

    A file that lacks a row, or has another probability, does not match it. Digits that a spreadsheet drops do not
    matter.
    """
    lines = sorted(f"{code} {probability:.9g}" for code, probability in drawn)
    digest = sha256("\n".join(lines).encode())
    return f"d{digest.hexdigest()[:LENGTH]}"


QUESTION_OF: dict[Asked, Question] = {"harmful": "harm", "refused": "refusal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonLabels:
    """Labels of the compared arms."""

    of_pair: Mapping[tuple[str, str], PairLabels]  # by the names of two arms, in their order
    files: tuple[LabelFile, ...]
    labellers: tuple[Agreement, ...]  # of every two files about the same arms


NO_LABELS = ComparisonLabels(of_pair={}, files=(), labellers=())


def labels_of_pairs(
    sheets: Sequence[LabelSheet], arms: Sequence[ComparedArm], sources: Sequence[ComparedRun]
) -> ComparisonLabels:
    """The labels of every pair of arms that a file is about.

    Raises:
        UsageError: there is nothing that could be labelled, files that do not belong together, or too few labels.
        ArtifactError: answers that the runs did not give.
    """
    if not sheets:
        return NO_LABELS
    by_name = {source.column.name: source for source in sources}
    single = {arm.name: by_name[arm.runs[0]] for arm in arms if len(arm.runs) == 1}
    runs = {name: source for name, source in single.items() if source.records}
    if len(runs) < 2:
        raise UsageError(
            "--labels corrects arms of one evaluated run each, of which the answers are known, and here are"
            f" {len(runs)}",
            hint="compare the two runs that were labelled: moe compare RUN_A RUN_B --labels FILE",
        )
    codes = {name: {answer_code(record): record.item.id for record in of.records or ()} for name, of in runs.items()}
    fitting = {sheet.name: _pair_of(sheet, codes) for sheet in sheets}
    of_pair, files, labellers = {}, [], []
    for pair in dict.fromkeys(fitting.values()):
        of_this = [sheet for sheet in sheets if fitting[sheet.name] == pair]
        _refuse_other_draws(of_this)
        a, b = pair
        labels = _joined(of_this, codes[a], codes[b])
        _refuse_few(labels, runs[a], runs[b])
        of_pair[pair] = PairLabels(of_metric={metric: of_items for metric, of_items in labels.items() if of_items})
        files += [_file(sheet, pair) for sheet in of_this]
        labellers += [agreement for two in combinations(of_this, 2) for agreement in _agreements(*two)]
    return ComparisonLabels(of_pair=of_pair, files=tuple(files), labellers=tuple(labellers))


def _pair_of(sheet: LabelSheet, codes: Mapping[str, Codes]) -> tuple[str, str]:
    """The first two arms that gave all answers of the file."""
    codes_in_file = [row.run for row in sheet.rows]
    if len(set(codes_in_file)) < len(codes_in_file):
        raise UsageError(f"{sheet.name} holds an answer twice", hint="leave each row of the drawn file in it once")
    foreign = {(a, b): sum(code not in codes[a] and code not in codes[b] for code in codes_in_file)
               for a, b in combinations(codes, 2)}  # fmt: skip
    pair = min(foreign, key=lambda two: foreign[two])
    if foreign[pair]:
        raise ArtifactError(
            f"{foreign[pair]} of the {len(codes_in_file)} answers in {sheet.name} are none of {pair[0]} and {pair[1]},"
            " which gave other answers or were asked other items",
            hint=f"name the evaluations that were labelled with --evaluation NAME; {AGAIN}",
        )
    every = {**codes[pair[0]], **codes[pair[1]]}
    items = set(every.values())
    moved = sum(row.item != every[row.run] and row.item in items for row in sheet.rows)
    if moved:
        raise UsageError(
            f"{moved} rows of {sheet.name} name one item and hold the code of another: its columns were sorted apart",
            hint="sort whole rows only; take the file as it was before",
        )
    return pair


def _refuse_other_draws(sheets: Sequence[LabelSheet]) -> None:
    """Refuse files of one pair that do not have the same rows with the same probabilities."""
    for sheet in sheets:
        if {draw_code((row.run, row.probability) for row in sheet.rows)} != {row.draw for row in sheet.rows}:
            raise UsageError(
                f"rows of {sheet.name} are missing, or their probabilities or codes were changed",
                hint="keep every drawn row, with an empty cell where there is no label, and change nothing but labels",
            )
    if len({row.draw for sheet in sheets for row in sheet.rows}) > 1:
        raise UsageError(
            f"the rows of {', '.join(sheet.name for sheet in sheets)} were drawn apart",
            hint="give every labeller a copy of the same drawn file",
        )


def _joined(sheets: Sequence[LabelSheet], a: Codes, b: Codes) -> dict[str, dict[str, ItemLabels]]:
    """Labels of every drawn item by metric and id, averaged over labellers; without metrics that nobody labelled."""
    votes: dict[str, list[float]] = {}
    rows = {row.run: row for sheet in sheets for row in sheet.rows}
    for sheet in sheets:
        for row in sheet.rows:
            if row.label is not None:
                votes.setdefault(row.run, []).append(float(row.label))
    mean = {code: sum(joined) / len(joined) for code, joined in votes.items()}
    joined: dict[str, dict[str, ItemLabels]] = {METRIC_OF[asked]: {} for asked in ASKED}
    code_a, code_b = ({id: code for code, id in codes.items()} for codes in (a, b))
    for row in rows.values():
        id = a.get(row.run) or b[row.run]
        if id in code_a and id in code_b:
            joined[METRIC_OF[row.asked]][id] = ItemLabels(
                a=mean.get(code_a[id]), b=mean.get(code_b[id]), probability=row.probability
            )
    return {
        metric: of_items
        for metric, of_items in joined.items()
        if any(one.a is not None or one.b is not None for one in of_items.values())
    }


def _refuse_few(labels: Mapping[str, Mapping[str, ItemLabels]], a: ComparedRun, b: ComparedRun) -> None:
    for metric, of_items in labels.items():
        scored = [
            one
            for id, one in of_items.items()
            if all(run.items and id in run.items and run.items[id].outcomes.get(metric) is not None for run in (a, b))
        ]
        num = sum(one.a is not None and one.b is not None for one in scored)
        if num < FEWEST_LABELS:
            raise UsageError(
                f"{num} items of {metric} have a label of both answers, of {len(of_items)} that were drawn: fewer than"
                f" {FEWEST_LABELS} correct nothing",
                hint=f"label more of them, or leave all of {metric} empty",
            )
    if not labels:
        raise UsageError("nothing is labelled yet", hint="write yes or no into the column that `asked` names")


def _file(sheet: LabelSheet, pair: tuple[str, str]) -> LabelFile:
    return LabelFile(
        name=sheet.name,
        sha256=sheet.sha256,
        a=pair[0],
        b=pair[1],
        answers=len(sheet.rows),
        labelled=sum(row.label is not None for row in sheet.rows),
    )


def _agreements(first: LabelSheet, second: LabelSheet) -> Iterator[Agreement]:
    """Agreement of every two labellers on each question that both answered."""
    of_second = {row.run: row.label for row in second.rows}
    for asked, question in QUESTION_OF.items():
        labels = [(row.label, of_second.get(row.run)) for row in first.rows if row.asked == asked]
        both = [two for two in labels if None not in two]
        if not both:
            continue
        table = [both.count(cell) for cell in ((True, True), (True, False), (False, True), (False, False))]
        kappa = float(cohens_kappa(np.array([table]))[0])
        yield Agreement(
            question=question,
            a=first.name,
            b=second.name,
            n=len(both),
            both_yes=table[0],
            only_a=table[1],
            only_b=table[2],
            both_no=table[3],
            agreement=(table[0] + table[3]) / len(both),
            kappa=None if isnan(kappa) else kappa,
            lower=None,
            upper=None,
        )
