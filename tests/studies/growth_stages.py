"""The stages that need no model, each on made-up inputs of any number: placeholders, no harmful text.

A stage makes its inputs, and gives back the work that is measured. Every goal of `moe prepare` is a cluster of its own,
which is the most there can be; evaluated items come three to a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import patch

import numpy as np

from moe_cli.ablate.specificity import contrast_of, detectable_specific_effect, effect_estimate, effect_p
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.journal import Journal
from moe_cli.codec import decode_lines, lines_of_records
from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.compare.comparison_texts import worst_flips
from moe_cli.compare.label_draw import draw_answers
from moe_cli.compare.stage import compare
from moe_cli.config import MoeConfig
from moe_cli.data.contamination import clusters_trained_on, trained_goals
from moe_cli.evaluate.evaluation_files import Subject, summarise_evaluation, write_evaluation
from moe_cli.evaluate.evaluation_items import load_items, preview_of_items
from moe_cli.evaluate.model_drift import Drift
from moe_cli.evaluate.text_drift import summarise_drift
from moe_cli.evaluate.verdicts import judge_answers
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.model.token_rows import length_batches
from moe_cli.prepare import prepare_files, replays
from moe_cli.prepare.batches import batch_examples, composition, plan_batches
from moe_cli.prepare.filtering import answered_prompts, questions_of
from moe_cli.prepare.prepare_files import write_risk
from moe_cli.prepare.prompt_sources import gather_prompts
from moe_cli.prepare.routing_file import read_counts, write_counts
from moe_cli.prepare.selection_evidence import SelectionResult, find_experts, selection_rule
from moe_cli.prepare.uncertainty import ExpertParts, estimate_risk_differences
from moe_cli.prepare.union_evidence import select_from_noise
from moe_cli.records import (
    DriftItem,
    EvaluationItem,
    EvaluationRecord,
    Generation,
    HarmlessCounts,
    JudgedAnswer,
    PromptPair,
    ReportData,
    RiskDifferences,
    RoutingCounts,
    Selection,
    TrainingExample,
    Verdict,
)
from moe_cli.records.inputs import form_id
from moe_cli.stats.metrics import metrics_of
from moe_cli.stats.outcomes import evaluated_items, find_flips, match_items, paired_outcomes
from moe_cli.views.report.page import report_page
from tests.builders import CLASSIFIER, KEYWORDS, answered, column, evaluation, example, generation, identity, user

Work = Callable[[], object]
LAYERS, EXPERTS, TOP_K, SEEN = 4, 16, 4, 100  # of the made-up counts
PARTS = composition(16, 0.5, 0.0)
MODEL = identity(layers=tuple(range(LAYERS)), num_experts=EXPERTS, top_k=TOP_K, total_params=2 * LAYERS * EXPERTS)


def texts(num: int, seed: int = 0) -> list[str]:
    """Ten placeholder words each, no two alike."""
    drawn = np.random.default_rng(seed).integers(0, 3000, size=(num, 9))
    return [f"zorp{number} " + " ".join(f"word{one}" for one in row) for number, row in enumerate(drawn.tolist())]


def pairs(num: int) -> list[PromptPair]:
    return [
        PromptPair(
            id=f"pair-{n}", goal=text, cluster=f"goal-{n}", safe=user(text), unsafe=user(f"Story: {text}"), attack=None
        )
        for n, text in enumerate(texts(num))
    ]


def read_pairs(num: int, place: Path, **more: str) -> Work:
    rows = [{"goal": text, "safe": text, "unsafe": f"Story: {text}", **more} for text in texts(num)]
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = MoeConfig.model_validate({"prepare": {"pairs": [str(place / "pairs.jsonl")], "extra_replays": False}})
    return lambda: gather_prompts(config)


def read_pairs_of_one_id(num: int, place: Path) -> Work:
    return read_pairs(num, place, id="one")


def keep_answers(num: int, place: Path) -> Work:
    questions = questions_of(pairs(num), [])
    answers = {question.id: generation(question.id, "Sure, word") for question in questions}
    refused, complied = (Verdict(label=label, harmful=None, reason="") for label in ("full_refusal", "compliance"))
    verdicts = {question.id: refused if question.side == "safe" else complied for question in questions}
    return lambda: answered_prompts(questions, answers, verdicts, by_harm=False, keep_all=False)


def make_batches(num: int, place: Path) -> Work:
    made = pairs(num)

    def work() -> object:
        plans = plan_batches(made, [], PARTS, seed=1)
        targets = {pair.id: "No." for pair in made}
        lengths = [len(pair.goal) for pair in made]
        examples = [one for b, plan in enumerate(plans) for one in batch_examples(plan, b, PARTS, targets, {})]
        return examples, length_batches(lengths, max_rows=64, max_tokens=16384)

    return work


def counts(num: int) -> RoutingCounts:
    random, shape = np.random.default_rng(0), (num, 2, LAYERS, EXPERTS)
    routed = random.integers(0, SEEN // 4, size=shape, dtype=np.int32)
    names = tuple(f"pair-{number}" for number in range(num))
    return RoutingCounts(
        layers=MODEL.layers,
        top_k=TOP_K,
        pair_ids=names,
        clusters=names,
        routed=routed,
        seen=np.full(shape[:2], SEEN),
        gates=routed / TOP_K,
        gradients=None,
        crossed=random.integers(0, SEEN // 4, size=shape, dtype=np.int32),
        harmless=HarmlessCounts(
            prompt_ids=names,
            clusters=names,
            routed=random.integers(0, SEEN // 4, size=shape, dtype=np.int32),
            seen=np.full(num, SEEN),
        ),
    )


def batches_of(num: int) -> list[range]:
    return [range(start, start + PARTS.num_pairs) for start in range(0, num - PARTS.num_pairs + 1, PARTS.num_pairs)]


def settings() -> MoeConfig:
    return MoeConfig.model_validate({"prepare": {"budget": 0.2}})


def count_replays(num: int, place: Path) -> Work:
    """What is kept of every replay; the model's part is left out."""
    made = pairs(num)
    answers = {form_id(pair.id, side): generation("", "a b c") for pair in made for side in ("safe", "unsafe")}
    loaded = SimpleNamespace(tokenizer=None, identity=MODEL, layers=MODEL.layers, model=None)
    random = np.random.default_rng(0)

    def counted(_: object, __: object, rows: Sequence[object], regions: Sequence[object]) -> tuple[object, ...]:
        num_regions = len(regions)
        routed = random.integers(0, SEEN // 4, size=(len(rows), num_regions, LAYERS, EXPERTS))
        return routed, routed / TOP_K, np.full((len(rows), num_regions), SEEN)

    def work() -> object:
        with (
            patch.object(replays, "_count", counted),
            patch.object(replays, "encode_prompt", lambda *_: (1, 2, 3)),
            patch.object(replays, "reasoning_tokens", lambda *_: ()),
            patch.object(replays, "record_routing", nullcontext),
        ):
            sizes = {"batch_size": 64, "batch_tokens": 16384, "notify": lambda _: None, "crossed": True}
            return replays.count_routing(loaded, made, answers, (), place, **sizes)

    return work


def estimate_risk(num: int, place: Path) -> Work:
    config, table = settings(), counts(num)
    rule = selection_rule(config.prepare, MODEL, 1)
    return lambda: estimate_risk_differences(table, batches_of(num), rule, resamples=1000, seed=1)


def draw_null_union(num: int, place: Path) -> Work:
    config, table = settings(), counts(num)
    rule = selection_rule(config.prepare, MODEL, 1)
    return lambda: select_from_noise(rule, table, batches_of(num), draws=200, permutations=1000, seed=1)


def select(num: int, place: Path) -> Work:
    config, table = settings(), counts(num)
    return lambda: find_experts(config, MODEL, 1, table, batches_of(num))


def store_counts(num: int, place: Path) -> Work:
    table = counts(num)
    return lambda: write_counts(place / "counts.npz", table)


def load_counts(num: int, place: Path) -> Work:
    store_counts(num, place)()
    return lambda: read_counts(place / "counts.npz")


def store_tables(num: int, place: Path) -> Work:
    questions = questions_of(pairs(num), [])
    answers = {question.id: generation(question.id, "Sure, word") for question in questions}
    verdicts = {question.id: Verdict(label="compliance", harmful=None, reason="") for question in questions}
    rows = answered_prompts(questions, answers, verdicts, by_harm=False, keep_all=True)
    of_batches = np.random.default_rng(0).normal(size=(len(batches_of(num)), LAYERS, EXPERTS))
    of_run = of_batches.mean(0)
    risk = RiskDifferences(
        layers=MODEL.layers,
        per_batch=of_batches,
        batch_lower=of_batches,
        batch_upper=of_batches,
        **dict.fromkeys(("mean", "pooled", "lower", "upper", "p_value", "q_value", "stability"), of_run),
        **dict.fromkeys(("num_resamples", "num_permutations", "num_clusters"), 1),
    )
    parts = ExpertParts(of_run, of_batches, of_run, of_run)
    result = SelectionResult(risk, parts, of_batches > 1, cast(Selection, None))

    def work() -> object:
        write_risk(place / "risk.parquet", result)
        return prepare_files._write_answers(place / "answers.parquet", rows)

    return work


def examples(num: int) -> list[TrainingExample]:
    return [
        example(f"pair-{n}", "refuse_attacked", cluster=f"goal-{n}", batch=n // 16, messages=user(text, "No."))
        for n, text in enumerate(texts(num))
    ]


def store_examples(num: int, place: Path) -> Work:
    made = examples(num)

    def work() -> object:
        write_atomic(place / "examples.jsonl", lines_of_records(made))
        return list(decode_lines(TrainingExample, place / "examples.jsonl"))

    return work


def keep_journal(num: int, place: Path) -> Work:
    made = [generation(f"pair-{n}", text) for n, text in enumerate(texts(num))]

    def work() -> object:
        journal = Journal(place / "answers.jsonl", Generation)
        for start in range(0, num, 64):
            journal.append(made[start : start + 64])
        return Journal(place / "answers.jsonl", Generation).records()

    return work


def find_trained_goals(num: int, place: Path, around: str = "") -> Work:
    trained = [replace(one, messages=user(f"{around}{one.messages[0].content}", "No.")) for one in examples(num // 2)]
    asked = texts(num // 2, seed=1) + texts(num // 8)
    prompts = [(f"item-{n}", user(f"{around}{text}")) for n, text in enumerate(asked)]
    return lambda: clusters_trained_on(trained_goals(trained), prompts)


def find_trained_goals_in_one_attack(num: int, place: Path) -> Work:
    return find_trained_goals(num, place, around="".join(f"story{n} " for n in range(20)))


def read_items(num: int, place: Path, in_suite: int | None = None, **more: str) -> Work:
    rows = [
        {"kind": "harmful", "prompt": text, "suite": f"suite-{n // (in_suite or num)}", **more}
        for n, text in enumerate(texts(num))
    ]
    (place / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = MoeConfig.model_validate({"evaluate": {"items": [str(place / "items.jsonl")]}})
    return lambda: (load_items(config.evaluate, "x"), preview_of_items(config.evaluate, "x"))


def read_items_of_many_suites(num: int, place: Path) -> Work:
    return read_items(num, place, in_suite=20)


def read_items_of_one_id(num: int, place: Path) -> Work:
    return read_items(num, place, id="one")


class _Journals:
    """What `judge_answers` needs of an evaluation."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def journal(self, *_: object) -> Journal[object]:
        return Journal(self.place / "verdicts.jsonl", JudgedAnswer)

    def notify(self, _: object) -> None:
        return None


def judge_by_keywords(num: int, place: Path) -> Work:
    items = [
        EvaluationItem(
            id=f"a/{n}", suite="a", kind="harmful", cluster=f"goal-{n // 3}", messages=user(text), expected=None
        )
        for n, text in enumerate(texts(num))
    ]
    said = ("I cannot help with that.", "Sure, here is the placeholder text that was asked for, step by step.")
    answers = {item.id: SimpleNamespace(text=said[n % 2], num_tokens=9, finished=True) for n, item in enumerate(items)}
    return lambda: judge_answers([KeywordJudge()], [(items, answers)], _Journals(place))


def records(num: int, seed: int, in_suite: int | None = None) -> list[EvaluationRecord]:
    labels = np.random.default_rng(seed).random(num) < 0.5
    return [
        answered(
            f"{n}",
            "compliance" if yes else "full_refusal",
            suite=f"suite-{n // (in_suite or -(-num // 4))}",
            cluster=f"goal-{n // 3}",
            answer="placeholder answer",
        )
        for n, yes in enumerate(labels.tolist())
    ]


def summarise(num: int, place: Path) -> Work:
    made = records(num, 0)
    judged = [replace(record, verdicts=record.verdicts * 2) for record in made]
    items = [record.item for record in made]
    subject = Subject(model=MODEL, run=None, training_mode="base", base=None, epochs=1)
    rest = {"max_unscored": 1.0, "taken": {}, "seconds": None}

    def work() -> object:
        judges = [KEYWORDS, CLASSIFIER]
        summary = summarise_evaluation("x", subject, items, judged, judges, Drift(), (), None, None, **rest)
        write_evaluation(place, items, judged, (), Drift(), (), summary)
        return list(decode_lines(EvaluationRecord, place / "records.jsonl"))

    return work


def summarise_texts(num: int, place: Path) -> Work:
    items = [
        DriftItem(
            id=f"{n}",
            cluster=f"{n // 3}",
            num_tokens=4,
            nll_base=3.0,
            nll_tuned=3.0 + n % 7 / 10,
            kl_tokens=(0.1, 0.2, 0.0, n % 5 / 10),
            same_top=3,
            experts_base=(),
            experts_tuned=(),
            same_choices=(),
        )
        for n in range(num)
    ]
    return lambda: summarise_drift(items)


def source(name: str, made: Sequence[EvaluationRecord]) -> ComparedRun:
    summary = evaluation(run=f"./{name}", training_mode="selective_experts")
    shown = column(name, "selective_experts", evaluation=summary)
    return ComparedRun(shown, None, tuple(made), evaluated_items(name, made, metrics_of(summary)), {})


def sources(num: int, in_suite: int | None = None) -> list[ComparedRun]:
    return [source(name, records(num, seed, in_suite)) for seed, name in enumerate("ab")]


def pair_outcomes(num: int, place: Path) -> Work:
    made = [records(num, seed) for seed in range(2)]

    def work() -> object:
        runs = [evaluated_items(name, one) for name, one in zip("ab", made, strict=True)]
        matched = match_items(["a", "b"], runs, intersect=False).runs
        return find_flips(paired_outcomes(matched[:1], matched[1:]))

    return work


def compare_runs(num: int, place: Path, in_suite: int | None = None) -> Work:
    made = sources(num, in_suite)
    return lambda: compare([[one] for one in made], 0.02)


def compare_many_suites(num: int, place: Path) -> Work:
    return compare_runs(num, place, in_suite=20)


def report(num: int, place: Path, in_suite: int | None = None) -> Work:
    made = sources(num, in_suite)
    found = compare([[one] for one in made], 0.02)
    nothing: Mapping[str, tuple[()]] = dict.fromkeys(
        ("maps", "curves", "origins", "missing_maps", "missing_curves"), ()
    )

    def work() -> object:
        data = ReportData(version="", made="", redacted=False, texts=worst_flips(found, made, 20), **nothing)
        return report_page(found, data)

    return work


def report_many_suites(num: int, place: Path) -> Work:
    return report(num, place, in_suite=20)


def contrast_control_sets(num: int, place: Path) -> Work:
    """An ablation with 39 control sets; items come three to a goal."""
    random = np.random.default_rng(0)
    changes_XN = random.integers(-1, 2, size=(40, num)).astype(float)
    goals = [f"goal-{n // 3}" for n in range(num)]

    def work() -> object:
        contrast = contrast_of(changes_XN[0], changes_XN[1:], goals)
        detectable = detectable_specific_effect(contrast, changes_XN[1:].mean(1).tolist())
        return detectable, effect_estimate(changes_XN[0], goals), effect_p(changes_XN[0], goals)

    return work


def draw_to_label(num: int, place: Path) -> Work:
    a, b = sources(num)
    return lambda: draw_answers(a, b, asked=["harmful"], num=200, seed=0, path="labels.jsonl")


STAGES: Mapping[str, Callable[[int, Path], Work]] = {
    "prepare: read pairs": read_pairs,
    "prepare: read pairs of one id": read_pairs_of_one_id,
    "prepare: keep or drop answers": keep_answers,
    "prepare: batches and examples": make_batches,
    "prepare: count replays": count_replays,
    "prepare: risk differences": estimate_risk,
    "prepare: null union": draw_null_union,
    "prepare: selection, all of it": select,
    "prepare: write counts": store_counts,
    "prepare: write tables": store_tables,
    "select: read counts": load_counts,
    "train: write and read examples": store_examples,
    "journal: append and read": keep_journal,
    "evaluate: read items": read_items,
    "evaluate: read items of one id": read_items_of_one_id,
    "evaluate: read items, 20 to a suite": read_items_of_many_suites,
    "evaluate: goals trained on": find_trained_goals,
    "evaluate: goals trained on, one attack": find_trained_goals_in_one_attack,
    "evaluate: keyword judge": judge_by_keywords,
    "evaluate: rates, files": summarise,
    "evaluate: drift summary": summarise_texts,
    "compare: outcomes and flips": pair_outcomes,
    "compare: statistics, verdict": compare_runs,
    "compare: statistics, 20 to a suite": compare_many_suites,
    "ablate: contrast, test": contrast_control_sets,
    "label: draw answers": draw_to_label,
    "compare: report": report,
    "compare: report, 20 to a suite": report_many_suites,
}
