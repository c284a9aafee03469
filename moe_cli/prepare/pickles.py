"""Three pickles for the scripts that came before this program; written only when asked, never read.

Comes in: what the prepare run found. Goes out: `batch_outputs_{model}.pkl`, `risk_diff_{model}.pkl` and
`sft_dataset_{model}.pkl`. Always holds: each is a list of dicts of text, numbers, booleans, None and lists, in protocol
4, so that loading one imports nothing; `pandas.DataFrame(rows)` makes a table of it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moe_cli.artifacts import layout
from moe_cli.artifacts.files import write_atomic
from moe_cli.records import REGIONS, SIDES, AnsweredPrompt, Message, RoutingCounts, TrainingExample

PROTOCOL = 4
ANSWER, SAFE, UNSAFE = REGIONS.index("answer"), SIDES.index("safe"), SIDES.index("unsafe")


def write_pickles(
    path: Path,
    model_name: str,
    rows: Sequence[AnsweredPrompt],
    counts: RoutingCounts,
    masks_BLE: NDArray[np.bool_],
    examples: Sequence[TrainingExample],
) -> None:
    """All three files, into the directory `path`."""
    _write(path / layout.batch_outputs(model_name), [_plain(row) for row in rows])
    _write(path / layout.risk_table(model_name), list(_experts(counts, np.asarray(masks_BLE.any(axis=0)))))
    _write(path / layout.training_examples(model_name), [_plain(example) for example in examples])


def _write(path: Path, rows: Sequence[dict[str, object]]) -> None:
    write_atomic(layout.pickle_of(path), pickle.dumps(list(rows), protocol=PROTOCOL))


def _plain(row: AnsweredPrompt | TrainingExample) -> dict[str, object]:
    """The fields of a record; messages as dicts of `role` and `content`."""
    return {field.name: _value(getattr(row, field.name)) for field in fields(row)}


def _value(value: object) -> object:
    if isinstance(value, tuple):
        return [asdict(turn) if isinstance(turn, Message) else turn for turn in value]
    return value


def _experts(counts: RoutingCounts, union_LE: NDArray[np.bool_]) -> Iterator[dict[str, object]]:
    """Per expert: answer tokens routed to it and not (a1, d1: unsafe side; a2, d2: safe side), and the difference."""
    routed_SLE = counts.routed[:, :, ANSWER].sum(0)
    seen_S = counts.seen[:, :, ANSWER].sum(0)
    for (place, expert), selected in np.ndenumerate(union_LE):
        a1, a2 = (int(routed_SLE[side, place, expert]) for side in (UNSAFE, SAFE))
        n1, n2 = (int(seen_S[side]) for side in (UNSAFE, SAFE))
        yield {
            "layer": counts.layers[place],
            "expert": int(expert),
            "a1": a1,
            "d1": n1 - a1,
            "a2": a2,
            "d2": n2 - a2,
            "risk_diff": a1 / n1 - a2 / n2 if n1 and n2 else None,
            "selected": bool(selected),
        }
