"""What a run was trained on, as far as a comparison needs it: its goals, the lengths of its targets, its refusals.

Comes in: training summaries and the registry. Goes out: `TrainingData`. Always holds: where the examples of a run
cannot be found nothing is said about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_cli.artifacts import Store
from moe_cli.artifacts.examples import TrainingInputs, examples_of
from moe_cli.data.contamination import TrainedGoals, trained_goals
from moe_cli.records import TrainingSummary


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The fixed batches of a prepare run, those that are held out included."""

    goals: TrainedGoals
    target_lengths: tuple[int, int, int, int]  # characters: quartiles and longest
    num_refusals: int
    distinct_refusals: int


def read_training_data(trainings: Sequence[TrainingSummary | None], store: Store) -> list[TrainingData | None]:
    """What every run was trained on; None for a bare model, or where the prepare run is not registered or gone."""
    known: dict[tuple[str, str], TrainingData | None] = {}
    found: list[TrainingData | None] = []
    for training in trainings:
        if training is None:
            found.append(None)
            continue
        key = training.prepared, training.batches_digest  # both arms share one prepare run
        if key not in known:
            examples = examples_of(training, store)
            known[key] = None if examples is None else _data(examples)
        found.append(known[key])
    return found


def _data(trained: TrainingInputs) -> TrainingData:
    examples = trained.examples
    lengths = [len(example.messages[-1].content) for example in examples]
    refusals = [example.messages[-1].content for example in examples if example.kind != "benign"]
    quartiles = np.quantile(lengths, (0.25, 0.5, 0.75), method="lower")
    return TrainingData(
        goals=trained_goals(examples, trained.plain_forms),
        target_lengths=(int(quartiles[0]), int(quartiles[1]), int(quartiles[2]), max(lengths)),
        num_refusals=len(refusals),
        distinct_refusals=len(set(refusals)),
    )
