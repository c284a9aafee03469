"""Published tables ranked by the same rules: counts of two sides, or scores of ESFT's form.

A side without a token has no rate (undefined, never 0) and its expert is never selected. What the file itself publishes
is compared, not believed. Ties go to the lower layer, then to the lower index. No model is needed.

Letters of shapes: X rows of the table, in order of (layer, index).
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np

from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.locks import refuse_unwritable
from moe_cli.codec import encode
from moe_cli.config import PrepareConfig
from moe_cli.config.sections import conditions_of
from moe_cli.data.json_rows import parse_values
from moe_cli.data.rows import is_index, is_missing_cell
from moe_cli.data.tables import content_of_file
from moe_cli.errors import UsageError
from moe_cli.prepare.ranking import Bools, Floats, largest, top_p
from moe_cli.prepare.risk import rate_difference
from moe_cli.prepare.selection import meets_conditions
from moe_cli.prepare.selection_file import ExpertRow, expert_rows
from moe_cli.records import Expert, RankedExpert, RankedTable

COUNTS = (
    "write a CSV table with the columns layer, expert, a1, a2, d1, d2: tokens of side 1 and 2 that were routed (a) and "
    "not routed (d) to the expert; side 1 is the unsafe one"
)
SCORES = 'write {"token_scores": {"1": {"0": 0.0117, ...}, ...}}, the score of every expert of every layer'
COUNT_COLUMNS = ("a1", "a2", "d1", "d2")
SMALLEST_SIGNED = 1e-3  # below it the sign of a published risk difference may be that of its rounding
Kind = Literal["token_scores", "gate_scores", "scores"]
KINDS: tuple[Kind, ...] = ("token_scores", "gate_scores", "scores")


def rank_counts(file: Path, settings: PrepareConfig) -> RankedTable:
    """Rank the risk differences a1 / (a1 + d1) - a2 / (a2 + d2) of a table; threshold, top-k and conditions select.

    Raises:
        UsageError: no such file, another form, or a condition on what counts alone cannot tell.
    """
    rows = sorted(expert_rows(file, COUNT_COLUMNS, COUNTS), key=lambda row: row.expert)
    a1_X, a2_X, d1_X, d2_X = np.array([[_count(row, column) for column in COUNT_COLUMNS] for row in rows]).T
    layer_X = np.array([row.expert.layer for row in rows])
    for side, a_X, d_X in ((1, a1_X, d1_X), (2, a2_X, d2_X)):
        _refuse_totals(layer_X, a_X, d_X, side, file)
    risk_X = rate_difference(a2_X, a2_X + d2_X, a1_X, a1_X + d1_X)
    published = [_published(row) for row in rows]
    compared = [(ours, stated) for ours, stated in zip(risk_X.tolist(), published, strict=True) if stated is not None]
    _refuse_exchanged_sides(compared, file)
    deviations = [
        abs(ours - stated) for ours, stated in compared if not math.isnan(ours)
    ]  # an undefined one has no deviation
    experts = [row.expert for row in rows]
    selected_X = _selected(risk_X, experts, settings)
    return RankedTable(
        source=str(file),
        kind="risk_diff",
        rows=_ranked(experts, risk_X, published, selected_X),
        num_layers=len({expert.layer for expert in experts}),
        num_selected=int(selected_X.sum()),
        num_compared=len(deviations),
        num_equal=None,
        largest_deviation=max(deviations, default=None),
        rule=_rule_text(settings),
    )


def rank_scores(file: Path, settings: PrepareConfig, *, top_p_typed: bool) -> RankedTable:
    """Rank scores per layer; the experts that reach `top_p` of a layer's scores are selected.

    Scores are used as published (not normalised), and the share that the file itself states where none was typed.
    Experts that the file lists are compared.

    Raises:
        UsageError: no such file, or another form.
    """
    content = _object(file)
    kind, layers = _layers_of_scores(content, file, gate_first=settings.method == "esft-gate")
    share = content.get("top_p")
    use_own = not top_p_typed and isinstance(share, float) and 0 < share <= 1
    chosen = cast(float, share) if use_own else settings.top_p
    experts = [Expert(layer=layer, index=index) for layer in sorted(layers) for index in sorted(layers[layer])]
    rows = [(layer, sorted(layers[layer].items())) for layer in sorted(layers)]
    selected_X = np.concatenate([top_p(np.array([[score for _, score in row]]), chosen)[0] for _, row in rows])
    scores_X = np.array([score for _, row in rows for _, score in row])
    equal = _equal_layers(content, file, experts, selected_X)
    return RankedTable(
        source=str(file),
        kind=kind,
        rows=_ranked(experts, scores_X, [None] * len(experts), selected_X),
        num_layers=len(layers),
        num_selected=int(selected_X.sum()),
        num_compared=0 if equal is None else len(equal),
        num_equal=None if equal is None else sum(equal),
        largest_deviation=None,
        rule=f"top-p {chosen:g} of each layer",
    )


def write_ranked(file: Path, table: RankedTable) -> None:
    """Write a ranked table; `--selection-file` reads both forms.

    `.csv` has every row with a column `selected`, `.json` the selected experts.

    Raises:
        UsageError: another ending, or no place for a file.
    """
    refuse_unwritable(file)
    chosen = sorted(row.expert for row in table.rows if row.selected)
    if file.suffix.lower() == ".json":
        write_atomic(file, encode([[expert.layer, expert.index] for expert in chosen]) + b"\n")
        return
    if file.suffix.lower() != ".csv":
        raise UsageError(f"{file} ends neither in .csv nor in .json", hint="name the file to write, such as ranked.csv")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    name = "risk_diff" if table.kind == "risk_diff" else "score"
    writer.writerow(["rank", "layer", "expert", name, "selected"])
    for rank, row in enumerate(table.rows, start=1):
        score = "" if row.score is None else repr(row.score)
        writer.writerow([rank, row.expert.layer, row.expert.index, score, int(row.selected)])
    write_atomic(file, text.getvalue().encode())


def _count(row: ExpertRow, column: str) -> float:
    value = row.number(column, COUNTS)
    if value < 0 or not value.is_integer():
        raise UsageError(f"{row.place}: {column} is {row.cells[column]}, not a count (a whole number)", hint=COUNTS)
    return value


def _refuse_totals(layer_X: Floats, a_X: Floats, d_X: Floats, side: int, file: Path) -> None:
    """Refuse tokens in all where those that were not routed should stand: one number in every layer, whatever a is."""
    layers = [layer_X == layer for layer in np.unique(layer_X)]
    same = all(np.ptp(d_X[here]) == 0 for here in layers)
    if same and any(np.ptp(a_X[here]) > 0 for here in layers):
        raise UsageError(
            f"{file}: d{side} is the same for all experts of a layer and a{side} is not, so it counts all tokens",
            hint=COUNTS,
        )


def _refuse_exchanged_sides(compared: Sequence[tuple[float, float]], file: Path) -> None:
    """Refuse published risk differences that are those of the counts with the other sign."""
    known = [
        (ours, stated) for ours, stated in compared if abs(ours) > SMALLEST_SIGNED or abs(stated) > SMALLEST_SIGNED
    ]
    if known and all(abs(ours + stated) < SMALLEST_SIGNED for ours, stated in known):
        raise UsageError(
            f"{file}: its risk_diff has the other sign than its counts in all of {len(known)} rows, so side 1 may be"
            " the safe one",
            hint=f"exchange a1, d1 and a2, d2, or leave the column risk_diff out; {COUNTS}",
        )


def _published(row: ExpertRow) -> float | None:
    return None if is_missing_cell(row.cells.get("risk_diff", "")) else row.number("risk_diff", COUNTS)


def _selected(risk_X: Floats, experts: Sequence[Expert], settings: PrepareConfig) -> Bools:
    conditions = conditions_of(settings.select_by)
    if unknown := sorted({condition.quantity for condition in conditions} - {"risk_diff"}):
        raise UsageError(
            f"summed counts of two sides tell no {', '.join(unknown)}: there is one table, not one for each pair",
            hint="use risk_diff alone here; moe prepare counts pair by pair and has all of them",
        )
    kept_X = meets_conditions(conditions, {"risk_diff": risk_X}) & (risk_X > settings.smallest_difference)
    if settings.per_layer is not None:
        of_layer = np.array([expert.layer for expert in experts])
        for layer in set(of_layer.tolist()):
            here = of_layer == layer
            kept_X[here] = largest(np.where(kept_X, risk_X, np.nan)[here], settings.per_layer)
    return largest(np.where(kept_X, risk_X, np.nan), settings.top_k)


def _ranked(
    experts: Sequence[Expert], scores_X: Floats, published: Sequence[float | None], selected_X: Bools
) -> tuple[RankedExpert, ...]:
    order = np.argsort(-np.nan_to_num(scores_X, nan=-np.inf), kind="stable")
    return tuple(
        RankedExpert(
            expert=experts[index],
            score=None if np.isnan(scores_X[index]) else float(scores_X[index]),
            published=published[index],
            selected=bool(selected_X[index]),
        )
        for index in order
    )


def _rule_text(settings: PrepareConfig) -> str:
    met = "" if settings.select_by is None else f" and {settings.select_by}"
    layer = "" if settings.per_layer is None else f", at most {settings.per_layer} of a layer"
    return f"risk_diff>{settings.smallest_difference:g}{met}{layer}, at most {settings.top_k}"


def _object(file: Path) -> dict[str, object]:
    text = content_of_file(file, SCORES)
    if not isinstance(text, str):
        raise UsageError(f"{file} is a table in columns, not JSON", hint=SCORES)
    content = parse_values(text, str(file), SCORES)
    if not isinstance(content, dict) or not content:
        raise UsageError(f"{file} holds no scores by layer", hint=SCORES)
    try:
        _refuse_twice(content, str(file))
    except RecursionError:
        raise UsageError(f"{file} holds values that are nested too deeply", hint=SCORES) from None
    return content


def _refuse_twice(value: object, path: str) -> None:
    """Refuse numbers of a layer or expert that are written in two ways, such as 1 and 01."""
    names: set[str] = set()
    for name, inner in value.items() if isinstance(value, dict) else ():
        plain = (name.lstrip("0") or "0") if name.isascii() and name.isdecimal() else name
        if plain in names:
            raise UsageError(f"{path}: {name!r} stands there twice, and each has one score", hint=SCORES)
        names.add(plain)
        _refuse_twice(inner, f"{path}: {name}")


def _layers_of_scores(
    content: Mapping[str, object], file: Path, *, gate_first: bool
) -> tuple[Kind, dict[int, dict[int, float]]]:
    order = sorted(KINDS, key=lambda kind: kind != "gate_scores") if gate_first else KINDS
    kind = next((kind for kind in order if kind in content), None)
    layers = content if kind is None else content[kind]
    if not isinstance(layers, dict) or not layers:
        raise UsageError(f"{file} holds no scores by layer", hint=SCORES)
    scores_of_layers = {_index(layer, file): _scores_of(scores, layer, file) for layer, scores in layers.items()}
    return kind or "scores", scores_of_layers


def _scores_of(scores: object, layer: object, file: Path) -> dict[int, float]:
    if isinstance(scores, list):
        scores = {str(index): score for index, score in enumerate(scores)}
    if not isinstance(scores, dict) or not scores:
        raise UsageError(f"{file}: layer {layer} holds no scores of experts", hint=SCORES)
    for index, score in scores.items():
        if type(score) not in (int, float) or not 0 <= score <= sys.float_info.max:
            raise UsageError(f"{file}: layer {layer}, expert {index}: {score!r} is no score", hint=SCORES)
    return {_index(index, file): float(score) for index, score in scores.items()}


def _index(key: object, file: Path) -> int:
    if not (isinstance(key, str) and is_index(key)):
        raise UsageError(f"{file}: {key!r} is no number of a layer or an expert", hint=SCORES)
    return int(key)


def _equal_layers(
    content: Mapping[str, object], file: Path, experts: Sequence[Expert], selected_X: Bools
) -> list[bool] | None:
    """For every layer whose experts the file lists, whether they equal the selected ones."""
    published = content.get("experts")
    if not isinstance(published, dict):
        return None
    ours: dict[int, set[int]] = {}
    for expert, selected in zip(experts, selected_X, strict=True):
        ours.setdefault(expert.layer, set()).update({expert.index} if selected else ())
    for layer, indices in published.items():
        if not (is_index(str(layer)) and isinstance(indices, list) and all(type(index) is int for index in indices)):
            raise UsageError(f"{file}: experts: {layer!r}: {indices!r} is no list of experts of a layer", hint=SCORES)
    listed = {int(layer): set(indices) for layer, indices in published.items()}
    return [ours.get(layer) == indices for layer, indices in listed.items()]
