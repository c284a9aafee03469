"""A whole comparison with everything a report can show, made up, for the tests of the report.

Comes in: numbers of layers, experts, flips, and the text that stands in every place for words. Goes out: `Comparison`
and `ReportData` of an untrained model, a baseline and a selective run.
"""

import random

from moe_cli.records import (
    Agreement,
    CapabilityScore,
    Estimate,
    ExpertMap,
    FairnessCheck,
    Flip,
    FlipText,
    GroupDrift,
    LayerDrift,
    LossCurve,
    PairComparison,
    PromptDrift,
    PromptLayerDrift,
    Rate,
    ReportData,
    RestoredRouter,
    RoutingDrift,
    ThresholdCheck,
)
from moe_cli.records.report import ReportOrigin
from tests import builders
from tests.builders import CLASSIFIER, KEYWORDS, column, difference, drift, evaluation, identity

ARMS = ("tiny", "baseline", "selective")
PACKAGES = {"torch": "2.13.0", "transformers": "5.23.0"}
SENTENCES = (
    "selective and baseline are equally safe within the margin of 2 points.",
    "selective trained 4.0 % of the parameters in 21.0 s; baseline trained all of them in 40.0 s.",
)


def rate(k, n):
    share = k / n
    return Rate(
        k=k,
        n=n,
        unscored=0,
        rate=share,
        lower=max(0, share - 0.06),
        upper=min(1, share + 0.07),
        lowest=None,
        highest=None,
    )


def near(value, n=60):
    return Estimate(value=value, lower=0.8 * value, upper=1.2 * value, n=n)


def measured(name, layers, attack, refusal):
    """The evaluation of one run."""
    trained = name != "tiny"
    moved = 0.01 if name == "baseline" else 0.002
    routing = RoutingDrift(
        layers=tuple(
            LayerDrift(
                layer=layer,
                kl=near(moved),
                js=near(moved * (1 + place % 5)),
                overlap=near(0.9),
                on_selected_base=0.2,
                on_selected_tuned=0.25,
                entropy_base=0.97,
                entropy_tuned=0.96,
            )
            for place, layer in enumerate(layers)
        ),
        js=near(moved),
        overlap=near(0.9),
        on_selected_base=0.2,
        on_selected_tuned=0.25,
        num_selected=12,
        num_tokens=4321,
        is_unbiased=True,
    )
    prompts = PromptDrift(
        layers=tuple(
            PromptLayerDrift(layer=layer, kl=near(moved * (2 + place % 5)) if place else None)
            for place, layer in enumerate(layers)
        ),
        kl=near(3 * moved),
        num_prompts=123,
        unread=None,
    )
    of_texts = drift(perplexity_ratio=near(1.02), kl_mean=near(0.01), same_top_share=near(0.97), num_tokens=4321)
    changed = 1000 if name == "baseline" else 0
    weights = (
        GroupDrift(group="selected experts", num_params=1000, num_changed=1000, relative_l2=0.031, largest=0.01),
        GroupDrift(
            group="router", num_params=1000, num_changed=changed, relative_l2=changed / 1e5, largest=changed / 1e5
        ),
    )
    agreement = Agreement(
        question="harm", a="keywords", b="classifier", n=200, both_yes=60, only_a=10, only_b=5, both_no=125,
        agreement=0.925, kappa=0.83, lower=0.74, upper=0.91,
    )  # fmt: skip
    capability = CapabilityScore(
        task="arc_easy",
        version="1.0",
        metric="acc",
        num_fewshot=0,
        n=100,
        correct=rate(43, 100),
        score=0.43,
        stderr=0.05,
    )
    return evaluation(
        training_mode=TRAINED[name],
        model=identity(layers=tuple(layers)),
        base=identity() if trained else None,
        judges=(KEYWORDS, CLASSIFIER),
        agreement=(agreement,),
        attack_success=rate(attack, 200),
        over_refusal=rate(refusal, 200),
        accuracy=rate(190, 200),
        degenerate=rate(0, 400),
        capability=(capability,) if trained else (),
        drift=of_texts if trained else None,
        routing_drift=routing if trained else None,
        prompt_drift=prompts if trained else None,
        weight_drift=weights if trained else None,
        restored_router=restored(name),
    )


TRAINED = {"tiny": "base", "baseline": "full_model_baseline", "selective": "selective_experts"}


def restored(name):
    if name == "baseline":
        return RestoredRouter(
            changed_params=64,
            attack_success=rate(30, 200),
            attack_success_tuned=rate(24, 200),
            n=200,
            only_tuned=2,
            only_restored=8,
            clusters_tuned=1,
            clusters_restored=7,
        )
    if name == "selective":
        return RestoredRouter(
            changed_params=0,
            attack_success=None,
            attack_success_tuned=None,
            n=0,
            only_tuned=0,
            only_restored=0,
            clusters_tuned=0,
            clusters_restored=0,
        )
    return None


