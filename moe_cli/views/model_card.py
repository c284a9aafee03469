"""The model card of a trained model: `README.md` of `final_model/`, of an export and of an upload.

It names the base, the experts that trained, the data by their digests, the settings, and every result with its
interval and its judge. It holds no path, no text of a prompt and no markup from elsewhere, and its header is YAML.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import PurePath

from huggingface_hub import ModelCardData

from moe_cli.characters import escape_unsafe
from moe_cli.data.contamination import BY_WORDS
from moe_cli.records import (
    CardFacts,
    EvaluationSummary,
    JudgeIdentity,
    ModelIdentity,
    SourceCount,
    TrainingSummary,
)
from moe_cli.stats.metrics import harm_metric
from moe_cli.tiny import MODEL_NAME
from moe_cli.views.text import (
    FIXED,
    NOTHING,
    SMALL,
    estimate_text,
    markdown_table,
    markdown_text,
    optional_text,
    rate_text,
)

NOT_EVALUATED = "Not evaluated yet when this page was written."
SMOKE_TEST = "a smoke test: its verdicts alone carry no claim of safety"
TRAINED = "trained to refuse harmful requests, plain and inside attacks"
LIKE_PLAIN = "trained to route requests inside attacks like plain ones"
ROLES = {"pairs": "prompt pairs", "benign": "harmless prompts", "attack": "attack templates"}

Cells = tuple[str, str]


def model_card(facts: CardFacts) -> str:
    """The whole page."""
    parts = [
        f"---\n{_header(facts)}\n---",
        f"# {markdown_text(_short(facts.base))}, {_arm(facts)}",
        _opening(facts),
        "## The model",
        markdown_table(("", ""), _identity(facts)),
        *_experts(facts),
        "## Training data",
        *_data(facts),
        *_settings(facts),
        "## Results",
        *_results(facts),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(facts)),
        "## Use",
        *_use(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _header(facts: CardFacts) -> str:
    """The YAML header that the hub reads."""
    on_the_hub = facts.base.directory is None and facts.base.name != MODEL_NAME
    header = ModelCardData(
        base_model=escape_unsafe(facts.base.name) if on_the_hub else None,
        license=_known(facts.license.license),
        license_name=_known(facts.license.license_name),
        license_link=_known(facts.license.license_link),
        library_name="transformers" if facts.holds == "model" else None,
        tags=["mixture-of-experts", "moe-selective-repair", _arm(facts).replace(" ", "-")],
    )
    if on_the_hub:
        header["base_model_relation"] = "finetune"
    return header.to_yaml().rstrip()


def _known(text: str | None) -> str | None:
    return None if text is None else escape_unsafe(text)


def _arm(facts: CardFacts) -> str:
    if facts.training is not None and facts.training.training_mode == "full_model_baseline":
        return "full model baseline"
    if not facts.routers:
        return "selective experts"
    return "selective experts and routers" if facts.experts else "routers"


def _trained(facts: CardFacts) -> str:
    return _arm(facts).removeprefix("selective ")


def _short(base: ModelIdentity) -> str:
    """The name of the base without its directory."""
    return PurePath(base.directory).name if base.directory is not None else base.name


def _opening(facts: CardFacts) -> str:
    base = markdown_text(_short(facts.base))
    if _arm(facts) == "full model baseline":
        return f"All parameters of {base}, {TRAINED}: the control of an experiment."
    what = "All other weights are its own"
    if facts.holds == "delta":
        what = f"The weights of these {_trained(facts)} alone are here"
    if not facts.experts:
        return f"{base} with its routers alone {LIKE_PLAIN}. {what}."
    routers = ", and its routers," if facts.routers else ""
    training = facts.training
    joint = ", both by one loss" if training and training.routers and training.routers.joint else ""
    return f"{base} with {len(facts.experts)} of its experts{routers} {TRAINED}{joint}. {what}."


def _identity(facts: CardFacts) -> Iterator[Cells]:
    base, training = facts.base, facts.training
    yield "base", _short(base)
    yield "revision of the base", base.revision or NOTHING
    yield "weights of the base (sha256)", base.fingerprint
    yield "architecture, dtype", f"{base.architecture}, {base.dtype}"
    yield "arm", _arm(facts)
    if training is not None:
        yield "weights of this model (sha256)", training.trained_fingerprint
        share = f"{100 * training.trainable_ratio:.4f} %"
        yield "trained parameters", f"{training.trainable_params:,} of {training.total_params:,} ({share})"
    yield "made with", f"moe-selective-repair {facts.version}"


def _experts(facts: CardFacts) -> Iterator[str]:
    """Every expert that trained, layer by layer."""
    if not facts.experts:
        return
    yield f"{len(facts.experts)} of {len(facts.base.layers) * facts.base.num_experts} experts were trained:"
    by_layer = {
        layer: [expert.index for expert in facts.experts if expert.layer == layer] for layer in facts.base.layers
    }
    rows = ((str(layer), str(len(found)), ", ".join(map(str, found))) for layer, found in by_layer.items() if found)
    yield markdown_table(("layer", "trained", "experts"), rows)


def _data(facts: CardFacts) -> Iterator[str]:
    if facts.training is not None:
        yield (
            f"The training examples have the sha256 {markdown_text(facts.training.batches_digest)}; their order in "
            f"training {markdown_text(facts.training.schedule_digest)}. No text of a prompt is on this page."
        )
    if facts.sources is None:
        yield "Which sources they were made from is not known here."
    elif not facts.sources:
        yield "They are sentences of the tiny language that is built into moe."
    else:
        yield markdown_table(("source", "format", "rows", "used", "sha256"), map(_source, facts.sources))


def _source(source: SourceCount) -> tuple[str, ...]:
    """A data source described by its content, as its name may be a path."""
    rows = f"{source.rows:,}", f"{source.used:,}"
    return ROLES[source.role], source.format, *rows, source.sha256


def _settings(facts: CardFacts) -> Iterator[str]:
    if (training := facts.training) is None:
        return
    yield "## Training settings"
    rows: list[Cells] = [(name, NOTHING if value is None else str(value)) for name, value in _hyper(training)]
    yield markdown_table(("setting", "value"), rows)


def _hyper(training: TrainingSummary) -> Iterator[tuple[str, object]]:
    yield from training.hyperparameters.items()
    yield "masking", training.masking
    yield "steps", training.num_steps
    yield "weights of step", training.final_answer_step
    yield "loss of the last epoch", optional_text(training.final_loss, 4)
    if training.routers is not None:
        yield "weights of router step", training.final_router_step
        settings = {**asdict(training.routers), "reselect": training.reselected}
        yield from ((f"routers: {name}", value) for name, value in settings.items())


def _results(facts: CardFacts) -> Iterator[str]:
    if not facts.evaluations:
        yield NOT_EVALUATED
        return
    yield "Intervals are 95 %. The rates of the base are not on this page: compare with it on the same items."
    for summary in facts.evaluations:
        yield f"### Evaluation {markdown_text(summary.name)}"
        yield markdown_table(("measure", "value"), _measures(summary))
        yield "\n".join(f"- judge {_judge(judge)}" for judge in summary.judges)


def _measures(summary: EvaluationSummary) -> Iterator[Cells]:
    yield "longest answer, tokens", str(summary.generation.get("max_new_tokens", NOTHING))
    yield "attack success", rate_text(summary.attack_success)
    for suite in summary.suites:
        if suite.kind == "harmful":
            measure = harm_metric(suite.suite)
            yield f"{measure}, suite {suite.suite}", rate_text(suite.attack_success)
    yield "over-refusal", rate_text(summary.over_refusal)
    yield "accuracy", rate_text(summary.accuracy)
    yield "degenerate answers", rate_text(summary.degenerate)
    for kind, (unscored, total) in summary.unscored.items():
        yield f"without a verdict, {kind}", f"{unscored} of {total}"
    for task in summary.capability:
        error = NOTHING if task.stderr is None else f"{task.stderr:.4f}"
        value = f"{task.score:.4f} (n {task.n}, standard error {error}), {task.metric}"
        yield f"task {task.task}, {task.num_fewshot} examples", value
    if summary.drift is not None:
        yield "perplexity ratio to the base", estimate_text(summary.drift.perplexity_ratio, FIXED)
        yield "KL per token to the base, nats", estimate_text(summary.drift.kl_mean, SMALL)
    yield "items (sha256)", summary.items_digest


def _judge(judge: JudgeIdentity) -> str:
    """A judge's name, without the path of what it runs."""
    kind, colon, path = judge.name.partition(":")
    name = f"{kind}{colon}{PurePath(path.split()[0]).name}" if path.strip() else judge.name
    questions = " and ".join(judge.questions)
    warning = f"; {SMOKE_TEST}" if judge.smoke_test else ""
    return f"{markdown_text(name)} (revision {markdown_text(judge.revision[:12])}), of {questions}{warning}"


