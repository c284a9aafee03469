"""Names of columns and metrics: the known ones, and those that `--map` assigns.

Names are compared in lower case, with `_` for spaces and hyphens. A list column (`prompts`) is also known by its
singular.

Metrics have one order of precedence, the same for tasks that are measured here and for sample files from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from moe_cli.errors import UsageError

# One user turn each, the one that is taken first in front.
PROMPT_COLUMNS = (
    "prompt",
    "question",
    "query",
    "user_prompt",
    "instruction",
    "user_input",
    "user_query",
    "user_message",
    "request",
    "input",
    "text",
)
TURN_COLUMNS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")
SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
# What stands behind the question it belongs to, with an empty line between.
CONTEXT_COLUMNS = ("context", "input")
GOAL_CONTEXT = ("contextstring", "context_string", "context")  # stands before a goal, as HarmBench's own
GOAL_COLUMNS = ("goal", "behavior", "behaviour", "forbidden_prompt")
ATTACKED_LISTS = ("all_prompt", "all_prompts")
# The plain form of a pair, and its attacked form, in other words than `safe` and `unsafe`.
PLAIN_COLUMNS = ("plain_attack", "plain_prompt", "plain", "vanilla", "original_prompt", "baseq")
ATTACKED_COLUMNS = (
    "attacked",
    "attacked_prompt",
    "attack_prompt",
    "jailbreak_prompt",
    "jailbreak",
    "jailbroken_prompt",
    "adversarial_prompt",
    "adv_prompt",
    "adversarial",
    "augq",
)
NAMES_OF_ATTACKS = frozenset({"jailbreak", "attack", "adversarial", "attacked"})  # where they hold nothing but names
ATTACK_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,24}")
TEMPLATE_COLUMNS = ("template", "attack_template", "jailbreak_template", *ATTACKED_COLUMNS, *PROMPT_COLUMNS)
TEST_CASE = "test_case"
REFUSAL_COLUMNS = ("refusal", "response", "answer", "completion", "output", "target", "text", TEST_CASE)
# What a model that reads text is not shown.
MEDIA_COLUMNS = (
    *("image", "images", "image_path", "image_url", "imagefilename", "image_file", "image_file_name"),
    *("imagedescription", "image_description", "redactedimagedescription"),
    *("audio", "audios", "audio_path", "video", "videos", "video_path"),
)
# What belongs to a prompt and has no place in it here.
UNREADABLE_COLUMNS = (
    *("choices", "options", "tools", "function", "functions", "target_functions", "documents", "parent_id"),
    *("history", "chat_history", "conversation_history", "dialog_history", "dialog_hist", "previous_turns"),
)
# What a model said to a prompt.
ANSWER_COLUMNS = (
    *("response", "completion", "output", "generation", "answer", "model_output", "model_response", "reply"),
    *("llm_output", "llm_response", "assistant", "response_0", "chosen"),
)

# What makes an object a row, rather than something around rows.
ROW_MARKS = frozenset(
    {
        *(PROMPT_COLUMNS + TURN_COLUMNS + GOAL_COLUMNS + ATTACKED_LISTS + PLAIN_COLUMNS + ATTACKED_COLUMNS),
        *("safe", "unsafe", "template", "refusal", "item", "doc", TEST_CASE),
    }
)
OTHER_NAMES = frozenset(
    {
        *(*SYSTEM_COLUMNS, *CONTEXT_COLUMNS, *GOAL_CONTEXT, *MEDIA_COLUMNS, *REFUSAL_COLUMNS),
        *("id", "kind", "label", "suite", "cluster", "expected", "attack", "behaviorid", "category", "type", "name"),
        *("layer", "expert", "item", "doc_id", "index", "data_type", "safety", "prompt_harm_label", "prompt_type"),
        *("is_safe", "is_harmful", "toxicity"),
    }
)
MAPPED_NAMES = (
    *("prompt", "goal", "safe", "unsafe", "messages", "system", "context", "id", "label", "kind", "is_safe"),
    *("is_harmful", "attack", "suite", "cluster", "expected", "answer", "template", "refusal", "name"),
    *ATTACKED_LISTS,
)
LABEL_NAMES = ("label", "kind")  # mapped as they are: the name of the column says what true means

LABEL_WORDS = frozenset({"safe", "unsafe", "plain", "vanilla", "jailbreak", "adversarial", "attack"})  # cells, too

ColumnMap = Mapping[str, str]  # {"prompt": "user_prompt"}
AS_NAMED: ColumnMap = MappingProxyType({})
FIRST_METRICS = ("exact_match", "acc")


def normalise_name(name: str) -> str:
    """The form in which names are compared: lower case, `_` for spaces and hyphens."""
    return "_".join(name.strip().lower().replace("-", " ").split())


def marks_a_row(name: str, mapped: Collection[str] = ()) -> bool:
    """Whether a key shows that its object is a row; `mapped` are columns that `--map` names."""
    return singular_of(normalise_name(name)) in ROW_MARKS or normalise_name(name) in mapped


def is_known(name: str) -> bool:
    """Whether any format has a column of this name."""
    return singular_of(normalise_name(name)) in ROW_MARKS | OTHER_NAMES


def singular_of(name: str) -> str:
    """The singular of a column name (`prompts` -> `prompt`); a known name is returned unchanged."""
    if name in ROW_MARKS:
        return name
    shorter = f"{name[:-3]}y" if name.endswith("ies") else name[:-1] if name.endswith("s") else name
    return shorter if shorter in ROW_MARKS or shorter == "target" else name


def column_map(assignments: Iterable[str]) -> ColumnMap:
    """`prompt=user_prompt,label=is_safe` as a mapping of known names to columns.

    Raises:
        UsageError: an assignment without `=`, an unknown name, or one that is assigned twice.
    """
    columns: dict[str, str] = {}
    for word in (word for assignment in assignments for word in assignment.split(",") if word.strip()):
        name, equals, column = (side.strip() for side in word.partition("="))
        name = normalise_name(name)
        if not (name and equals and column) or name not in MAPPED_NAMES:
            raise UsageError(
                f"--map {word.strip()} does not say what a column is",
                hint=f"write NAME=COLUMN, such as prompt=user_prompt; the names are {', '.join(MAPPED_NAMES)}",
            )
        if name in columns:
            raise UsageError(f"--map names a column for {name} twice", hint="name one")
        columns[name] = normalise_name(column)
    return columns


def columns_of_prompts(columns: ColumnMap) -> set[str]:
    """The mapped columns but that of answers, whose cells are no prompts."""
    return {column for name, column in columns.items() if name != "answer"}


def refuse_absent(columns: ColumnMap, there: Iterable[Iterable[str]]) -> None:
    """Refuse a mapped column that none of the sources has.

    Raises:
        UsageError: there is such a column; the message names it.
    """
    known = {name for source in there for name in source}
    for name, column in columns.items():
        if column not in known:
            raise UsageError(
                f"--map {name}={column}: no source has a column `{column}`",
                hint="--dry-run names the columns that are not read",
            )


def is_attack_name(column: str, value: object) -> bool:
    """Whether the column holds the name of an attack (`AIM`, `pair`), not an attacked prompt."""
    return column in NAMES_OF_ATTACKS and isinstance(value, str) and ATTACK_NAME.fullmatch(value.strip()) is not None


def first_of(names: Sequence[str], columns: Mapping[str, object]) -> str | None:
    """The first of the names whose column is not empty."""
    return next((name for name in names if columns.get(name) not in (None, "", [], {})), None)


def by_precedence(names: Sequence[str]) -> tuple[str, ...]:
    """The metrics in order of precedence: exact_match, acc, then all names in their given order."""
    return (*(first for first in FIRST_METRICS if first in names), *names)
