"""Loads a pretrained mixture-of-experts model with its tokenizer onto its device.

Weights come from safetensors, no code of the checkpoint is run, and the identity of the model is the fingerprint of its
weights in the checkpoint's own dtype.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from torch.distributed.fsdp import FSDPModule
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar, set_tqdm_hook

from moe_cli.activity import begin_activity, count_items
from moe_cli.config import ModelConfig
from moe_cli.errors import ArtifactError, EnvironmentFaultError, MoeError, UsageError, first_line
from moe_cli.model.answer_settings import drop_generation_defaults, settings_digest, settle_ends
from moe_cli.model.chat import refuse_blind_template
from moe_cli.model.directory import is_unreachable, model_directory, shards_of
from moe_cli.model.foreign_files import as_floats, auto_class, config_of, refuse_damaged, template_beside
from moe_cli.model.rendering import fix_date
from moe_cli.model.sharding import WEIGHTS_DO_NOT_FIT, laying_out_shares, shares, unsharable
from moe_cli.model.tensors import align_weights, refuse_not_finite, weights_fingerprint
from moe_cli.model.topology import ExpertLayer, check_one_pass, expert_layers
from moe_cli.ranks import num_ranks, peer_error
from moe_cli.records import ModelIdentity
from moe_cli.tiny import MODEL_NAME

OF_THE_MACHINE = ("OutOfMemoryError", "allocate memory", "CUDA", "No space left")  # in errors of torch
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")
NO_NUMBERS = "fetch or save the checkpoint again, or open it in its own dtype (model.dtype)"
MODEL_HINT = "name a hub model, a local directory with config.json and safetensors, or `tiny`"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, its tokenizer and its identity."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    layers: tuple[ExpertLayer, ...]
    identity: ModelIdentity

    @property
    def device(self) -> torch.device:
        """The device for inputs."""
        device: torch.device = self.model.device
        return device

    @property
    def depends_on(self) -> tuple[object, ...]:
        """All that its answers depend on: weights, config, tokenizer, and machine (on the CPU threads change bits)."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else None
        machine = self.device.type, threads, torch.__version__, transformers.__version__
        return self.identity.fingerprint, self.identity.settings, *machine


