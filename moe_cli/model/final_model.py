"""The directory of a trained model: the base checkpoint with other weights.

It has every tensor of the base under the base's name, in the base's file and dtype: the trained value if the model has
it, else the base's own (encoders that were not opened, layers for speculative decoding). All other files are copied
from the base byte for byte (`directory.py`), except `README.md`, which is the model's own page. Loading it gives the
very bits of the trained model.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from moe_cli.activity import begin_activity
from moe_cli.errors import UsageError
from moe_cli.model.answer_settings import NOT_OF_THE_CHECKPOINT
from moe_cli.model.directory import (
    CONFIG,
    HINT,
    INDEX,
    PAGE,
    WEIGHTS,
    BaseWeights,
    Json,
    copy_base_files,
    read_json,
    stored_weights,
    write_json,
)
from moe_cli.model.load import LoadedModel
from moe_cli.model.sharding import has_shares, is_sharded, whole
from moe_cli.model.tensors import refuse_not_finite
from moe_cli.ranks import is_first

IN_LIST = re.compile(r".*?\.\d+\.")
OF_A_CALL = ("use_cache", *NOT_OF_THE_CHECKPOINT)  # in a config; they stay as the base has them
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def write_final_model(loaded: LoadedModel, base: Path, directory: Path, *, card: str | None = None) -> None:
    """Write the model into the empty `directory` as the checkpoint `base` with other weights.

    `base` is the directory that the model was loaded from, `card` the text of its README. If the weights cannot be
    written back under the base's names (a quantised base, loaded as floats), weights and config are written by
    transformers, and the other files are still those of the base.

    Of a sharded model all processes call it. Each layer is gathered by itself, and the first process writes a file of
    the base as soon as it has the tensors of that file; so none holds more than a layer and the files that are open.

    Raises:
        NumericError: a weight of the model is NaN or infinity, also through the cast to its dtype.
    """
    stored, config = stored_weights(base), read_json(base / CONFIG)
    outline = _outline(loaded, stored)
    if is_first():
        copy_base_files(base, directory)
    if stored is not None and _fits(outline, stored, config):
        opened = str(loaded.model.config.dtype).removeprefix("torch.")
        dtype = opened if opened != _dtype_of(config, base, stored) else None
        groups = _groups_as_named_in_files(loaded, stored)
        _write_weights(groups, outline.keys(), stored, base, directory, keep_dtypes=dtype is None)
        if dtype is not None and is_first():
            write_json(directory / CONFIG, _with_dtype(config, dtype))
    else:
        _write_as_transformers_does(loaded, config, directory)
    if card is not None and is_first():
        (directory / PAGE).write_text(card, encoding="utf-8")


def refuse_unopened_not_finite(loaded: LoadedModel, base: Path) -> None:
    """Check the weights that a final model takes from `base` unchanged; loading checks only those that it opens.

    Raises:
        NumericError: one is NaN or infinity.
        UsageError: a sharded model whose base only transformers could write.
    """
    stored = stored_weights(base)
    opened = _outline(loaded, stored)
    if stored is None or not _fits(opened, stored, read_json(base / CONFIG)):
        if has_shares(loaded.model):
            raise UsageError(
                f"{base} is quantised or has other names than its model: a sharded model cannot be written like it",
                hint="train it with train.placement=replicated, or from a checkpoint that save_pretrained has written",
            )
        return  # transformers writes, and has nothing else to write
    for name, keys in stored.files.items():
        with safe_open(base / name, framework="pt") as file:
            unopened = ((key, file.get_tensor(key)) for key in keys if key not in opened)
            refuse_not_finite(unopened, f"{base / name}, from which a final model takes it as it is,", hint=HINT)


def _outline(loaded: LoadedModel, stored: BaseWeights | None) -> dict[str, Tensor]:
    """What `_groups_as_named_in_files` gives altogether; of sharded tensors the shapes alone, on the meta device."""
    outlines: dict[int, Tensor] = {}  # tied tensors are one object
    state = {}
    for name, tensor in _stored_state(loaded).items():
        if is_sharded(tensor):
            outline = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
            tensor = outlines.setdefault(id(tensor), outline)  # noqa: PLW2901
        state[name] = tensor
    return _as_named_in_files(loaded, stored, state)


def _groups_as_named_in_files(loaded: LoadedModel, stored: BaseWeights) -> Iterator[dict[str, Tensor]]:
    """Parameters and persistent buffers by their names in the base, a few together; tied ones under every name.

    Of a sharded model a group is a decoder layer, or a tensor of none, and is gathered; else all are one group.
    """
    state = _stored_state(loaded)
    if not any(map(is_sharded, state.values())):
        yield _as_named_in_files(loaded, stored, state)
        return
    for names in names_by_layer(state).values():
        tensors = {name: whole(state[name]) for name in names}
        yield _as_named_in_files(loaded, stored, {name: tensor.cpu() for name, tensor in tensors.items()})


def names_by_layer(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of tensors by the entry of a list that they are in, "model.layers.7."; those of no list by themselves."""
    groups: dict[str, list[str]] = {}
    for name in names:
        listed = IN_LIST.match(name)
        groups.setdefault(listed[0] if listed else name, []).append(name)
    return groups


