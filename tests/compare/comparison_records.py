"""Records of made-up runs, for the tests of this room.

Comes in: the few values a test is about. Goes out: whole records with plain values for the rest.
"""

import numpy as np

from moe_cli.compare.items import evaluated_items, match_items
from moe_cli.compare.paired import ArmItems, compare_pair
from moe_cli.records.comparison import ComparedArm, ImportedOutcomes, PairComparison, PairedDifference, RunColumn
from moe_cli.records.evaluation import EvaluationRecord, EvaluationSummary
from moe_cli.records.inputs import EvaluationItem, ModelIdentity
from moe_cli.records.judging import QUESTIONS, JudgeIdentity, PublishedAgreement, Verdict
from moe_cli.records.record import Rate
from moe_cli.records.training import TrainableCount, TrainingProof, TrainingSummary
from moe_cli.stats.intervals import seed_spread

TRAINED = "e" * 64  # fingerprint of the weights that a training wrote
NO_RATE = Rate.of_counts(0, 0, 0)
ATTACKED = PublishedAgreement(agreement=0.55, kappa=0.17, n=519, judge="a GPT-4 judge", answers="answers to attacks")
KEYWORDS = JudgeIdentity(
    name="keywords",
    revision="k" * 64,
    tells_partial=True,
    questions=QUESTIONS,
    source=None,
    published_accuracy=(0.8, 0.88),
    smoke_test=True,
    attacked_agreement=ATTACKED,
)
CLASSIFIER = JudgeIdentity(
    name="classifier",
    revision="c" * 64,
    tells_partial=True,
    questions=QUESTIONS,
    source="somebody/classifier",
    published_accuracy=None,
    smoke_test=False,
)


def identity(**changes):
    values = {
        "name": "tiny",
        "directory": None,
        "revision": None,
        "architecture": "OlmoeForCausalLM",
        "fingerprint": "a" * 64,
        "dtype": "float32",
        "layers": (0, 1),
        "num_experts": 16,
        "top_k": 4,
        "total_params": 1000,
        "chat_template": "b" * 64,
        "settings": "e" * 64,
    }
    return ModelIdentity(**(values | changes))


def evaluation(**changes):
    values = {
        "name": "default",
        "model": identity(fingerprint=TRAINED) if changes.get("run") else identity(),
        "run": None,
        "training_mode": "base",
        "base": identity(),
        "items_digest": "d" * 64,
        "goals_trained_on": None,
        "judges": (CLASSIFIER,),
        "agreement": (),
        "epochs": 1,
        "generation": {"max_new_tokens": 32, "batch_size": 16},
        "suites": (),
        "attack_success": NO_RATE,
        "over_refusal": NO_RATE,
        "accuracy": NO_RATE,
        "degenerate": NO_RATE,
        "unscored": {},
        "max_unscored": 0.02,
        "capability": (),
        "drift": None,
        "routing_drift": None,
        "weight_drift": None,
        "restored_router": None,
        "taken": {},
        "seconds": 1.0,
    }
    return EvaluationSummary(**(values | changes))


def column(name, training_mode="selective_experts", **changes):
    trained = training_mode != "base"
    weights = name.ljust(64, "0") if trained else "a" * 64
    values = {
        "path": f"./{name}",
        "training_mode": training_mode,
        "trainable_params": 40 if trained else None,
        "total_params": 1000,
        "trainable_ratio": 0.04 if trained else None,
        "experts_per_layer": (3, 5) if trained else None,
        "num_experts": 16,
        "layers": (0, 1),
        "seconds_training": 21.0 if trained else None,
        "peak_memory_bytes": 812_000_000 if trained else None,
        "peak_memory_of": "process (resident set)" if trained else None,
        "final_model_bytes": 6_000_000 if trained else None,
        "delta_bytes": None,
        "num_steps": 54 if trained else None,
        "final_step": 54 if trained else None,
        "final_loss": 0.1 if trained else None,
        "held_out_loss": None,
        "items_left_out": None,
        "goals_trained_on": None,
        "evaluation": evaluation(training_mode=training_mode, model=identity(fingerprint=weights)),
        "imported": None,
    }
    return RunColumn(name=name, **(values | changes))


def imported(name, **changes):
    values = {
        "source": "x.csv",
        "sha256": "",
        "metric": "accuracy",
        "graded": False,
        "n": 100,
        "unanswered": 0,
        "rate": 0.4,
        "rate_answered": 0.4,
        "lowest": 0.4,
        "highest": 0.4,
    }
    return column(name, "imported", evaluation=None, imported=ImportedOutcomes(**(values | changes)))


