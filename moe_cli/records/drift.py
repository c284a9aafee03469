"""How far a trained model moved from its base: in its texts, in its routing, and in its weights.

The base comes before the tuned model; arrays over layers have the expert layers in order; no mean is without its n.
"""

from __future__ import annotations

from moe_cli.records.record import Rate, record


@record
class DriftItem:
    """Drift on one held-out text; one line of `drift.jsonl`. Only answer tokens count."""

    id: str
    cluster: str
    num_tokens: int  # answer tokens compared
    nll_base: float  # summed negative log likelihood, nats
    nll_tuned: float
    kl_tokens: tuple[float, ...]  # KL(base || tuned) of every compared token, nats
    same_top: int  # tokens whose most likely token is the same
    experts_base: tuple[tuple[int, ...], ...]  # [L][E] tokens routed to each expert
    experts_tuned: tuple[tuple[int, ...], ...]
    same_choices: tuple[int, ...]  # [L] choices of an expert that both models made for the same token


@record
class Estimate:
    """A number with its 95 % interval and the n it rests on."""

    value: float
    lower: float | None  # None: fewer than two clusters carry no interval
    upper: float | None
    n: int  # clusters, the independent units


@record
class DriftSummary:
    """How far the model moved from its base on benign text."""

    perplexity_ratio: Estimate  # tuned / base; bootstrap over clusters
    kl_mean: Estimate  # KL(base || tuned) per token, nats
    kl_99: float  # 99 % quantile over all tokens
    same_top_share: Estimate
    perplexity_base: float
    perplexity_tuned: float
    num_tokens: int


@record
class LayerDrift:
    """How the routing of one layer moved, over all texts."""

    layer: int  # the decoder's own index
    kl: Estimate  # KL(base || tuned) of the share of choices that each expert got, nats
    js: Estimate  # Jensen-Shannon divergence of the same, nats; at most ln 2
    overlap: Estimate  # share of a token's choices that both models made
    on_selected_base: float | None  # share of choices that fall on selected experts; None: no selection is known
    on_selected_tuned: float | None
    entropy_base: float  # of the shares, divided by ln E: 1.0 where every expert gets the same
    entropy_tuned: float


@record
class RoutingDrift:
    """How the routing moved, layer by layer."""

    layers: tuple[LayerDrift, ...]
    js: Estimate  # mean over the layers
    overlap: Estimate  # mean over the layers
    on_selected_base: float | None  # mean over the layers; None: no selection is known
    on_selected_tuned: float | None
    num_selected: int | None  # experts that the prepare run selected; None: not known
    num_tokens: int
    is_unbiased: bool = False  # what noise adds to kl and js is taken off; False: evaluated by an earlier moe

    @property
    def js_without_noise(self) -> Estimate | None:
        """What may stand beside that of other runs; None: evaluated by an earlier moe, which counted noise as drift."""
        return self.js if self.is_unbiased else None


@record
class PromptDriftItem:
    """How far the routers moved at the last token of one harmful prompt; one line of `prompt_drift.jsonl`."""

    id: str
    cluster: str
    kl: tuple[float | None, ...]  # [L] KL(base || tuned) of the router's distribution, nats; None: it does not choose
    unread: str | None = None  # why no router's distribution is known; None: they are


@record
class PromptLayerDrift:
    """How far the router of one layer moved at the last token of harmful prompts."""

    layer: int  # the decoder's own index
    kl: Estimate | None  # KL(base || tuned) of the router's distribution, nats, mean over prompts; None: not known


@record
class PromptDrift:
    """How far the routers' distributions moved at the last token of harmful prompts, which decides the first answer's.

    (SafeMoE, ICLR 2026.)
    """

    layers: tuple[PromptLayerDrift, ...]
    kl: Estimate | None  # mean over the layers whose router chooses; None: not known of any
    num_prompts: int
    unread: str | None  # why no router's distribution is known; None: they are


@record
class GroupDrift:
    """How far one group of parameters moved."""

    group: str  # "selected experts"
    num_params: int
    num_changed: int  # values whose bits differ
    relative_l2: float  # |tuned - base| / |base|; exactly 0.0 where nothing changed
    largest: float  # largest absolute change


@record
class WeightDrift:
    """How far every group moved; one line of `weights-*.jsonl`, so that it is read whole or not at all."""

    groups: tuple[GroupDrift, ...]


@record
class RestoredRouter:
    """The trained model with the router of its base: did the repair live in the experts, or in a detour?"""

    changed_params: int  # of the router, by the training; 0: "router unchanged", and nothing is answered again
    attack_success: Rate | None  # with the base's router; None: router unchanged, or no harmful item
    attack_success_tuned: Rate | None  # as trained, on the same items
    n: int  # answers that were scored both times
    only_tuned: int  # of them, those whose attack succeeds only as trained
    only_restored: int  # of them, those whose attack succeeds only with the base's router
    clusters_tuned: int  # goals with more successes as trained
    clusters_restored: int  # goals with more successes with the base's router
