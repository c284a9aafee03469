"""The model to evaluate and its base, found by path or name and loaded when a stage asks for them.

A model is known by the fingerprint of its weights: loaded weights that are not the ones the run wrote are refused.
`ModelPool` loads each model at most once between two releases, and its weights are checked every time. Selected experts
are the union of the batches that train, the same for both arms of one prepare run; what cannot be found is None, never
an empty selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moe_cli.artifacts import FinishedRun, Store, layout
from moe_cli.artifacts.examples import examples_of
from moe_cli.artifacts.files import naming_file
from moe_cli.artifacts.registry import training_run_named
from moe_cli.config import ModelConfig
from moe_cli.data.contamination import BY_WORDS, goals_trained_on, trained_goals
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.experts import apply_delta
from moe_cli.model.directory import model_directory
from moe_cli.model.interventions import steered
from moe_cli.model.load import LoadedModel, load_model
from moe_cli.model.memory import available_bytes, free_memory
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.records import EvaluationItem, Notice, TrainingSummary
from moe_cli.records.ablation import Steering
from moe_cli.records.manifest import Notify
from moe_cli.records.training import OF_EXPERTS, UNTRAINED, TrainingMode

ROOM = 1.1  # times the weights: what a second model takes
FORWARDS = 6 << 30  # bytes: the logits of a batch of texts from both models, and what a forward keeps


@dataclass(frozen=True, slots=True)
class EvaluationTarget:
    """A model to evaluate."""

    model: ModelConfig
    run: FinishedRun | None  # None: a bare model
    training: TrainingSummary | None
    scale: float = 1.0  # part of what training changed that is applied
    steering: Steering | None = None  # of the router; None: as the weights are

    @property
    def base_name(self) -> str:
        """Name of the model before training."""
        return self.training.base.name if self.training else self.model.name

    @property
    def training_mode(self) -> TrainingMode:
        """`selective_experts`, `full_model_baseline`, `alternating_optimization` or `base`."""
        return self.training.training_mode if self.training else UNTRAINED


def resolve_target(target_name: str, model: ModelConfig, store: Store, *, loads: bool = True) -> EvaluationTarget:
    """The target named by `target_name`: the directory of a training run, its `final_model`, or a model.

    Without `loads` the weights need not be here. The manifest of a run must be the one that `store` knows, if any.

    Raises:
        ArtifactError: a run that is not finished, damaged, or of another kind.
        UsageError: the directory of the model, or of the run's base, is not there.
    """
    run = training_run_named(target_name, store)
    if run is None:
        if loads:
            model_directory(target_name)
        return EvaluationTarget(model.model_copy(update={"name": target_name}), None, None)
    training = run.record(layout.METADATA, TrainingSummary)
    weights = run.directory(layout.FINAL_MODEL) if loads else run.path / layout.FINAL_MODEL
    if loads:
        model_directory(training.base.place)
    return EvaluationTarget(model.model_copy(update={"name": str(weights), "revision": None}), run, training)


def load_target(target: EvaluationTarget) -> LoadedModel:
    """Load the model of the target.

    Raises:
        ArtifactError: its weights are not those the run wrote.
    """
    if target.scale != 1.0:
        return _load_scaled(target)
    loaded = load_model(target.model)
    if target.training and loaded.identity.fingerprint != target.training.trained_fingerprint:
        raise ArtifactError(
            f"the weights in {target.model.name} have the fingerprint {loaded.identity.fingerprint[:12]}, but the run "
            f"wrote {target.training.trained_fingerprint[:12]}",
            hint="evaluate in the dtype the run was trained in (model.dtype), or train again",
        )
    return loaded


def _load_scaled(target: EvaluationTarget) -> LoadedModel:
    """The base with a part of what training changed: other weights than the run wrote, with their own fingerprint."""
    run = target.run
    if run is None or run.manifest.kind not in OF_EXPERTS:
        raise UsageError(
            f"evaluate.scale is {target.scale:g}, and {target.model.name} is no run with a delta to scale",
            hint="name the directory of a selective or alternating run, or leave evaluate.scale away",
        )
    loaded = load_base(target)
    apply_delta(loaded.model, run.file(layout.DELTA), scale=target.scale)
    return replace(loaded, identity=replace(loaded.identity, fingerprint=weights_fingerprint(loaded.model)))


def load_base(target: EvaluationTarget, *, on_host: bool = False) -> LoadedModel:
    """Load the model before training. `on_host`: into host memory, not onto a card.

    Raises:
        ArtifactError: the base that loads today is not the one that was trained.
        ValueError: a bare model was trained from nothing (a bug of the caller).
    """
    if target.training is None:
        raise ValueError("a bare model has no base")
    made_on = target.training.base
    where = {"device": "cpu", "gpu": None} if on_host else {}
    changes = {"name": made_on.place, "revision": made_on.revision, **where}
    loaded = load_model(target.model.model_copy(update=changes))
    if loaded.identity.fingerprint != made_on.fingerprint:
        raise ArtifactError(
            f"{made_on.name} has the weights {loaded.identity.fingerprint[:12]} today, but the run was trained from "
            f"{made_on.fingerprint[:12]}",
            hint="name the revision that was trained with --set model.revision=...",
        )
    if loaded.identity.settings != made_on.settings:
        raise ArtifactError(
            f"the config, the tokenizer or the chat template of {made_on.name} changed since the run was trained",
            hint="put its files back as they were, or train again",
        )
    return loaded


def has_room_for_another(loaded: LoadedModel) -> bool:
    """Whether a second model of this size fits beside it; assumed true on several cards and on the host."""
    if loaded.device.type != "cuda" or len({weight.device for weight in loaded.model.parameters()}) > 1:
        return True
    size: int = sum(weight.nbytes for weight in loaded.model.parameters())
    return available_bytes(loaded.device) >= ROOM * size + FORWARDS


class ModelPool:
    """The evaluated model and its base, loaded on demand."""

    def __init__(self, target: EvaluationTarget) -> None:
        self.target = target
        self._weights: LoadedModel | None = None
        self._tuned: LoadedModel | None = None
        self._base: LoadedModel | None = None
        self._steering = ExitStack()

    def tuned(self) -> LoadedModel:
        """The target's model, steered where it is to be. Raises as `load_target` and `steered`."""
        if self._tuned is None:
            loaded, steering = self._loaded(), self.target.steering
            self._tuned = loaded if steering is None else self._steering.enter_context(steered(loaded, steering))
        return self._tuned

    def unsteered_fingerprint(self) -> str:
        """Fingerprint of the target's weights, whatever the router is made to do. Raises as `load_target`."""
        return self._loaded().identity.fingerprint

    def _loaded(self) -> LoadedModel:
        if self._weights is None:
            self._weights = load_target(self.target)
        return self._weights

    def base(self) -> LoadedModel:
        """The model before training, in host memory where the card has no room. Raises as `load_base`."""
        if self._base is None:
            self._base = load_base(self.target, on_host=not has_room_for_another(self.tuned()))
        return self._base

    def close(self) -> None:
        """Free both models; the next stage that needs them loads them again."""
        self._steering.close()
        self._tuned = self._weights = None
        self.release_base()

    def release_base(self) -> None:
        """Free the base."""
        self._base = None
        free_memory()


