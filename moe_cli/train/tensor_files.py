"""Tensors of a checkpoint on disk, named ones (a safetensors file, or a folder of sharded ones) and random states.

Of sharded tensors every process writes its share, and no process has all of it. The folder is torch's distributed
checkpoint in safetensors files; it holds no pickle. Either form is read into tensors of either kind and by any number
of processes, each of which reads what it holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from moe_cli.artifacts.files import naming_file
from moe_cli.model.sharding import is_sharded, share_of, share_offset
from moe_cli.ranks import is_first, num_ranks


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write the tensors as the file `path`, or as the folder `path` if any is sharded; all processes call it."""
    own = {name: tensor.detach() for name, tensor in tensors.items()}
    if any(map(is_sharded, own.values())):
        with _own_errors():
            save(own, storage_writer=HuggingFaceStorageWriter(path=str(path), save_distributed=True))
    elif is_first():
        save_file({name: tensor.contiguous() for name, tensor in own.items()}, path)


@contextmanager
def _own_errors() -> Iterator[None]:
    """A block in which what failed in a process, as a full disk, is raised in all, not torch's list of failures."""
    try:
        yield
    except CheckpointException as several:  # no Exception, so nothing else would see what it is
        error, _ = several.failures[min(several.failures)]
        raise error from None


def load_tensors(
    path: Path, like: Mapping[str, nn.Parameter], *, of_parameter: Callable[[str], str] = str
) -> dict[str, Tensor]:
    """The tensors of `path`; one with the shape of the parameter that it belongs to is laid out as that is.

    `of_parameter` gives the name of the parameter that a tensor belongs to.
    """
    if path.is_dir():
        return _load_folder(path, like, of_parameter)
    if not any(map(is_sharded, like.values())):
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    with safe_open(path, framework="pt") as file:
        return {name: _laid_out(file, name, like.get(of_parameter(name))) for name in file.keys()}  # noqa: SIM118


def _load_folder(path: Path, like: Mapping[str, nn.Parameter], of_parameter: Callable[[str], str]) -> dict[str, Tensor]:
    reader = HuggingFaceStorageReader(path=str(path))
    tensors: dict[str, Tensor] = {}
    for name, described in reader.read_metadata().state_dict_metadata.items():
        if not isinstance(described, TensorStorageMetadata):
            raise ValueError(f"{name} is no tensor")
        parameter, dtype = like.get(of_parameter(name)), described.properties.dtype
        if parameter is not None and parameter.shape == described.size:
            tensors[name] = torch.empty_like(parameter.detach(), dtype=dtype)
        else:
            tensors[name] = torch.empty(described.size, dtype=dtype)
    alone = num_ranks() == 1
    with warnings.catch_warnings():
        if alone:  # torch warns that it reads in one process
            warnings.simplefilter("ignore", UserWarning)
        with _own_errors():
            load(tensors, storage_reader=reader, no_dist=alone)
    return tensors


def _laid_out(file: safe_open, name: str, parameter: nn.Parameter | None) -> Tensor:
    """A tensor of a file: this process' share of it if its parameter is sharded."""
    stored = file.get_slice(name)
    if parameter is None or not isinstance(parameter.data, DTensor) or tuple(stored.get_shape()) != parameter.shape:
        tensor: Tensor = file.get_tensor(name)
        return tensor
    first, num_rows = share_offset(parameter), share_of(parameter).shape[0]
    share = stored[first : first + num_rows].to(parameter.device)
    return DTensor.from_local(
        share,
        parameter.data.device_mesh,
        parameter.data.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def random_states() -> dict[str, Tensor]:
    """States of torch's random generators of this process, "cpu" and "cuda:0"."""
    return {name: torch.get_rng_state() if name == "cpu" else torch.cuda.get_rng_state(name) for name in _generators()}


def save_random_states(states_of_ranks: Sequence[Mapping[str, Tensor]], file: Path) -> None:
    """Write the `random_states` of every process, in their order."""
    states = {_random_name(rank, name): state for rank, of in enumerate(states_of_ranks) for name, state in of.items()}
    save_file(states, file)


def load_random_state(file: Path, rank: int) -> None:
    """Restore torch's random generators of the CPU and of every card, as process `rank` had them.

    A process that the run did not have before goes on with those of the first.
    """
    with naming_file(file):
        states = load_file(file)
        rank = rank if _random_name(rank, "cpu") in states else 0
        own = {name: states[key] for name in _generators() if (key := _random_name(rank, name)) in states}
        torch.set_rng_state(own.pop("cpu"))
        for name, state in own.items():
            torch.cuda.set_rng_state(state, int(name.removeprefix("cuda:")))


def _generators() -> list[str]:
    return ["cpu", *(f"cuda:{card}" for card in range(torch.cuda.device_count()))]


def _random_name(rank: int, generator: str) -> str:
    return generator if rank == 0 else f"{rank}/{generator}"
