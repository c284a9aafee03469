"""Settings of `moe ablate` and `moe sweep`, which ask what a selection is worth, and of the alternating arm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from moe_cli.config.sections import BY_BUDGET, Count, Method, Section, Seed, as_share

Number = TypeVar("Number", int, float)


def _as_parts(value: object) -> object:
    """`1,2,3`, and the same as several words, as people write them; `none` is no part."""
    if isinstance(value, (list, tuple)):
        nested = [_as_parts(one) for one in value]
        return [part for one in nested for part in (one if isinstance(one, list) else [one])]
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip() not in ("", "none")]
    return value


def _as_shares(value: object) -> object:
    parts = _as_parts([value] if isinstance(value, float) else value)
    return [as_share(part) for part in parts] if isinstance(parts, list) else parts


def _ordered(numbers: tuple[Number, ...]) -> tuple[Number, ...]:
    """Each number once, in ascending order, so that no order of words changes a sweep."""
    return tuple(sorted(set(numbers)))


def _at_least_one(numbers: tuple[Number, ...]) -> tuple[Number, ...]:
    """Refuse none, which is what a variable of the shell gives that is not set."""
    if not numbers:
        raise ValueError("it is empty; a sweep is over one budget or more: `1%,2%,5%`")
    return numbers


def _swept(methods: tuple[Method, ...]) -> tuple[Method, ...]:
    """Refuse no method, those that no budget cuts, and the random control, which every sweep has."""
    if not methods:
        raise ValueError(f"it is empty; a sweep is of one method or more: {', '.join(BY_BUDGET)}")
    if wrong := [method for method in methods if method not in BY_BUDGET]:
        raise ValueError(f"a sweep is over budgets, which `{wrong[0]}` does not have; there are {', '.join(BY_BUDGET)}")
    return tuple(dict.fromkeys(methods))


class SweepConfig(Section):
    """`moe sweep`."""

    output_dir: Path = Field(Path("sweep"), description="where the sweep is written")
    budgets: Annotated[
        tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...],
        BeforeValidator(_as_shares),
        AfterValidator(_at_least_one),
        AfterValidator(_ordered),
    ] = Field((0.01, 0.02, 0.05, 0.1, 0.2), description="budgets, shares of all parameters: `1%,2%,5%,10%,20%`")
    methods: Annotated[tuple[Method, ...], BeforeValidator(_as_parts), AfterValidator(_swept)] = Field(
        ("risk_diff",), description="what selects: `risk_diff,frequency,gradient`, or `stability`"
    )
    random_draws: Annotated[int, Field(ge=0, lt=2**15)] = Field(
        5, description="random selections at every budget, as many experts per layer as the method has"
    )
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_as_parts), AfterValidator(_ordered)] = Field(
        (), description="seeds of the training, `1,2,3`; default: the one seed"
    )
    scales: Annotated[
        tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...], BeforeValidator(_as_shares), AfterValidator(_ordered)
    ] = Field((), description="also evaluated: this part of what training changed, `0.25,0.5,0.75`")


class AblateConfig(Section):
    """`moe ablate`."""

    output_dir: Path = Field(Path("ablation"), description="where the ablation is written")
    intervention: Literal["reroute", "zero", "mean"] = Field(
        "reroute",
        description="others are chosen instead; or the experts give nothing, or their mean over the text items",
    )
    tokens: Literal["all", "prompt", "answer"] = Field("all", description="tokens at which the experts are taken away")
    without_router_effects: bool = Field(
        False,
        description="later layers keep the choices and weights of the model as it is (routing replay)",
    )
    side: Literal["unsafe", "safe"] = Field(
        "unsafe", description="the selected experts; or those more active while plain goals are refused, on plain goals"
    )
    controls: Annotated[int, Field(ge=19, lt=2**15)] = Field(
        39, description="control sets of equally used experts; 19 are the least for p = 0.05"
    )
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.1,
        description="an effect of the experts' own up to it does not matter; *not specific*: no more is left possible",
    )
    each: bool = Field(False, description="also take every selected expert away alone")
    same_goals: bool = Field(False, description="allow items whose goals chose the experts")


class AlternatingConfig(Section):
    """`moe train alternating`, beside the settings of both other arms."""

    output_dir: Path = Field(Path("alternating_optimization"), description="where the alternating arm writes")
    num_rounds: Count = Field(3, description="rounds: the experts train, then the routers")
    expert_epochs_per_round: Count = Field(
        1, description="passes over the batches in which the experts train, routers locked"
    )
    router_epochs_per_round: int = Field(
        1, ge=0, lt=2**31, description="passes over the batches in which the routers train, experts locked"
    )
    router_consistency_weight: float = Field(
        0.0,
        ge=0.0,
        description="weight of the routers' consistency in a joint step, which trains experts and routers by one loss "
        "instead of router epochs; 0: in turn",
    )
    router_learning_rate: float = Field(1e-4, gt=0.0, description="peak learning rate of the routers")
    kl_type: Literal["forward", "reverse", "symmetric"] = Field(
        "forward", description="KL(plain || attacked) of the routers' distributions, the other way, or the mean of both"
    )
    consistency_at: Literal["answer", "last_prompt", "all"] = Field(
        "answer", description="tokens whose routing is compared: of the answer, the prompt's last one, or all"
    )
    consistency_target: Literal["round", "base", "current", "both"] = Field(
        "round",
        description="router that the plain goals are read with: of the phase's start, of the base, or the one that "
        "trains, without a gradient; `both`: with one, in a joint step alone",
    )
    consistency_over: Literal["pair", "batch", "token"] = Field(
        "pair", description="distributions that are compared: means over the tokens of a pair, or of a batch; or tokens"
    )
    consistency_layers: Literal["all", "selected"] = Field(
        "all", description="routers that train and are compared: all, or those of layers with a selected expert"
    )
    keep: float = Field(
        0.0, ge=0.0, description="weight of the routers' drift on benign and plain goals since the phase began"
    )
    temperature: float = Field(1.0, ge=0.01, le=100.0, description="by which logits of routers are divided")
    reselect: Literal["none", "replay", "answers", "gradient"] = Field(
        "none",
        description="experts of rounds 2 and on: those of the prepare run; or selected on the model as trained so far: "
        "by its rule from its answers replayed, or from new answers; or by its refusals' gradients",
    )
    skip_router_training: bool = Field(
        False, description="train no router: the selective arm, where rounds x expert epochs are its epochs"
    )
    skip_expert_training: bool = Field(
        False, description="train no expert: the phases of the routers alone, to tell what these do by themselves"
    )

    @model_validator(mode="after")
    def _something_trains(self) -> AlternatingConfig:
        if self.skip_expert_training and not self.trains_routers:
            raise ValueError("neither experts nor routers would train; leave one of both to train")
        if self.skip_expert_training and self.reselect != "none":
            raise ValueError("experts are selected anew for their own phases, of which there are none")
        return self

    @model_validator(mode="after")
    def _joint_step_is_whole(self) -> AlternatingConfig:
        if not self.joint:
            if self.consistency_target == "both":
                raise ValueError(
                    "a phase of the routers trains attacked goals to a target: `both` sides get a gradient in a joint "
                    "step alone, with router_consistency_weight"
                )
            return self
        for off, of in (("skip_router_training", "routers"), ("skip_expert_training", "experts")):
            if getattr(self, off):
                raise ValueError(
                    f"a joint step (router_consistency_weight) trains experts and routers by one loss; {off} would "
                    f"leave its {of} out: leave one of both settings away"
                )
        if self.router_epochs_per_round > 1:
            raise ValueError(
                "in a joint step (router_consistency_weight) the routers train with the experts, and have no epochs of "
                "their own: leave router_epochs_per_round away"
            )
        if self.keep:
            raise ValueError(
                "`keep` holds routers to the start of a phase in which no expert moves; in a joint step "
                "(router_consistency_weight) the experts move what it is measured on: leave one of both away"
            )
        if self.reselect != "none":
            raise ValueError(
                "experts are selected anew behind a phase of the routers, and joint steps (router_consistency_weight) "
                "have none: leave reselect away"
            )
        return self

    @model_validator(mode="after")
    def _rounds_have_routers(self) -> AlternatingConfig:
        if self.reselect != "none" and not self.router_epochs:
            raise ValueError("experts are selected anew between phases of the routers, of which there are none")
        return self

    @model_validator(mode="after")
    def _tokens_are_the_same(self) -> AlternatingConfig:
        if self.consistency_over == "token" and self.consistency_at == "all":
            raise ValueError("token by token the two forms share their answer alone; compare over `pair`, or `answer`")
        return self

    @property
    def num_expert_epochs(self) -> int:
        """Passes over the batches in which the experts train, of all rounds."""
        return self.num_rounds * self.expert_epochs

    @property
    def expert_epochs(self) -> int:
        """Passes of a round in which the experts train."""
        return 0 if self.skip_expert_training else self.expert_epochs_per_round

    @property
    def router_epochs(self) -> int:
        """Passes of a round in which the routers train, and no expert does."""
        return 0 if self.skip_router_training or self.joint else self.router_epochs_per_round

    @property
    def joint(self) -> bool:
        """Whether each step trains experts and routers by one loss."""
        return self.router_consistency_weight > 0

    @property
    def trains_routers(self) -> bool:
        """Whether the routers train, by themselves or with the experts."""
        return self.joint or self.router_epochs > 0
