"""Where float64 is computed: Apple's GPU has none."""

from __future__ import annotations

import torch


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU in the place of one without float64."""
    return torch.device("cpu") if device.type == "mps" else device
