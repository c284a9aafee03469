"""What the columns of a table of outcomes are, told by their names, where nobody named the runs among them.

Nothing is guessed from a name that could mean two things: a column that is called as a measure or as the right answer
is never taken for a run beside others, and words of harm leave open whether a 1 is better.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from moe_cli.data.column_names import normalise_name
from moe_cli.errors import UsageError

if TYPE_CHECKING:
    from moe_cli.compare.imported_items import ImportedColumn, MetricWord

LOWER_IS_BETTER = {
    *("asr", "attack", "bias", "brier", "cer", "error", "errors", "hallucination", "harm", "harmful", "harmfulness"),
    *("jailbreak", "jailbroken", "loss", "perplexity", "ppl", "refusal", "refused", "ter", "toxic", "toxicity"),
    *("unsafe", "wer", "violation", "violations"),
}
# Words by which a table is about harm or refusals, wherever they stand in its names.
ABOUT_HARM = {
    *("asr", "attack", "attacks", "attacked", "harm", "harms", "harmful", "harmfulness", "jailbreak", "jailbreaks"),
    *("jailbroken", "refusal", "refusals", "refused", "refuses", "toxic", "toxicity", "unsafe", "violation"),
}
# Parts of the names of tasks that ask for harm, or for refusals.
SAFETY_TASKS = (
    *("advbench", "agentharm", "beavertails", "do_not_answer", "donotanswer", "harmbench", "hex_phi", "jailbreak"),
    *("or_bench", "orbench", "refus", "salad_bench", "sorry_bench", "sorrybench", "strong_reject", "strongreject"),
    *("toxi", "wildguard", "wmdp", "xstest"),
)
MEASURE_WORDS = {
    *("acc", "accuracy", "asr", "attack", "bleu", "compliance", "complied", "correct", "correctness", "em", "exact"),
    *("fail", "failed", "f1", "grade", "harm", "harmful", "harmfulness", "is", "jailbreak", "jailbroken", "judge"),
    *("judged", "match", "metric", "norm", "outcome", "pass", "passed", "rating", "refusal", "refused", "result"),
    *("rouge", "safe", "score", "scores", "success", "successful", "toxic", "toxicity", "unsafe", "verdict"),
}
RIGHT_ANSWERS = {
    *("answer", "expected", "gold", "gold_label", "ground_truth", "label", "labels", "reference", "target"),
    *("true_label", "truth", "y", "y_true"),
}
OF_ITEMS = {
    "attempt",
    "fold",
    "promptidx",
    "prompt_idx",
    "seed",
    "split",
    "suite",
    "testidx",
    "test_idx",
    "trial",
    "turn",
}
# Items that belong together, where no column is called `cluster`.
GOALS = (
    *("goal", "goal_id", "behavior", "behaviour", "behavior_id", "behaviour_id", "behaviorid", "forbidden_prompt"),
    *("prompt_id", "question_id", "prompt", "question"),
)
SUMMARY = re.compile(
    r"(acc|accuracy|asr|average|avg|count|grand total|mean|median|overall|rate|score|sd|std|sum|totals?)(\s*[(:=].*)?",
    re.IGNORECASE,
)
OWN_ARM = re.compile(r"unsafe_experts?", re.IGNORECASE)  # of this program's own directories, no word of an outcome
WORD = re.compile(r"[A-Z]?[a-z]+[0-9]?|[A-Z]+")


def words_of_name(name: str) -> set[str]:
    """The words of a name: `attackSuccess_2` has attack and success."""
    return {word.casefold() for word in WORD.findall(OWN_ARM.sub("", name))}


def is_measure(name: str) -> bool:
    """Whether a column is called after what was measured (`success`, `is_correct`), not after a run."""
    words = words_of_name(name)
    return bool(words) and words <= MEASURE_WORDS


def is_of_items(name: str) -> bool:
    """Whether a column says something about an item (`seed`, `is_long`), not how a run did on it."""
    word = normalise_name(name)
    return word in OF_ITEMS or (word.startswith(("is_", "has_", "num_")) and not is_measure(name))


def is_right_answer(name: str) -> bool:
    """Whether a column is called after the right answer of an item."""
    return normalise_name(name) in RIGHT_ANSWERS


def open_direction(measure: str | None, titles: Iterable[str]) -> str | None:
    """The measure, the task or the first title of a table that leaves open whether a 1 is better; None if none does."""
    if measure is not None and LOWER_IS_BETTER & words_of_name(measure):
        return measure
    names = (*titles, *([measure] if measure else []))
    return next((name for name in names if ABOUT_HARM & words_of_name(name) or _is_safety_task(name)), None)


def _is_safety_task(name: str) -> bool:
    return any(task in normalise_name(name) for task in SAFETY_TASKS)


def mistakable(names: Sequence[str]) -> tuple[str, ...]:
    """The names among those of several columns that are no names of runs."""
    return tuple(name for name in names if is_measure(name) or is_right_answer(name)) if len(names) > 1 else ()


def declared_metric(asked: MetricWord | None, columns: Sequence[ImportedColumn]) -> MetricWord:
    """The metric that a yes counts for: the requested one, or the one that the files declare.

    Raises:
        UsageError: files say different things, or the name of a measure leaves open whether higher is better.
    """
    known = {column.metric: column.source for column in columns if column.metric is not None}
    for metric, source in known.items():
        if asked not in (None, metric) or len(known) > 1:
            raise UsageError(f"a 1 of {source} is not {asked}", hint=f"--metric {metric}")
        if asked is None and any(column.metric is None for column in columns):
            raise UsageError(
                f"{source} says that a 1 is a successful attack, and other files do not say what it is",
                hint="--metric asr, if it is the same in all",
            )
        return metric
    if asked is not None:
        return asked
    for column in columns:
        if (unclear := open_direction(column.measure, column.titles)) is not None:
            raise UsageError(
                f"{column.source}: whether a higher {unclear} is better is not known here",
                hint="--metric asr where a 1 is a successful attack (lower is better), --metric accuracy if higher is",
            )
    return "accuracy"
