"""Which experts the prepare run selected, for either arm.

Comes in: a training run and the registry. Goes out: the union of the batches that train. Always holds: both arms of one
prepare run give the same union; what cannot be found is None, never an empty selection.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moe_cli.artifacts import FinishedRun, Store, layout
from moe_cli.artifacts.contents import naming_file
from moe_cli.codec import decode
from moe_cli.records import TrainingSummary


def selected_experts_of(run: FinishedRun, store: Store) -> NDArray[np.bool_] | None:
    """bool [L, E]: experts that any batch of the training selected; L are the expert layers in order.

    A selective run holds the masks itself. For a baseline they are read from its prepare run: None where that is not
    registered, gone or changed.

    Raises:
        ArtifactError: a file of the training run, or the masks of the prepare run, are damaged.
    """
    metadata = run.file(layout.METADATA)
    training = decode(TrainingSummary, metadata.read_bytes(), source=str(metadata))
    holder = run if training.training_mode == "selective_experts" else store.with_digest(training.prepared, "prepare")
    if holder is None:
        return None
    num_training = int(training.hyperparameters["num_batches"] or 0)  # those held out stand behind them
    with naming_file(file := holder.file(layout.MASKS)):
        selected_LE: NDArray[np.bool_] = np.load(file, allow_pickle=False)[:num_training].any(axis=0)
    return selected_LE
