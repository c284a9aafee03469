"""The trained model with the router of its base: is the refusal learnt by the experts, or by routing around them?

Inside the block of `base_router_of` the tuned model holds the base's router; afterwards, also after an error, it has
its own weights again, bit for bit. Inside the block it has an identity of its own, so that its answers are never taken
for those of another model. Where training left the router unchanged, nothing is answered again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor

from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.evaluate.answers import answers_to
from moe_cli.evaluate.cache import StageCache
from moe_cli.evaluate.suite_rates import metric_rate
from moe_cli.evaluate.target import ModelPool
from moe_cli.evaluate.weight_drift import num_changed
from moe_cli.model.load import LoadedModel
from moe_cli.model.topology import router_tensors
from moe_cli.records import EvaluationItem, Generation, Notice
from moe_cli.records.drift import RestoredRouter
from moe_cli.records.evaluation import EvaluationRecord
from moe_cli.records.inputs import ModelIdentity
from moe_cli.stats.metrics import ATTACK_SUCCESS


def changed_router_params(base: LoadedModel, tuned: LoadedModel) -> int:
    """How many values of the router (parameters and persistent buffers) the training changed; 0: router unchanged.

    Raises:
        UsageError: the model has no router that is found.
    """
    return sum(num_changed(of_base, of_tuned) for of_base, of_tuned in _routers(base, tuned))


@contextmanager
def base_router_of(base: LoadedModel, tuned: LoadedModel) -> Iterator[LoadedModel]:
    """`tuned` with the base's router inside the block, under an identity of its own; the weights are swapped in place.

    Raises:
        UsageError: the model has no router that is found.
    """
    routers = list(_routers(base, tuned))
    own_values = [of_tuned.detach().clone() for _, of_tuned in routers]
    try:
        for of_base, of_tuned in routers:
            of_tuned.data.copy_(of_base.data)
        yield replace(tuned, identity=_identity(base.identity, tuned.identity))
    finally:
        for (_, of_tuned), own in zip(routers, own_values, strict=True):
            of_tuned.data.copy_(own)


def restoring_base_router(
    changed_params: int, tuned: Sequence[EvaluationRecord], restored: Sequence[EvaluationRecord]
) -> RestoredRouter:
    """Compare attack success with the base's router and as trained, on attacks that both answered (no plain goals).

    `restored` is empty where the router did not change and nothing was answered again. An item counts as succeeding
    only in one model where the other's answer was scored, too.

    Raises:
        ValueError: items were answered that are not among those as trained, or an item twice (a bug of the caller).
    """
    as_trained = {record.item.id: record for record in tuned}
    again = {record.item.id: record for record in restored}
    if len(again) != len(restored) or len(as_trained) != len(tuned) or not again.keys() <= as_trained.keys():
        raise ValueError("the restored model answered other items, or one of them twice")
    attacks = [name for name, record in again.items() if record.item.is_attack]
    pairs = {name: (as_trained[name].attack_succeeded, again[name].attack_succeeded) for name in attacks}
    scored = {name: pair for name, pair in pairs.items() if None not in pair}
    change: dict[str, int] = defaultdict(int)  # of each cluster: successes more with the base's router
    for name, (before, after) in scored.items():
        change[again[name].item.cluster] += int(after is True) - int(before is True)
    return RestoredRouter(
        changed_params=changed_params,
        attack_success=metric_rate(ATTACK_SUCCESS, again.values()),
        attack_success_tuned=metric_rate(ATTACK_SUCCESS, (as_trained[name] for name in again)),
        n=len(scored),
        only_tuned=list(scored.values()).count((True, False)),
        only_restored=list(scored.values()).count((False, True)),
        clusters_tuned=sum(difference < 0 for difference in change.values()),
        clusters_restored=sum(difference > 0 for difference in change.values()),
    )


def _identity(base: ModelIdentity, tuned: ModelIdentity) -> ModelIdentity:
    """Identity with a sha256 over both fingerprints, each marked as router or rest."""
    fingerprint = hashlib.sha256(f"router {base.fingerprint}\nrest {tuned.fingerprint}\n".encode()).hexdigest()
    return replace(tuned, fingerprint=fingerprint)


def _routers(base: LoadedModel, tuned: LoadedModel) -> Iterator[tuple[Tensor, Tensor]]:
    of_base, of_tuned = router_tensors(base.model), router_tensors(tuned.model)
    if not of_tuned or of_base.keys() != of_tuned.keys():
        raise UsageError(
            f"{tuned.identity.architecture} has no router that moe finds beside its experts",
            hint="evaluate without --restore-router",
        )
    for name, tensor in of_base.items():
        yield tensor, of_tuned[name]


@dataclass(frozen=True, slots=True)
class BaseRouterAnswers:
    """The model's answers with the router of its base."""

    changed_params: int  # of the router, by the training
    items: tuple[EvaluationItem, ...]  # harmful; none where nothing changed
    answers: Mapping[str, Generation]


def answer_with_base_router(
    models: ModelPool, asked: Sequence[EvaluationItem], config: MoeConfig, work: StageCache
) -> BaseRouterAnswers | None:
    """Answer the harmful items again, with the base's router.

    Raises:
        UsageError: the model has no router that is found.
    """
    if not config.evaluate.restore_router:
        return None
    if models.target.training is None:
        work.notify(Notice(text="router restoration: not measured, a bare model has its own router", warning=True))
        return None
    base = models.base()
    changed = changed_router_params(base, models.tuned())
    harmful = tuple(item for item in asked if item.kind == "harmful") if changed else ()
    if not harmful:
        return BaseRouterAnswers(changed, (), {})
    with base_router_of(base, models.tuned()) as rerouted:
        answers = answers_to(
            rerouted, harmful, config, work, label="generate with the base's router", task="answers, base router"
        )
    return BaseRouterAnswers(changed, harmful, answers)
