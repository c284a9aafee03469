"""Formats of answer files, each recognised by the keys of its rows, and how one row is read.

Nothing is guessed: a file with two columns that could be the answer is refused, and a row with a value that its column
cannot have is a bad row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from moe_cli.data import AS_NAMED, ColumnMap, Kind, Location
from moe_cli.data.column_names import GOAL_COLUMNS, PROMPT_COLUMNS, TURN_COLUMNS, first_of
from moe_cli.data.entries import XSTEST_TYPES, refuse_unreadable, with_system_turn
from moe_cli.data.prompts import prompt_turns
from moe_cli.data.rows import ReadRow, Row, name_of
from moe_cli.data.turns import SPREADSHEET_ERRORS, Turns
from moe_cli.errors import UsageError
from moe_cli.evaluate.answer_rows import (
    LOST_ANSWER,
    NO_ANSWER,
    NO_PROMPT,
    FileAnswer,
    LmEvalSamples,
    RowAnswers,
    asked_of,
    finished_of,
    recorded_answers,
    separate_system_turn,
    texts_of,
)

ANSWERS = (
    *("response", "target_response", "model_response", "model_output", "output", "answer", "completion"),
    *("generation", "generated_text", "prediction"),
)
PROMPTS = ("all_prompt", *TURN_COLUMNS, *PROMPT_COLUMNS, *GOAL_COLUMNS)

ANSWER_FORMATS = """accepted formats of --answers, recognised by their keys:
    HarmBench completions: {"BEHAVIOR_ID": [{"test_case": "...", "generation": "..."}, ...], ...}
    JailbreakBench artifacts: {"parameters": {...}, "jailbreaks": [{"index", "goal", "prompt", "response", ...}]}
    StrongREJECT: forbidden_prompt, response, and jailbroken_prompt where it is wrapped
    XSTest completions: id, type, prompt, completion
    attack results: [{"goal": "...", "all_prompt": "... or turns", "output": "...", "judge_success_gpt4": 1}]
    logs of inspect (.eval, .json), samples of lm-eval (.jsonl), records.jsonl of moe evaluate
    {"id": "1", "kind": "harmful", "prompt": "...", "response": "..."}      or "messages" that end with the answer"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFormat:
    """A recognised format of one file."""

    name: str
    read: Callable[[ReadRow, Location], RowAnswers]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """The role of each column of a file."""

    prompt: str
    answer: str | None  # None: the last turn of the prompt
    goal: str | None = None
    id: str = "id"
    benchmark: str | None = None  # before ids that other benchmarks have, too
    kind: Callable[[Row], Kind | None]
    published: bool = True  # its columns are known, whatever else stands beside them
    of_one_behavior: bool = False  # answers with one id are to several prompts of one goal: attacks

    def read(self, row: ReadRow, place: Location) -> RowAnswers:
        """The answers of one row."""
        prompt, answer = row.get(self._prompt_of(row)), row.get(self.answer) if self.answer else None
        if self.answer is None:
            prompt, answer = separate_system_turn(prompt, self.prompt)
        if prompt is None or answer is None:
            return NO_PROMPT if prompt is None else NO_ANSWER
        if isinstance(answer, str) and answer.strip().casefold() in SPREADSHEET_ERRORS:
            return LOST_ANSWER
        number = name_of(row, self.id)
        id = number if number is None or self.benchmark is None else f"{self.benchmark}-{number}"
        first = FileAnswer(
            place=place,
            id=id,
            messages=with_system_turn(self._asked(row, prompt), row),
            text="",
            kind=self.kind(row),
            goal=goal if self.goal and isinstance(goal := row.get(self.goal), str) and goal.strip() else None,
            suite=name_of(row, "suite") or ("attacked" if self.of_one_behavior else None),
            cluster=name_of(row, "cluster") or (id if self.of_one_behavior else None),
            finished=finished_of(row),
        )
        return tuple(replace(first, text=text) for text in texts_of(answer, self.answer or self.prompt))

    def _prompt_of(self, row: ReadRow) -> str:
        """Name of the prompt's column; in a file of no published format it may differ by row."""
        return self.prompt if self._is_published else first_of(PROMPT_COLUMNS, row) or self.prompt

    @property
    def _is_published(self) -> bool:
        return self.published or self.prompt not in PROMPT_COLUMNS

    def _asked(self, row: ReadRow, value: object) -> Turns:
        """The turns of the prompt; a row of no published format is read like one of --items, its context included."""
        if self._is_published:
            return asked_of(value, self.prompt)
        refuse_unreadable(row)
        return prompt_turns(row)


