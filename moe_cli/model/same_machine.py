"""Refuses processes that would not compute the same: other settings, packages, cards, weights or directories."""

from __future__ import annotations

import torch

from moe_cli.artifacts import RunWriter, layout
from moe_cli.artifacts.run_directory import flat_settings, package_versions
from moe_cli.config import MoeConfig
from moe_cli.model.load import LoadedModel, resolve_device
from moe_cli.model.memory import total_bytes
from moe_cli.ranks import require_same, require_shared
from moe_cli.version import __version__


def require_same_setup(config: MoeConfig) -> None:
    """Refuse processes that begin with other settings, packages or cards, before anything is loaded.

    Raises:
        EnvironmentFaultError: which differs, and where.
    """
    device = torch.device(resolve_device(config.model))
    facts: dict[str, object] = {f"the setting {name}": value for name, value in flat_settings(config).items()}
    facts |= {f"the version of {name}": found for name, found in package_versions().items()}
    card = f"{total_bytes(device)[0] >> 30} GiB" if device.type == "cuda" else "-"
    require_same(
        {**facts, "the version of moe": __version__, "the kind of device": device.type, "the size of its card": card}
    )


def require_same_directory(writer: RunWriter) -> None:
    """Refuse processes that do not see the run that the first has opened.

    Raises:
        EnvironmentFaultError: which do not.
    """
    require_shared(writer.path / layout.STARTED, writer.is_begun)


def require_same_model(loaded: LoadedModel) -> None:
    """Refuse processes that have loaded other weights, or that would round in another way.

    Raises:
        EnvironmentFaultError: which differs, and where.
    """
    identity = loaded.identity
    require_same({"the weights": identity.fingerprint, "the tokenizer or config": identity.settings})
    if loaded.device.type == "cpu":
        require_same({"the number of threads (model.threads)": torch.get_num_threads()})