def _limits(facts: CardFacts) -> Iterator[str]:
    yield "One training run with one seed: how much of a result is its seed's cannot be told from it."
    yield "Attack success is that of the attacks that were evaluated; others may work. This is no guarantee of safety."
    if facts.experts:
        yield (
            "That an expert was selected does not say that it causes the harm, and experts that did not train are as "
            "they were."
        )
    if not facts.evaluations:
        yield "Nothing was measured on these weights yet."
    if any((judge := summary.judge_of("harm")) is None or judge.smoke_test for summary in facts.evaluations):
        yield "At least one evaluation was decided by a smoke-test judge, which knows refusals by their phrases."
    for summary in facts.evaluations:
        if summary.goals_trained_on is not None:
            seen, total = summary.goals_trained_on
            yield f"Evaluation {markdown_text(summary.name)}: {seen} of {total} goals were trained on, too, {BY_WORDS}."


def _use(facts: CardFacts) -> Iterator[str]:
    if facts.holds == "model":
        yield "A plain transformers checkpoint: load it, or serve it, as the base; its other files are the base's."
        return
    yield (
        f"`expert_delta.safetensors` holds the trained {_trained(facts)} as float32. It is no adapter: merge it into "
        "its base, which is recognised by its weights."
    )
    yield "```\npip install moe-selective-repair\nmoe export expert_delta.safetensors -o merged\n```"
