"""Labels of rows: whether a row is harmful by its own columns, and whether its attack succeeded.

Success of the attack is read from `judge_success_gpt4`, `inception_attack_score` or `judge_result`; a value that is
neither yes nor no is a bad row, never a guess. Like the original scripts, a row whose value (for `judge_result`: whose
`score`) is 0 is skipped and every other row is used.

A word label (`label`, `safety`, `prompt_harm_label`, ...) counts where its words are known; true and false count under
a name that says what true means (`is_safe`, `is_harmful`). A label of 0 and 1 under any other name is refused unless
another column settles it: the wrong reading would turn a data set upside down. Beside an answer, most labels could be
about the answer: they can contradict an option, but never choose the kind of a row by themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from moe_cli.data.column_names import ANSWER_COLUMNS, GOAL_COLUMNS
from moe_cli.data.rows import BadRowError, Row, describe_value, is_missing, number_of_cell
from moe_cli.data.tables import Table
from moe_cli.errors import UsageError
from moe_cli.records.inputs import Kind

WORKED = {"true", "yes", "jailbroken", "unsafe"}
FAILED = {"false", "no", "not jailbroken", "safe"}


def attack_succeeded(row: Row, key: str) -> bool:
    """Whether the value under `key` means success: a number above 0, true, or one of the words of `WORKED`.

    Raises:
        BadRowError: missing, negative, or no verdict.
    """
    value = row.get(key)
    succeeded = _truth(value.get("score") if isinstance(value, dict) else value)
    if succeeded is None:
        raise BadRowError(f"`{key}` is {describe_value(value)}, not a verdict (a number from 0, true or false)")
    return succeeded


def _truth(value: object) -> bool | None:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in WORKED | FAILED:
            return word in WORKED
        value = float(word) if word.replace(".", "", 1).isdecimal() else None
    if isinstance(value, (bool, int, float)) and value >= 0:
        return value > 0
    return None


# Columns of words that say what a row is, and columns that can be about something else in most of their words.
WORDED = (
    *("kind", "label", "labels", "safety", "safety_label", "prompt_harm_label", "prompt_label", "prompt_type"),
    *("prompt_safety", "harm_label", "harmfulness"),
)
LOOSELY_WORDED = ("data_type", "class", "classification", "type", "category", "gt")
BARE = (*WORDED, "class", "classification", "gt")  # 0 and 1 say nothing under these names
OF_ATTACK = {"jailbreak", "is_jailbreak"}  # beside a goal, they say whether its attack worked
OF_PROMPT = (
    *("kind", "prompt_harm_label", "prompt_label", "prompt_type", "prompt_safety", "data_type"),
    *("prompt_is_harmful", "is_harmful_prompt", "prompt_is_safe", "is_safe_prompt"),
)
HARMFUL_IF_TRUE = (
    *("is_harmful", "harmful", "is_unsafe", "unsafe", "is_malicious", "malicious", "is_toxic", "toxic"),
    *("prompt_is_harmful", "is_harmful_prompt", "is_jailbreak", "jailbreak", "harmful?", "is_harmful?", "harm"),
    *("is_injection", "toxicity", "should_refuse"),
)
BENIGN_IF_TRUE = (
    "is_safe",
    "safe",
    "is_benign",
    "benign",
    "is_harmless",
    "harmless",
    "prompt_is_safe",
    "is_safe_prompt",
    "safe?",
)
HARMFUL_WORDS = {
    *("harmful", "unsafe", "malicious", "toxic", "dangerous", "jailbreak", "vanilla_harmful", "adversarial_harmful"),
    *("harmful_prompt", "not_safe", "non_safe", "injection", "prompt_injection"),
}
BENIGN_WORDS = {
    *("benign", "safe", "harmless", "unharmful", "not_harmful", "non_harmful", "nonharmful", "vanilla_benign"),
    *("adversarial_benign", "not_unsafe", "non_toxic", "nontoxic", "not_toxic", "benign_prompt", "non_malicious"),
}
TRUE, FALSE = {"true", "1", "yes", "1.0", "label_1"}, {"false", "0", "no", "0.0", "label_0"}  # as transformers, too


@dataclass(frozen=True, slots=True)
class RowLabels:
    """The columns of a table that label its rows."""

    columns: tuple[str, ...]  # ("is_safe",)

    def kind_of(self, row: Row) -> tuple[Kind | None, str | None]:
        """The kind of the row by its labels, and the column that decides it.

        Raises:
            BadRowError: an unknown word, or two columns that contradict each other.
        """
        labels = [(kind, column) for column in self.columns if (kind := _kind_of(row.get(column), column)) is not None]
        if len({kind for kind, _ in labels}) > 1:
            raise BadRowError(" and ".join(f"`{column}`" for _, column in labels) + " contradict each other")
        return labels[0] if labels else (None, None)


def labels_of(table: Table, taken: Collection[str] = ()) -> RowLabels:
    """The label columns of a table: the one that `--map` names, else all known ones that carry information.

    `taken` are columns that the format of the table reads as something else, such as the sides of a pair.

    Raises:
        UsageError: a label of 0 and 1 whose name does not say which of them is harmful.
    """
    if table.label is not None:
        _refuse_bare(table, table.label, mapped=True)
        return RowLabels((table.label,))
    keys = table.keys() - set(taken)
    if not table.keys().isdisjoint(GOAL_COLUMNS):
        keys -= OF_ATTACK
    known = (*WORDED, *LOOSELY_WORDED, *HARMFUL_IF_TRUE, *BENIGN_IF_TRUE)
    columns = tuple(column for column in known if column in keys and _says_something(table, column))
    for column in BARE:
        if column in keys and not columns:
            _refuse_bare(table, column, mapped=False)
    return RowLabels(columns)


def answer_beside(table: Table, column: str) -> str | None:
    """The column of answers that a label could be about; None where it is about the prompt."""
    if column in (*OF_PROMPT, table.label) or any(column in row.mapped for _, row in table.rows):
        return None
    filled = {key for _, row in table.rows for key in row.filled()}
    return next((name for name in ANSWER_COLUMNS if name in filled), None)


def _refuse_bare(table: Table, column: str, *, mapped: bool) -> None:
    """Refuse true and false under a name that does not say what they mean."""
    values = [value for value in _values(table, column) if not is_missing(value)]
    if values and all(truth_of(value) is not None for value in values) and _polarity(column) is None:
        table.columns_read.add(column)
        raise UsageError(
            f"{table.source.name}: the column `{column}` holds true and false (or 1 and 0), and nothing says which of "
            "them is harmful",
            hint=f"--map is_harmful={column} or --map is_safe={column} says it"
            + ("" if mapped else f", --map name={column} leaves it out"),
        )


def _says_something(table: Table, column: str) -> bool:
    values = [value for value in _values(table, column) if not is_missing(value)]
    if _polarity(column) is not None:  # one odd cell is a bad row and hides no other; a column of scores is no label
        said = [truth_of(value) is not None or _word_kind(value) is not None for value in values]
        return any(said) and not any(_is_number(value) for value, one in zip(values, said, strict=True) if not one)
    kinds = {_word_kind(value) for value in values}
    if column in LOOSELY_WORDED:  # also about other things, unless it tells harmful from harmless
        return bool(kinds) and (None not in kinds or {"harmful", "benign"} <= kinds)
    return column == "kind" or bool(kinds - {None})


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) or (isinstance(value, str) and number_of_cell(value) is not None)


def _values(table: Table, column: str) -> Sequence[object]:
    return [row.peek(column) for _, row in table.rows]


def _kind_of(value: object, column: str) -> Kind | None:
    if is_missing(value):
        return None
    truth, true_is = truth_of(value), _polarity(column)
    if truth is not None and true_is is not None:
        other: Kind = "benign" if true_is == "harmful" else "harmful"
        return true_is if truth else other
    kind = _word_kind(value)
    if kind is None:
        raise BadRowError(f"`{column}` is neither harmful nor benign")
    return kind


def _polarity(column: str) -> Kind | None:
    """The kind that true stands for in a column of this name."""
    if column in HARMFUL_IF_TRUE:
        return "harmful"
    return "benign" if column in BENIGN_IF_TRUE else None


def _word_kind(value: object) -> Kind | None:
    word = str(value).strip().lower().replace("-", "_").replace(" ", "_") if isinstance(value, str) else ""
    if word in HARMFUL_WORDS:
        return "harmful"
    return "benign" if word in BENIGN_WORDS else None


def truth_of(value: object) -> bool | None:
    """The truth value of a cell with true or false, as a word or a number; None for anything else."""
    word = str(value).strip().lower() if isinstance(value, (str, bool, int, float)) else ""
    return True if word in TRUE else False if word in FALSE else None
