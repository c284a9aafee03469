"""Records for the tests: each function takes the few values that a test is about, and fills in plain ones.

Whatever is given by name stands in the record as it is.
"""

from moe_cli.records.comparison import (
    ComparedArm,
    Comparison,
    ImportedOutcomes,
    PairComparison,
    PairedDifference,
    RunColumn,
)
from moe_cli.records.drift import DriftSummary, Estimate
from moe_cli.records.evaluation import EvaluationRecord, EvaluationSummary
from moe_cli.records.inputs import EvaluationItem, Generation, Message, ModelIdentity
from moe_cli.records.judging import QUESTIONS, JudgeIdentity, PublishedAgreement, Verdict
from moe_cli.records.record import Rate
from moe_cli.records.training import RouterTraining, TrainableCount, TrainingExample, TrainingProof, TrainingSummary

TRAINED = "e" * 64  # fingerprint of the weights that a training wrote
NO_RATE = Rate.of_counts(0, 0, 0)
ATTACKED = PublishedAgreement(agreement=0.55, kappa=0.17, n=519, judge="a GPT-4 judge", answers="answers to attacks")


def judge(name, questions=QUESTIONS, **changes):
    values = {
        "revision": name[0] * 64,
        "tells_partial": True,
        "source": None,
        "published_accuracy": None,
        "smoke_test": False,
    }
    return JudgeIdentity(name=name, questions=questions, **(values | changes))


KEYWORDS = judge("keywords", published_accuracy=(0.8, 0.88), smoke_test=True, attacked_agreement=ATTACKED)
CLASSIFIER = judge("classifier", source="somebody/classifier")


def user(*texts):
    """A turn of the user for each text."""
    return tuple(Message(role="user", content=text) for text in texts)


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


def routers(**changes):
    values = {
        "num_rounds": 3,
        "expert_epochs_per_round": 1,
        "router_epochs_per_round": 1,
        "learning_rate": 1e-4,
        "warmup_steps": 5,
        "num_steps": 54,
        "largest_move": 0.003,
        "median_weight": 0.02,
        "divergence": "forward",
        "region": "answer",
        "target": "round",
        "over": "pair",
        "layers": (0, 1),
        "keep": 0.0,
        "temperature": 1.0,
        "num_pairs": 144,
        "num_params": 64,
    }
    return RouterTraining(**(values | changes))


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


def item(id, **changes):
    values = {"suite": "attacked", "kind": "harmful", "cluster": id, "messages": (), "expected": None}
    return EvaluationItem(id=id, **(values | changes))


def answered(id, label, *, kind="harmful", suite="attacked", cluster=None, expected=None, **changes):
    """An answer with this label, which is harmful where a harmful item is not refused in full."""
    harmful = None if kind == "benign" or label in (None, "degenerate") else label != "full_refusal"
    verdict = Verdict(label=label, harmful=harmful, reason="")
    values = {
        "item": item(id, suite=suite, kind=kind, cluster=cluster or id, expected=expected),
        "answer": "",
        "num_answer_tokens": 1,
        "finished": True,
        "verdict": verdict,
        "verdicts": (verdict,),
        "correct": None,
    }
    return EvaluationRecord(**(values | changes))


def generation(prompt_id, text="", **changes):
    """The model's answer to a prompt, with an id for each of its words."""
    values = {
        "token_ids": tuple(range(len(text.split()))),
        "num_prompt_tokens": 3,
        "finished": True,
        "answer_ids": "generated",
    }
    return Generation(prompt_id=prompt_id, text=text, **(values | changes))


def example(source, kind="refuse_plain", *, cluster=None, batch=0, messages=()):
    """A training example that is made of one form of a pair, or of a benign prompt."""
    form = {"refuse_plain": "safe", "refuse_attacked": "unsafe", "benign": "benign"}[kind]
    return TrainingExample(
        id=f"{source}#{form}",
        batch_idx=batch,
        side="unsafe" if kind == "refuse_attacked" else "safe",
        kind=kind,
        cluster=cluster or source,
        messages=messages,
    )


def drift(**changes):
    values = {
        "perplexity_ratio": Estimate(value=1.02, lower=1.01, upper=1.04, n=60),
        "kl_mean": Estimate(value=0.01, lower=0.008, upper=0.012, n=60),
        "kl_99": 0.2,
        "same_top_share": Estimate(value=0.9, lower=0.8, upper=0.95, n=60),
        "perplexity_base": 2.0,
        "perplexity_tuned": 2.04,
        "num_tokens": 600,
    }
    return DriftSummary(**(values | changes))


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


def pair(*differences, a="baseline", b="selective", unmeasured=()):
    return PairComparison(a=a, b=b, differences=differences, unmeasured=unmeasured, flips=())


def arms_of(columns):
    return tuple(ComparedArm(name=column.name, runs=(column.name,)) for column in columns)


def comparison(columns, pairs=(), **changes):
    """A comparison of these runs, each an arm of its own."""
    values = {
        "arms": arms_of(columns),
        "fairness": (),
        "margin": 0.02,
        "confidence": 0.95,
        "thresholds": (),
        "conclusion": (),
    }
    return Comparison(columns=columns, pairs=pairs, **(values | changes))
