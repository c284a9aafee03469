"""The known formats, each recognised by the columns of its rows; where two match, the one listed first is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from moe_cli.data.column_names import (
    ATTACKED_COLUMNS,
    GOAL_COLUMNS,
    NAMES_OF_ATTACKS,
    PLAIN_COLUMNS,
    PROMPT_COLUMNS,
    TEST_CASE,
    TURN_COLUMNS,
    is_attack_name,
)
from moe_cli.data.entries import (
    Reader,
    artifact_entry,
    attacked_alone_entry,
    attacked_list_entry,
    goal_under,
    harmbench_entry,
    jailbreakbench_entry,
    pair_entry,
    renamed_pair_entry,
    says_xstest,
    test_case_entry,
    xstest_entry,
)
from moe_cli.data.json_objects import are_targets, shown_keys
from moe_cli.data.labels import attack_succeeded, truth_of
from moe_cli.data.prompts import prompt_entry
from moe_cli.data.rows import TEXT, ReadRow, is_missing
from moe_cli.data.tables import Table
from moe_cli.data.text_marks import holds_placeholder
from moe_cli.errors import UsageError
from moe_cli.spelling import nearest

ATTACK_FAILED, NO_ATTACK = "its attack failed", "it has no attacked prompt"
SIDES = frozenset({"safe", "unsafe", *PLAIN_COLUMNS, *ATTACKED_COLUMNS})  # labels under these names are no prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format: how it is recognised and how its rows are read."""

    name: str  # "AdvBench"
    needs: frozenset[str] = frozenset()  # columns that must be there
    one_of: tuple[frozenset[str], ...] = ()  # of each set, one column must be there
    confirms: Callable[[Table], bool] | None = None  # what the columns alone do not tell
    entries: Reader
    verdict: str | None = None  # the column that says whether the attack of a row succeeded
    only_goals: bool = False  # its rows hold no attacked prompt
    both_kinds: bool = False  # made to hold harmful and harmless rows: an option takes its own and counts the others
    example: str  # how a person writes it

    def matches(self, columns: Iterable[str]) -> bool:
        """Whether rows with these columns have this format."""
        there = frozenset(columns)
        return self.needs <= there and all(some & there for some in self.one_of)

    def columns(self) -> frozenset[str]:
        """The columns by which the format is recognised."""
        return self.needs.union(*self.one_of)

    def skipped(self, row: ReadRow, *, keep_failed: bool = False) -> str | None:
        """Why the row is skipped; None if it is used. With `keep_failed`, rows whose attack failed are used."""
        if self.verdict is None:
            return None
        if self.verdict == "jailbroken" and is_missing(row.get("prompt")):
            return NO_ATTACK
        return None if keep_failed or attack_succeeded(row, self.verdict) else ATTACK_FAILED


def _judged(key: str, example: str) -> Format:
    return Format(
        name=key,
        needs=frozenset({"all_prompt", key}),
        one_of=(frozenset({"goal", "prompt"}),),
        entries=attacked_list_entry("all_prompt"),
        verdict=key,
        example=example,
    )


def _unjudged(key: str, example: str) -> Format:
    return Format(
        name=key,
        needs=frozenset({key}),
        one_of=(frozenset({"goal", "prompt"}),),
        entries=attacked_list_entry(key),
        example=example,
    )


def _goals(name: str, needs: str, entries: Reader, example: str) -> Format:
    return Format(name=name, needs=frozenset(needs.split()), entries=entries, only_goals=True, example=example)


