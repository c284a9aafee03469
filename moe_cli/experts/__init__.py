"""The one place that changes a model: a few selected experts train as slices, everything else is frozen.

`attach` gives `AttachedSlices`, whose parameters go to an optimizer. At step 0 the output equals the unmodified
model's, bit for bit on the same kernel; whatever is not selected does not move by a bit; detaching restores the model,
also after an exception.
"""

from moe_cli.experts.delta import apply_delta, experts_of, has_routers, read_delta, save_delta
from moe_cli.experts.interface import AttachedSlices, attach, attach_none
from moe_cli.experts.trainable import (
    FrozenProof,
    check_budget,
    count_trainable,
    freeze_rest,
    frozen_digest,
    probe_gradients,
)

__all__ = [
    "AttachedSlices",
    "FrozenProof",
    "apply_delta",
    "attach",
    "attach_none",
    "check_budget",
    "count_trainable",
    "experts_of",
    "freeze_rest",
    "frozen_digest",
    "has_routers",
    "probe_gradients",
    "read_delta",
    "save_delta",
]
