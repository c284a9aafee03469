"""Fingerprints of tensors, the check that all their values are finite, and their place in memory.

Equal digests mean byte-equal tensors under equal names. A tied weight counts once, under the first of its names; for a
model the order of its tensors does not matter. Tensors are streamed, never copied as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from moe_cli.activity import begin_activity
from moe_cli.errors import NumericError
from moe_cli.model.sharding import is_sharded, share_of, whole
from moe_cli.ranks import gathered, is_first, on_first

ORDERED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)  # dtypes whose extremes torch gives at once
ALIGNMENT = 64  # bytes; what torch allocates on the CPU begins at a multiple of it
CHUNK_BYTES = 1 << 26  # 64 MiB cross from a device at a time


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU if it has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def refuse_not_finite(tensors: Iterable[tuple[str, Tensor]], what: str, *, hint: str) -> None:
    """Refuse named tensors with NaN or infinity; the error begins with `what` they are. One pass, no copy.

    Raises:
        NumericError: a value is not finite; the message names the first such tensor.
    """
    wrong, sharded = [], False
    for name, tensor in tensors:
        sharded = sharded or is_sharded(tensor)
        if not _is_finite(share_of(tensor)):
            wrong.append(name)
    if sharded:  # each has looked at its shares
        wrong = list(dict.fromkeys(name for names in gathered(wrong) for name in names))
    if wrong:
        others = f" and {len(wrong) - 1} more tensors" if len(wrong) > 1 else ""
        raise NumericError(f"{what} holds NaN or infinity in {wrong[0]}{others}", hint=hint)


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.numel() == 0 or tensor.is_meta:
        return True
    values = tensor.detach() if tensor.dtype in ORDERED else tensor.detach().float()
    return bool(torch.isfinite(torch.stack(torch.aminmax(values))).all())  # NaN is the extreme of whatever holds it


def weights_fingerprint(model: nn.Module) -> str:
    """Digest of all parameters and persistent buffers, in sorted order of name, tied weights once."""
    return digest_of_tensors(stored_tensors(model), size=sum(tensor.nbytes for _, tensor in stored_tensors(model)))


def stored_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and persistent buffers in sorted order of name; of tied ones only the first name."""
    seen: set[tuple[object, ...]] = set()
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        key = _identity(tensor)
        if key not in seen:
            seen.add(key)
            yield name, tensor


def digest_of_tensors(tensors: Iterable[tuple[str, Tensor]], *, size: int | None = None) -> str:
    """Digest of named tensors in the order given; `size` is their total in bytes, if known.

    Sharded ones are gathered one after the other by all processes, and the first takes the digest.
    """
    digest, sharded = hashlib.sha256(), False
    with begin_activity("hashing the weights", total=size, unit="bytes") as hashing:
        for name, tensor in tensors:
            header = f"{name}\n{str(tensor.dtype).removeprefix('torch.')}\n{list(tensor.shape)}\n".encode()
            digest.update(len(header).to_bytes(8, "little") + header)
            sharded = sharded or is_sharded(tensor)
            gathered_tensor = whole(tensor)
            if sharded and not is_first():
                continue
            for chunk in _chunks(gathered_tensor):
                digest.update(chunk)
                hashing.advance(chunk.nbytes)
    return on_first(digest.hexdigest) if sharded else digest.hexdigest()


def _identity(tensor: Tensor) -> tuple[object, ...]:
    if tensor.is_meta or tensor.numel() == 0 or is_sharded(tensor):  # a share may be empty
        return (id(tensor),)
    return tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _chunks(tensor: Tensor) -> Iterator[memoryview]:
    if tensor.is_meta:
        raise ValueError("a model on the meta device has no weights to take a fingerprint of")
    flat = tensor.detach().contiguous().view(-1).view(torch.uint8)  # bytes: numpy knows no bfloat16
    for start in range(0, flat.numel(), CHUNK_BYTES):
        yield flat[start : start + CHUNK_BYTES].cpu().numpy().data


def align_weights(model: nn.Module) -> None:
    """Copy CPU weights that do not start at a multiple of 64 bytes, which may happen if they are mapped from a file.

    MKL gives bit-identical sums only for equal alignment, and the position of a weight in its file must not change an
    answer.
    """
    for weight in model.parameters():
        # FSDP gathers shares into memory of its own
        if weight.device.type == "cpu" and not is_sharded(weight) and weight.data_ptr() % ALIGNMENT:
            weight.data = weight.data.clone()