FORMATS = (
    Format(
        name="pairs",
        one_of=(frozenset({"safe", "unsafe"}),),
        entries=pair_entry,
        example='{"id": "1", "goal": "...", "safe": "the plain question", "unsafe": "the attacked question"}',
    ),
    _judged("judge_success_gpt4", '{"goal": "...", "all_prompt": [{"role": ...}, ...], "judge_success_gpt4": 1}'),
    _judged("inception_attack_score", '{"prompt": "...", "all_prompt": "...", "inception_attack_score": 1}'),
    _judged("judge_result", '{"prompt": "...", "all_prompt": "...", "judge_result": {"score": 1}}'),
    _unjudged("all_prompts", '{"goal": "...", "all_prompts": [{"role": ...}, ...]}'),
    _unjudged("all_prompt", '{"goal": "...", "all_prompt": ["attacked question", "another attacked question"]}'),
    Format(
        name="JailbreakBench artifact",
        needs=frozenset({"goal", "prompt", "jailbroken"}),
        entries=artifact_entry,
        verdict="jailbroken",
        example='{"jailbreaks": [{"index": 0, "goal": "...", "prompt": "...", "jailbroken": true}, ...]}',
    ),
    Format(
        name="pairs under other names",
        one_of=(frozenset(PLAIN_COLUMNS),),
        confirms=lambda table: bool(_columns_of(table) & {*ATTACKED_COLUMNS, *PROMPT_COLUMNS, "attack"}),
        entries=renamed_pair_entry,
        example='{"plain_attack": "the plain question", "attacked": "the attacked question"}',
    ),
    Format(
        name="goals with their attack",
        one_of=(frozenset(ATTACKED_COLUMNS), frozenset((*GOAL_COLUMNS, *PROMPT_COLUMNS))),
        entries=renamed_pair_entry,
        example='{"goal": "...", "jailbreak_prompt": "the attacked question"}',
    ),
    Format(
        name="test cases",
        needs=frozenset({TEST_CASE}),
        entries=test_case_entry,
        example='{"behaviour_id": ["an attacked question", ...]}, as HarmBench writes them',
    ),
    _goals("HarmBench", "behavior behaviorid", harmbench_entry, "HarmBench: Behavior, ContextString, BehaviorID"),
    _goals(
        "StrongREJECT",
        "forbidden_prompt",
        goal_under("forbidden_prompt"),
        "StrongREJECT: category, source, forbidden_prompt",
    ),
    _goals(
        "JailbreakBench", "goal behavior category", jailbreakbench_entry, "JailbreakBench: Goal, Behavior, Category"
    ),
    Format(
        name="XSTest",
        needs=frozenset({"prompt", "type"}),
        confirms=lambda table: says_xstest([row.peek("type") for _, row in table.rows]),
        entries=xstest_entry,
        only_goals=True,
        both_kinds=True,
        example="XSTest: id, prompt, type, label, focus, note",
    ),
    _goals("AdvBench", "goal target", goal_under("goal"), "AdvBench: goal, target"),
    _goals("goals", "goal", goal_under("goal"), '{"goal": "..."}'),
    _goals("behaviours", "behavior", goal_under("behavior"), '{"behavior": "..."}'),
    Format(
        name="attacked prompts",
        one_of=(frozenset(ATTACKED_COLUMNS),),
        entries=attacked_alone_entry,
        example='{"id": "1", "jailbreak_prompt": "the attacked question"}',
    ),
    Format(
        name="prompts",
        one_of=(frozenset((*TURN_COLUMNS, *PROMPT_COLUMNS)),),
        entries=prompt_entry,
        only_goals=True,
        example='{"id": "1", "prompt": "..."}, {"id": "1", "messages": [{"role": "user", "content": "..."}]}',
    ),
)


def format_of(table: Table) -> Format:
    """The most specific format that fits the rows of a table.

    Raises:
        UsageError: no format fits (the message names the nearest), or two columns could both be the prompt.
    """
    columns = _columns_of(table)
    for known in FORMATS:
        if known.matches(columns) and (known.confirms is None or known.confirms(table)):
            _refuse_two_prompts(known, table, columns)
            _refuse_targets(table)
            _refuse_templates(known, table)
            return known
    nearest, missing = _nearest(columns)
    raise UsageError(
        f"{table.source.name} is of no known format: its columns are {shown_keys(table.shown_columns()) or 'none'}",
        hint=f"the nearest is {nearest.example}; --map {missing}=COLUMN names a column that is called otherwise",
    )