def training(**changes):
    values = {
        "training_mode": "selective_experts",
        "base": identity(),
        "trained_fingerprint": TRAINED,
        "prepared": "f" * 64,
        "batches_digest": "1" * 64,
        "schedule_digest": "2" * 64,
        "total_unique_unsafe_experts": None,
        "per_batch_unsafe_expert_counts": None,
        "batch_unsafe_experts_summary": None,
        "count": TrainableCount(
            trainable_params=40, total_params=1000, trainable_ratio=0.04, experts_per_layer=(3, 5), num_experts=16
        ),
        "trainable_params": 40,
        "total_params": 1000,
        "trainable_ratio": 0.04,
        "note": "",
        "masking": None,
        "hyperparameters": {"learning_rate": 5e-5, "seed": 42},
        "num_steps": 54,
        "validation": (),
        "final_step": 54,
        "num_answer_tokens": 6048,
        "num_tokens": 37800,
        "num_padded_tokens": 40120,
        "final_loss": 0.1,
        "seconds_training": 21.0,
        "peak_memory_bytes": 1,
        "peak_memory_of": "process (resident set)",
        "experts_implementation": "moe_slices",
        "experts_dtype": "float32",
        "num_threads": 2,
        "proof": TrainingProof(
            requested=1,
            in_optimizer=1,
            with_gradient=1,
            frozen_digest_before=None,
            frozen_digest_after=None,
            num_moved=None,
            num_parameters=None,
        ),
    }
    return TrainingSummary(**(values | changes))


def answered(id, label, *, kind="harmful", suite="attacked", cluster=None, expected=None, correct=None):
    harmful = None if kind == "benign" or label in (None, "degenerate") else label != "full_refusal"
    return EvaluationRecord(
        item=EvaluationItem(id=id, suite=suite, kind=kind, cluster=cluster or id, messages=(), expected=expected),
        answer="",
        num_answer_tokens=1,
        finished=True,
        verdict=Verdict(label=label, harmful=harmful, reason=""),
        verdicts=(Verdict(label=label, harmful=harmful, reason=""),),
        correct=correct,
    )


def difference(metric, verdict, rate_a, rate_b, **changes):
    values = {
        "better": "higher" if metric == "accuracy" else "lower",
        "primary": True,
        "graded": False,
        "n": 100,
        "clusters": 100,
        "unpaired": 0,
        "lowest": None,
        "highest": None,
        "difference": rate_b - rate_a,
        "lower": rate_b - rate_a - 0.05,
        "upper": rate_b - rate_a + 0.05,
        "only_a": 0,
        "only_b": 0,
        "p_mcnemar": 0.001,
        "p_value": 0.001,
        "p_adjusted": 0.003,
        "detectable": 0.1,
        "seeds": None,
    }
    values["effective_clusters"] = float(changes.get("clusters", values["clusters"]))
    return PairedDifference(metric=metric, verdict=verdict, rate_a=rate_a, rate_b=rate_b, **(values | changes))


def seeds(num_a=5, num_b=5):
    """The spread of runs with rates from 0.1 to 0.3."""
    return seed_spread(np.linspace(0.1, 0.3, num_a), np.linspace(0.1, 0.3, num_b))


def unchanged(metric, rate=0.0):
    """A price that was measured, and not paid."""
    return difference(metric, "within margin", rate, rate, primary=metric == "accuracy", lower=-0.01, upper=0.01)


NOT_PAID = (unchanged("accuracy", 0.9), unchanged("not fully answered"), unchanged("cut-off answers to attacks"))


def with_prices(differences):
    """The differences, with those of the prices that the rules ask for and the test is not about."""
    known = {found.metric for found in differences}
    return (*differences, *(price for price in NOT_PAID if price.metric not in known))


def pair(*differences, a="baseline", b="selective", unmeasured=()):
    return PairComparison(a=a, b=b, differences=differences, unmeasured=unmeasured, flips=())


def arms_of(columns):
    return tuple(ComparedArm(name=column.name, runs=(column.name,)) for column in columns)


def arm(name, *runs, seeded=True):
    """An arm of runs, each a list of evaluation records."""
    names = tuple(f"{name}_{number}" for number in range(len(runs)))
    return ArmItems(name, names, tuple(evaluated_items(name, records) for records in runs), seeded)


def compared_runs(records_a, records_b, *, margin=0.02, intersect=False):
    """Run b against run a, each a list of evaluation records."""
    a, b = arm("a", records_a), arm("b", records_b)
    runs = match_items(["a", "b"], [a.runs[0], b.runs[0]], intersect=intersect).runs
    matched = (ArmItems(name, (name,), (run,), seeded=True) for name, run in zip("ab", runs, strict=True))
    return compare_pair(*matched, margin=margin)