def load_model(config: ModelConfig, *, sharded: bool = False) -> LoadedModel:
    """Load the model that `config` names, in evaluation mode; `sharded`: each process gets a share of the weights.

    Raises:
        UsageError: no such model, no model that answers with text, a dense model, or one without a chat template.
        ArtifactError: the checkpoint holds pickles only, is damaged, or lacks weights.
        EnvironmentFaultError: no such device, or the model is not local and the hub cannot be reached.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = resolve_device(config)
    place = model_directory(config.name)
    if place is not None:
        _refuse_pickles(place)
        refuse_damaged(place)
    source, name = str(place or config.name), f"the model {config.name}"
    with naming_checkpoint(name, MODEL_HINT):
        check_one_pass(config_of(source, revision=config.revision))
        tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision, trust_remote_code=False)
        here = place is not None
        model = open_model(
            name,
            source,
            dtype=config.dtype,
            device=device,
            revision=config.revision,
            here=here,
            floats=True,
            sharded=sharded,
        )
        tokenizer.chat_template = tokenizer.chat_template or template_beside(place or _snapshot(config))
        fix_date(tokenizer)
        if not tokenizer.chat_template:
            raise UsageError(
                f"{config.name} has no chat template, so a prompt cannot be told from its answer",
                hint="use the instruction-tuned version of the model",
            )
        if (snapshot := _snapshot(config)) is not None:
            refuse_damaged(snapshot)
        layers = expert_layers(model)
        refuse_blind_template(tokenizer)
        settle_ends(model, tokenizer)
    with _explained(name, MODEL_HINT):
        return LoadedModel(model, tokenizer, layers, _identity(config, model, tokenizer, layers))


@contextmanager
def naming_checkpoint(name: str, hint: str) -> Iterator[None]:
    """Turn errors of transformers about a checkpoint into an error about `name`, "the model tiny".

    Any exception is caught: a wrong config, tokenizer or weight can raise anything inside the library.

    Raises:
        UsageError: there is no such checkpoint, or its model does not answer with text.
        ArtifactError: it is damaged.
        EnvironmentFaultError: it is not local and the hub cannot be reached, or it needs a missing package.
    """
    disable_progress_bar()  # of the library; downloads keep theirs
    set_tqdm_hook(_told)
    with _explained(name, hint), begin_activity(f"loading {name}"):
        yield


@contextmanager
def _explained(name: str, hint: str) -> Iterator[None]:
    """The errors of `naming_checkpoint`."""
    try:
        yield
    except (MoeError, MemoryError):
        raise
    except (OSError, ValueError) as error:
        if (offline := is_unreachable(name, error)) is not None:
            raise offline from error
        raise UsageError(f"{name} cannot be loaded: {first_line(error)}", hint=hint) from error
    except SafetensorError as error:
        raise _damaged(name, first_line(error)) from error
    except ImportError as error:
        raise EnvironmentFaultError(
            f"{name} needs what is not installed: {first_line(error)}", hint="install it, or use another checkpoint"
        ) from error
    except Exception as error:
        if (gone := peer_error(error)) is not None:
            raise gone from error
        if isinstance(error, RuntimeError) and WEIGHTS_DO_NOT_FIT in str(error):
            raise _damaged(name, "its weights do not have the shapes of its config") from error
        if isinstance(error, RuntimeError) and any(sign in repr(error) for sign in OF_THE_MACHINE):
            raise
        raise _damaged(name, f"{type(error).__name__}: {first_line(error)}") from error


def open_model(
    name: str,
    source: str,
    *,
    dtype: str,
    device: str,
    revision: str | None,
    here: bool,
    floats: bool = False,
    sharded: bool = False,
) -> PreTrainedModel:
    """Load the checkpoint in evaluation mode; `here`: it is a local directory. Call inside `naming_checkpoint`.

    `floats` converts quantised weights to floats; `sharded` gives each process a share of every weight.

    Raises:
        UsageError: `floats` is set and the weights are quantised in an unsupported way.
        ArtifactError: weights are missing, or the index names files outside of the directory.
        NumericError: a weight is NaN or infinity.
    """
    if here:
        shards_of(Path(source))  # refuses those that lie elsewhere
    auto, config = auto_class(own := config_of(source, revision=revision))
    if floats:
        as_floats(own, name)
    with laying_out_shares(name) if sharded else nullcontext():
        model, info = auto.from_pretrained(
            source,
            config=config,
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
            local_files_only=here,
            **(shares() if sharded else _copies(device)),
        )
    if random := sorted([*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])]):
        if sharded:
            raise unsharable(name)
        raise _damaged(name, f"{len(random)} weights are not in it, such as {', '.join(random[:3])}")
    dtype_name = str(model.dtype).removeprefix("torch.")
    refuse_not_finite(model.state_dict().items(), f"{name}, opened in {dtype_name},", hint=NO_NUMBERS)
    align_weights(model)
    drop_generation_defaults(model, name)
    model.eval()
    opened: PreTrainedModel = model
    return opened


def _copies(device: str) -> dict[str, object]:
    return {"device_map": "auto" if device == "cuda" and torch.cuda.device_count() > 1 else {"": device}}


def resolve_device(config: ModelConfig) -> str:
    """`cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        EnvironmentFaultError: the config asks for a GPU and there is none.
    """
    device = config.device if config.device != "auto" else ("cuda" if config.gpu is not None else "auto")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "mps" and not torch.backends.mps.is_available():
        built = "finds none on this machine" if torch.backends.mps.is_built() else "is built without it"
        raise EnvironmentFaultError(
            f"--device mps asks for the GPU of an Apple computer, but torch {torch.__version__} {built}",
            hint="leave --device away to run on what is here; moe env shows what that is",
        )
    if not device.startswith("cuda"):
        return device
    num_cards = torch.cuda.device_count()
    number = int(device.partition(":")[2] or 0)
    wanted = 1 if config.gpu is None or num_ranks() > 1 else len(config.gpu.split(","))  # of several, each sees its own
    if number >= num_cards or wanted > num_cards:
        option = f"--gpu {config.gpu}" if config.gpu is not None else f"--device {device}"
        raise EnvironmentFaultError(
            f"{option} was asked for, but torch {torch.__version__} sees {num_cards} CUDA cards",
            hint="leave --gpu away to run on the CPU, or check nvidia-smi and the torch build",
        )
    return device


def _damaged(name: str, what: str) -> ArtifactError:
    """The error for missing weights, which transformers would fill with random numbers."""
    return ArtifactError(
        f"the checkpoint of {name} is damaged or of another architecture: {what}",
        hint="fetch or save it again; with missing weights it would answer at random",
    )


def _refuse_pickles(place: Path) -> None:
    pickles = [file.name for pattern in PICKLES for file in place.glob(pattern)]
    if pickles and not list(place.glob("*.safetensors")):
        raise ArtifactError(
            f"{place} holds its weights as a pickle ({pickles[0]}), which could run code when it is read",
            hint="convert it to safetensors where you trust it, with save_pretrained(...)",
        )


def _identity(
    config: ModelConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, layers: tuple[ExpertLayer, ...]
) -> ModelIdentity:
    place = model_directory(config.name)
    return ModelIdentity(
        name=config.name,
        directory=None if place is None or config.name == MODEL_NAME else str(place.resolve()),
        revision=config.revision if place is not None else _commit_of(config),
        architecture=next(kind.__name__ for kind in type(model).__mro__ if not issubclass(kind, FSDPModule)),
        fingerprint=weights_fingerprint(model),
        dtype=str(model.dtype).removeprefix("torch."),
        layers=tuple(layer.layer for layer in layers),
        num_experts=layers[0].num_experts,
        top_k=layers[0].top_k if len({layer.top_k for layer in layers}) == 1 else None,
        total_params=sum(parameter.numel() for parameter in model.parameters()),
        chat_template=hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest(),
        settings=settings_digest(model, tokenizer),
    )


def _commit_of(config: ModelConfig) -> str | None:
    """The commit of a hub model in the cache; transformers does not keep it in the config."""
    snapshot = _snapshot(config)
    return config.revision if snapshot is None else snapshot.name


def _snapshot(config: ModelConfig) -> Path | None:
    """The directory of a hub model in the cache; None for a local model."""
    if model_directory(config.name) is not None:
        return None
    cached = try_to_load_from_cache(config.name, "config.json", revision=config.revision)
    return Path(cached).parent if isinstance(cached, str) else None


def _told(bar: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """Replacement for the progress bar of transformers: reports an activity instead."""
    first, *others = args or (None,)
    if isinstance(first, Collection):
        first = count_items(first, str(kwargs.get("desc", "loading")).lower())
    return bar(first, *others, **kwargs)
