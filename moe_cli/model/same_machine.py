"""Refuses processes that would not compute the same: other commands, settings, packages, cards, weights or directories.

Each says what it has, and all of them compare it with what the first has.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from moe_cli.artifacts import RunWriter, layout
from moe_cli.artifacts.directory_state import flat_settings
from moe_cli.artifacts.run_directory import package_versions
from moe_cli.config import MoeConfig
from moe_cli.errors import EnvironmentFaultError
from moe_cli.model.load import LoadedModel, resolve_device
from moe_cli.model.memory import total_bytes
from moe_cli.ranks import LOOK_AGAIN, PATIENCE, gathered
from moe_cli.version import __version__


def require_same_setup(command: str, config: MoeConfig, more: Mapping[str, object] | None = None) -> None:
    """Refuse processes that begin another command, or with other settings, packages or cards, before all else.

    `command` is "train selective"; `more` are further facts that must be the same.

    Raises:
        EnvironmentFaultError: which differs, and where.
    """
    device = torch.device(resolve_device(config.model))
    facts: dict[str, object] = {"the command": f"moe {command}", **(more or {})}
    facts |= {f"the setting {name}": value for name, value in flat_settings(config).items()}
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


def require_same(facts: Mapping[str, object]) -> None:
    """Refuse processes of which one differs from the first in one of the facts, "torch version": "2.13.0".

    Raises:
        EnvironmentFaultError: on every process; it names the process and both values.
    """
    (first_host, first), *others = gathered((socket.gethostname(), dict(facts)))
    for index, (host, theirs) in enumerate(others, start=1):
        for name in (name for name in first if theirs.get(name) != first[name]):
            raise EnvironmentFaultError(
                f"the processes differ in {name}: {first[name]} on process 0 ({first_host}), {theirs.get(name)} on "
                f"process {index} ({host})",
                hint="give all machines the same files, packages, settings and kind of card",
            )


def require_shared(file: Path, is_seen: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
    """Refuse a directory that the processes do not share: each must see `file` as the first does.

    Raises:
        EnvironmentFaultError: on every process; it names those that do not see it.
    """
    end = time.monotonic() + seconds
    while not (seen := is_seen()) and time.monotonic() < end:
        time.sleep(LOOK_AGAIN)
    blind = [f"{index} ({host})" for index, (host, saw) in enumerate(gathered((socket.gethostname(), seen))) if not saw]
    if blind:
        raise EnvironmentFaultError(
            f"{file.parent} is not shared: process {', '.join(blind)} does not see {file.name} there as process 0 does",
            hint="use a directory that all machines share, and name it by its whole path",
        )