def _columns_of(table: Table) -> set[str]:
    """The columns, without columns named as a side that hold labels instead of texts or turns."""
    there = table.keys()
    columns = {name for name in there if name not in NAMES_OF_ATTACKS or not _holds_names(table, name)}
    if {"safe", "unsafe"} <= columns and not (_holds_labels(table, "safe") and _holds_labels(table, "unsafe")):
        return columns
    return {name for name in columns if name not in SIDES or not _holds_labels(table, name)}


def _holds_names(table: Table, name: str) -> bool:
    """Whether a column holds only names, such as that of the attack (`AIM`, `pair`)."""
    values = [row.peek(name) for _, row in table.rows if not is_missing(row.peek(name))]
    return bool(values) and all(is_attack_name(name, value) for value in values)


def _holds_labels(table: Table, name: str) -> bool:
    """Whether a column holds only true and false, as a label does."""
    values = [row.peek(name) for _, row in table.rows if not is_missing(row.peek(name))]
    return bool(values) and all(truth_of(value) is not None for value in values)


def _refuse_two_prompts(known: Format, table: Table, columns: set[str]) -> None:
    """Refuse a goal beside a prompt: the prompt could be the goal asked plainly or inside an attack."""
    goal = next((name for name in GOAL_COLUMNS if known.only_goals and name in known.needs), None)
    for other in (*PROMPT_COLUMNS, *TURN_COLUMNS) if goal is not None else ():
        if other in columns and any(not _is_said_twice(row, goal, other) for _, row in table.rows):
            raise UsageError(
                f"{table.source.name}: `{goal}` and `{other}` stand side by side, and nothing says what `{other}` is",
                hint=f"--map all_prompt={other} reads it as the attacked form, --map name={other} leaves it out",
            )


def _is_said_twice(row: ReadRow, goal: str | None, other: str) -> bool:
    """Whether the other column repeats the goal, or there is no goal."""
    goal_value, value = row.peek(goal or ""), row.peek(other)
    return is_missing(goal_value) or is_missing(value) or value == goal_value


def _refuse_templates(known: Format, table: Table) -> None:
    """Refuse prompts that are templates: most of them have a placeholder for a goal."""
    columns = [name for name in (*PROMPT_COLUMNS, *ATTACKED_COLUMNS) if name in known.columns()]
    texts = [[value for name in columns if isinstance(value := row.peek(name), str)] for _, row in table.rows]
    if 2 * sum(any(map(holds_placeholder, some)) for some in texts) > len(texts):
        raise UsageError(
            f"{table.source.name} holds attack templates (texts with a place for a goal), not prompts",
            hint="--attack takes them; where the goal stands beside each, write it into its template",
        )


def _refuse_targets(table: Table) -> None:
    """Refuse texts that are target answers of an attack, not prompts."""
    values = [row.peek(TEXT) for _, row in table.rows] if table.are_texts else []
    if values and are_targets(values):
        raise UsageError(
            f'{table.source.name} holds targets (what an attack wants to hear: "Sure, here is"), not prompts',
            hint="bring the goals that they belong to",
        )


def _nearest(columns: set[str]) -> tuple[Format, str]:
    """The format that fits best, and the first of its columns that is missing."""
    scored = [(_likeness(known, columns), -place, known) for place, known in enumerate(FORMATS)]
    best = max(scored, key=lambda one: one[:2])
    known = best[2] if best[0] > 0 else FORMATS[-1]
    missing = [name for name in sorted(known.needs) if name not in columns]
    missing += [sorted(some & {"prompt", "goal", "unsafe"} or some)[0] for some in known.one_of if not some & columns]
    return known, (missing or ["prompt"])[0]


def _likeness(known: Format, columns: set[str]) -> float:
    """The share of a format's columns that are present or have a similar spelling."""
    requirements = [frozenset({name}) for name in known.needs] + list(known.one_of)
    there = [bool(some & columns) or any(nearest(c, some, cutoff=0.7) for c in columns) for some in requirements]
    return sum(there) / len(requirements)