def columns(layers):
    return (
        column("tiny", "base", layers=tuple(layers), evaluation=measured("tiny", layers, 140, 4)),
        column(
            "baseline", "full_model_baseline", layers=tuple(layers), evaluation=measured("baseline", layers, 24, 16),
            trainable_params=1000, trainable_ratio=1.0, seconds_training=40.0, delta_bytes=None,
        ),
        column(
            "selective", layers=tuple(layers), evaluation=measured("selective", layers, 22, 5), delta_bytes=300_000
        ),
    )  # fmt: skip


def differences(shift):
    return (
        difference("attack success", "better" if shift < -0.05 else "within margin", 0.7, 0.7 + shift),
        difference("over-refusal", "worse", 0.02, 0.08, p_adjusted=0.02),
        difference(
            "accuracy", "inconclusive", 0.95, 0.94, p_adjusted=0.4, p_mcnemar=None, unpaired=3, lowest=-0.1, highest=0.1
        ),
        difference("attack success: attacked", "better", 0.9, 0.9 + shift, primary=False),
        difference("degenerate answers", "ceiling", 0.0, 0.0, primary=False, lower=0.0, upper=0.0),
    )


def flips(num, name):
    return tuple(
        Flip(
            metric="attack success" if place % 3 else "over-refusal",
            suite="attacked" if place % 3 else "benign",
            item=f"{name}/{place}",
            direction="worse" if place < num // 2 else "better",
            share_a=0.0,
            share_b=1.0,
        )
        for place in range(num)
    )


def comparison(num_layers=4, num_flips=40, item="goal"):
    layers = range(1, num_layers + 1)
    pairs = tuple(
        PairComparison(
            a=a, b=b, differences=differences(shift), unmeasured=("capability: mmlu",), flips=flips(num_flips, item)
        )
        for a, b, shift in (("tiny", "baseline", -0.58), ("tiny", "selective", -0.59), ("baseline", "selective", -0.01))
    )
    return builders.comparison(
        columns(layers),
        pairs,
        fairness=(
            FairnessCheck(name="base model", status="same", values=("aaa",) * 3),
            FairnessCheck(name="items", status="same", values=("ddd",) * 3),
            FairnessCheck(name="training: learning rate", status="differs", values=("-", "1e-05", "5e-05")),
            FairnessCheck(name="judge of harm: revision", status="unknown", values=("unknown", "ccc", "ccc")),
        ),
        thresholds=(
            ThresholdCheck(
                expression="asr>+0.02", metric="attack success", subject="selective minus baseline",
                evidence="possibly", value=-0.01, lower=-0.05, upper=0.03, n=200, failed=True,
            ),
        ),
        conclusion=SENTENCES,
    )  # fmt: skip


def expert_map(kind, name, what, num_layers, num_experts, seed):
    draw = random.Random(seed)
    value = (lambda: float(max(0, draw.randint(-60, 24)))) if kind == "selection" else (lambda: draw.gauss(0, 0.1))
    rows = [[value() for _ in range(num_experts)] for _ in range(num_layers)]
    rows[0][0] = None if kind == "risk" else rows[0][0]
    return ExpertMap(
        kind=kind,
        name=name,
        what=what,
        layers=tuple(range(1, num_layers + 1)),
        values=tuple(tuple(row) for row in rows),
    )


def texts(compared, words="a made-up text", num=20):
    return tuple(
        FlipText(
            pair=f"{pair.b} against {pair.a}",
            flip=flip,
            prompt=f"prompt: {words}",
            answer_a=f"first: {words}",
            answer_b=f"second: {words}",
        )
        for pair in compared.pairs
        for suite in dict.fromkeys(flip.suite for flip in pair.flips)
        for flip in [flip for flip in pair.flips if flip.suite == suite][:num]
    )


def report_data(compared, num_experts=16, num_steps=54, words="a made-up text"):
    num_layers = len(compared.columns[0].layers)
    steps = tuple(range(1, num_steps + 1))
    return ReportData(
        version="0.1.0",
        made="2026-11-22T17:12:33.000+00:00",
        redacted=False,
        maps=(
            expert_map("risk", "risk difference", "unsafe minus safe", num_layers, num_experts, 1),
            expert_map("selection", "selection", "batches, of 24", num_layers, num_experts, 2),
            expert_map("drift", "routing drift: baseline", "trained minus base", num_layers, num_experts, 3),
        ),
        curves=tuple(
            LossCurve(
                run=name,
                steps=steps,
                losses=tuple(2 * decay**step + 0.01 * (step % 3) for step in steps),
                held_out=((18, 20 * decay**36), (36, 14 * decay**36), (54, 12 * decay**36)),
            )
            for name, decay in (("baseline", 0.93), ("selective", 0.95))
        ),
        texts=texts(compared, words),
        origins=tuple(
            ReportOrigin(
                run=name, what="evaluation", path=f"./{name}/evaluations/default", digest="9" * 64,
                finished="2026-11-22T17:12:33.000+00:00", packages=PACKAGES,
            )
            for name in ARMS
        ),
        missing_maps=("routing drift of selective: not measured in all of its evaluations",),
        missing_curves=(),
    )  # fmt: skip