def selected_experts_of(run: FinishedRun, store: Store) -> NDArray[np.bool_] | None:
    """bool [L, E]: experts that any batch of the training selected; L are the expert layers in order.

    A run that trained the selection holds the masks itself. For a baseline they are read from its prepare run: None
    where that is not registered, gone or changed.

    Raises:
        ArtifactError: a file of the training run, or the masks of the prepare run, are damaged.
    """
    training = run.record(layout.METADATA, TrainingSummary)
    holder = run if run.manifest.kind in OF_EXPERTS else store.with_digest(training.prepared, "prepare")
    if holder is None:
        return None
    num_training = int(training.hyperparameters["num_batches"] or 0)  # those held out stand behind them
    with naming_file(file := holder.file(layout.MASKS)):
        selected_LE: NDArray[np.bool_] = np.load(file, allow_pickle=False)[:num_training].any(axis=0)
    return selected_LE


def count_trained_goals(
    target: EvaluationTarget, asked: Sequence[EvaluationItem], store: Store, notify: Notify
) -> tuple[int, int] | None:
    """How many of the evaluated goals were trained on, and how many goals there are.

    None for a bare model, or where its examples are not found.
    """
    training = examples_of(target.training, store) if target.training else None
    if training is None:
        if target.training is not None:
            reason = "its prepare run is not registered here, or its examples are gone or changed"
            notify(Notice(text=f"how many of the evaluated goals were trained on is not known: {reason}", warning=True))
        return None
    num_trained, num_evaluated = goals_trained_on(trained_goals(training.examples, training.plain_forms), asked)
    if num_trained:
        count = f"{num_trained} of the {num_evaluated} evaluated goals were trained on ({BY_WORDS})"
        notify(Notice(text=f"{count}: these answers show what was taught", warning=True))
    return num_trained, num_evaluated