def _stored_state(loaded: LoadedModel) -> dict[str, Tensor]:
    ignored = loaded.model._keys_to_ignore_on_save or ()
    state = loaded.model.state_dict(keep_vars=True).items()
    return {name: tensor if is_sharded(tensor) else tensor.detach() for name, tensor in state if name not in ignored}


def _as_named_in_files(loaded: LoadedModel, stored: BaseWeights | None, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by their names in the base.

    For a model inside a larger one, transformers 5.17 gives the names without the prefix of that part.
    """
    tensors: dict[str, Tensor] = revert_weight_conversion(loaded.model, state)
    known, part = stored.shapes if stored else {}, f"{loaded.model.base_model_prefix}."
    return {part + name if name not in known and part + name in known else name: tensors[name] for name in tensors}


def _fits(tensors: Mapping[str, Tensor], stored: BaseWeights, config: Json) -> bool:
    """Whether the model's tensors match tensors of the base, so that they can be written into the base's files."""
    quantised = any("quantization_config" in part for part in _parts(config))
    if quantised and stored.shapes.keys() - tensors.keys():
        return False
    here = {name: tensor for name, tensor in tensors.items() if name in stored.shapes}
    written = {_memory_of(tensor) for tensor in here.values()}
    tied = all(_memory_of(tensor) in written for name, tensor in tensors.items() if name not in here)
    same = all(tuple(tensor.shape) == stored.shapes[name] for name, tensor in here.items())
    return tied and same


def _memory_of(tensor: Tensor) -> tuple[int, int]:
    """The same for tied tensors, also for those of the meta device, which have no address."""
    return int(tensor.untyped_storage()._cdata), int(tensor.storage_offset())


def _complete_files(
    groups: Iterable[dict[str, Tensor]], own: Collection[str], stored: BaseWeights
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each file of the base with the model's tensors for it, when all are there; only the first process gets any."""
    held: dict[str, Tensor] = {}
    missing = {name: {key for key in keys if key in own} for name, keys in stored.files.items()}
    for group in groups:
        if not is_first():
            continue
        held |= group
        for name in [name for name, keys in missing.items() if keys <= held.keys()]:
            del missing[name]
            yield name, {key: held.pop(key) for key in stored.files[name] if key in held}


def _write_weights(
    groups: Iterable[dict[str, Tensor]],
    own: Collection[str],
    stored: BaseWeights,
    base: Path,
    directory: Path,
    *,
    keep_dtypes: bool,
) -> None:
    """Write the base's files with the model's tensors; `keep_dtypes`: in the base's dtypes, where that is exact.

    `own` are the names of all tensors in the groups.
    """
    num_bytes = 0
    with begin_activity("writing the weights", total=len(stored.files)) as writing:
        for name, tensors in _complete_files(groups, own, stored):
            with safe_open(base / name, framework="pt") as file:
                pairs = ((key, _value(tensors.get(key), file, key, keep_dtypes)) for key in stored.files[name])
                content = dict(_apart(pairs))
            _refuse_not_finite(content.items())
            save_file(content, directory / name, metadata={"format": "pt"})
            num_bytes += sum(tensor.nbytes for tensor in content.values())
            writing.advance()
    if WEIGHTS not in stored.files and is_first():
        index = read_json(base / INDEX)
        metadata = index.get("metadata") or {}
        if metadata.get("total_size") == num_bytes:
            shutil.copyfile(base / INDEX, directory / INDEX)
        else:
            write_json(directory / INDEX, index | {"metadata": metadata | {"total_size": num_bytes}})


def _value(ours: Tensor | None, file: safe_open, key: str, keep_dtype: bool) -> Tensor:
    """The tensor to store under a name: the model's, or the base's if the model has none or an identical one."""
    if ours is None:
        base: Tensor = file.get_tensor(key)
        return base
    if not keep_dtype or ours.dtype not in FLOATS:
        return ours
    base = file.get_tensor(key)
    if base.dtype == ours.dtype or base.dtype not in FLOATS:
        return ours
    if torch.equal(base.to(ours.dtype), ours.cpu()):
        return base  # untouched; the base may hold more digits than were loaded
    cast = ours.to(base.dtype)
    return cast if torch.equal(cast.to(ours.dtype), ours) else ours


def _apart(tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors on the CPU, each with its own memory, as safetensors stores tied ones twice."""
    seen: set[int] = set()
    for name, tensor in tensors:
        here = tensor.detach().cpu().contiguous()
        yield name, here.clone() if here.data_ptr() in seen else here
        seen.add(here.data_ptr())


def _dtype_of(config: Json, base: Path, stored: BaseWeights) -> str:
    """The dtype in which `dtype="auto"` opens the base: that of its config, else that of its first weight."""
    for part in _parts(config):
        if isinstance(dtype := part.get("dtype") or part.get("torch_dtype"), str):
            return dtype
    name, keys = next(iter(stored.files.items()))
    with safe_open(base / name, framework="pt") as file:
        return str(file.get_tensor(keys[0]).dtype).removeprefix("torch.")


def _with_dtype(config: Json, dtype: str) -> Json:
    """The config with the dtype of the model if that is not its base's, so that it is loaded in this one again."""
    inner = {key: _with_dtype(value, dtype) for key, value in config.items() if _names_dtype(value)}
    return {**{key: value for key, value in config.items() if key != "torch_dtype"}, **inner, "dtype": dtype}


def _names_dtype(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(key), str) for key in ("dtype", "torch_dtype"))


def _parts(config: Json) -> Iterator[Json]:
    """A config, then its nested configs."""
    yield config
    yield from (value for key, value in config.items() if isinstance(value, dict) and key.endswith("_config"))


def _write_as_transformers_does(loaded: LoadedModel, config: Json, directory: Path) -> None:
    """Write weights and config by `save_pretrained`, without what training or this machine left in the config."""
    _refuse_not_finite(loaded.model.state_dict().items())
    saved = {file: file.read_bytes() for file in directory.glob("generation_config.json")}
    loaded.model.save_pretrained(directory)
    for file, content in saved.items():
        file.write_bytes(content)
    written = read_json(directory / CONFIG)
    written = {key: value for key, value in written.items() if key not in ("_name_or_path", *OF_A_CALL)}
    write_json(directory / CONFIG, written | {key: config[key] for key in OF_A_CALL if key in config})


def _refuse_not_finite(tensors: Iterable[tuple[str, Tensor]]) -> None:
    refuse_not_finite(
        tensors,
        "the final model, which was not written,",
        hint="train with a lower learning rate, or in bfloat16 where the weights do not fit into the range of float16",
    )