def answer_format(keys: set[str], name: str, mapped: ColumnMap = AS_NAMED) -> AnswerFormat:
    """The format of a file whose rows hold these keys; `mapped` are the columns that a person named (`--map`).

    Raises:
        UsageError: none, or two columns that could both be the answer.
    """
    if {"item", "answer", "verdict"} <= keys:
        return AnswerFormat(name="records of moe evaluate", read=recorded_answers)
    if {"doc", "arguments", "resps"} <= keys:
        return AnswerFormat(name="samples of lm-eval", read=LmEvalSamples().read)
    for format_name, columns in _published(keys):
        if columns is not None:
            return AnswerFormat(name=format_name, read=columns.read)
    return _with_columns(keys, name, mapped)


def _published(keys: set[str]) -> Iterator[tuple[str, _Columns | None]]:
    """The published formats, the most specific first; None where the file lacks their keys."""

    def columns(needs: str, result: _Columns) -> _Columns | None:
        return result if set(needs.split()) <= keys else None

    yield (
        "HarmBench completions",
        columns(
            "test_case generation",
            _Columns(prompt="test_case", answer="generation", kind=_harmful, of_one_behavior=True),
        ),
    )
    yield (
        "JailbreakBench artifact",
        columns(
            "goal prompt response jailbroken",
            _Columns(prompt="prompt", answer="response", goal="goal", id="index", benchmark="jbb", kind=_harmful),
        ),
    )
    yield (
        "XSTest completions",
        columns(
            "prompt type completion",
            _Columns(prompt="prompt", answer="completion", benchmark="xstest", kind=_kind_of_xstest),
        ),
    )
    wrapped = next((key for key in ("jailbroken_prompt", "prompt") if key in keys), "forbidden_prompt")
    yield (
        "StrongREJECT",
        columns(
            "forbidden_prompt response",
            _Columns(prompt=wrapped, answer="response", goal="forbidden_prompt", kind=_harmful),
        ),
    )


def _with_columns(keys: set[str], name: str, mapped: ColumnMap) -> AnswerFormat:
    """The format of any other file with a prompt and an answer: attack results, or prompts with responses."""
    attacked = "all_prompt" in keys
    answers = ["answer"] if "answer" in mapped else [key for key in ANSWERS if key in keys]
    prompt = "prompt" if "prompt" in mapped else next((key for key in PROMPTS if key in keys), None)
    if len(answers) > 1:
        raise UsageError(
            f"{name}: {' and '.join(f'`{key}`' for key in answers)} could both be the answer",
            hint="say which one with --map answer=COLUMN",
        )
    if prompt is None or (not answers and prompt not in TURN_COLUMNS):
        raise UsageError(
            f"{name} holds no answers that are recognised: its rows hold "
            f"{', '.join(f'`{key}`' for key in sorted(keys)) or 'nothing'}",
            hint=f"--map prompt=COLUMN and --map answer=COLUMN name other columns; {ANSWER_FORMATS}",
        )
    goals = ("goal", "behavior", *(("prompt",) if attacked else ()))
    columns = _Columns(
        prompt=prompt,
        answer=answers[0] if answers else None,
        goal=next((key for key in goals if key in keys), None),
        published=attacked,
        kind=_harmful if attacked or any(key.startswith("judge_success") for key in keys) else _unknown,
    )
    return AnswerFormat(name="attack results" if attacked else "prompts with answers", read=columns.read)


def _harmful(row: Row) -> Kind | None:
    return "harmful"


def _unknown(row: Row) -> Kind | None:
    return None


def _kind_of_xstest(row: Row) -> Kind | None:
    """Kind by `label`, else by type; None for a type that XSTest does not have."""
    label, type_of_prompt = str(row.get("label") or "").lower(), str(row.get("type") or "")
    if label in ("safe", "unsafe"):
        return "benign" if label == "safe" else "harmful"
    return "harmful" if type_of_prompt.startswith("contrast_") else "benign" if type_of_prompt in XSTEST_TYPES else None
