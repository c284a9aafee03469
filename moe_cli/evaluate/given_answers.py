"""Items and answers of the files named with --answers, joined with the items of --items.

Every answer is judged, or its row is skipped with a reason and counted. An answer is refused where nothing says whether
its prompt is harmful or benign. The same files give the same items with the same ids; only rows with one and the same
prompt depend on their order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from moe_cli.config import EvaluateConfig
from moe_cli.data import Kind, RowFault, cluster_of, cluster_of_prompt, column_map, refuse_bad_rows
from moe_cli.data.column_names import refuse_absent
from moe_cli.data.entries import name_of_text
from moe_cli.data.turns import Turns
from moe_cli.errors import UsageError
from moe_cli.evaluate.answer_formats import ANSWER_FORMATS
from moe_cli.evaluate.answer_rows import FileAnswer
from moe_cli.evaluate.evaluation_items import load_items, prompt_id, refuse_mixed_suites, repeat_id
from moe_cli.evaluate.item_sources import id_in_suite
from moe_cli.evaluate.read_answers import FileOfAnswers, read_answers
from moe_cli.records import AnswerFile, EvaluationItem

UNDECIDED = "nothing says whether its prompt is harmful or benign"
HOW_TO_DECIDE = (
    "say it of all of them with --kind harmful or --kind benign, name their prompts with --items, name the column that "
    "says it with --map is_harmful=COLUMN or --map label=COLUMN, or add a column `kind`"
)


@dataclass(frozen=True, slots=True)
class GivenAnswers:
    """Answers from files, and the items that they answer."""

    items: tuple[EvaluationItem, ...]  # in order of id
    texts: tuple[EvaluationItem, ...]  # of --items, for drift; nobody answers them
    answers: Mapping[str, FileAnswer]  # by id of the item
    files: tuple[AnswerFile, ...]
    epochs: int | None  # answers to each item; None: not the same number for all
    unanswered: int | None  # items of --items without an answer; None: none were named


def read_given_answers(settings: EvaluateConfig) -> GivenAnswers:
    """Read the answers of `settings.answers`.

    Raises:
        UsageError: a file that cannot be read or is of no known format, and all that `join_answers` refuses.
    """
    columns = column_map(settings.map)
    return join_answers([read_answers(argument, columns) for argument in settings.answers], settings)


def join_answers(files: Sequence[FileOfAnswers], settings: EvaluateConfig) -> GivenAnswers:
    """Join the answers of the files with their items.

    Raises:
        UsageError: bad rows, a mapped column that is nowhere, answers of which nothing says whether they are to harmful
            prompts, or no answer at all.
    """
    items = _items(settings, files)
    by_prompt = _by_prompt(items)
    _refuse_twice(files)
    refuse_bad_rows([fault for file in files for fault in file.faults], 0, hint=ANSWER_FORMATS)
    pairs = list(_answered(files, by_prompt, settings))
    if not pairs:
        reasons = "; ".join(f"{reason}: {number}" for file in files for reason, number in file.skipped.items())
        raise UsageError(f"{', '.join(settings.answers)} holds no answer to judge ({reasons})", hint=ANSWER_FORMATS)
    refuse_mixed_suites([item for item, _ in pairs])
    chosen = _limited(sorted(_numbered(pairs), key=lambda pair: pair[0].id), settings.limit)
    times = Counter(prompt_id(item.id) for item, _ in chosen)
    answered = {prompt_id(item.id) for item, _ in pairs}
    texts = [item for item in items if item.kind == "text"]
    return GivenAnswers(
        items=tuple(item for item, _ in chosen),
        texts=tuple(texts if settings.limit is None else texts[: settings.limit]),
        answers={item.id: answer for item, answer in chosen},
        files=tuple(file.record() for file in files),
        epochs=next(iter(times.values())) if len(set(times.values())) == 1 else None,
        unanswered=sum(item.id not in answered for some in by_prompt.values() for item in some) if items else None,
    )


def _refuse_twice(files: Sequence[FileOfAnswers]) -> None:
    names: dict[str, str] = {}
    for file in files:
        if file.sha256 in names:
            raise UsageError(f"{file.name} holds the same as {names[file.sha256]}", hint="name every file once")
        names[file.sha256] = file.name


def _items(settings: EvaluateConfig, files: Sequence[FileOfAnswers]) -> tuple[EvaluationItem, ...]:
    """The items of --items, without limit; a mapped column belongs to them or to one of the files of answers."""
    columns = [file.columns for file in files]
    if not settings.items:
        refuse_absent(column_map(settings.map), columns)
        return ()
    return load_items(settings.model_copy(update={"limit": None}), "", columns_elsewhere=columns)


def _by_prompt(items: Sequence[EvaluationItem]) -> dict[Turns, list[EvaluationItem]]:
    """The items by their prompt; texts have none.

    Raises:
        UsageError: one prompt stands there as harmful and as benign.
    """
    by_prompt: dict[Turns, list[EvaluationItem]] = defaultdict(list)
    for item in items:
        if item.kind != "text":
            by_prompt[item.messages].append(item)
    for alike in by_prompt.values():
        if len({item.kind for item in alike}) > 1:
            raise UsageError(
                f"--items holds one prompt as harmful and as benign: {', '.join(item.id for item in alike)}",
                hint="leave one of them out",
            )
    return by_prompt


def _answered(
    files: Sequence[FileOfAnswers], by_prompt: Mapping[Turns, Sequence[EvaluationItem]], settings: EvaluateConfig
) -> Iterator[tuple[EvaluationItem, FileAnswer]]:
    """Every answer with its item, before ids are made unique; items with the same prompt take turns.

    Raises:
        UsageError: nothing says the kind of an answer's prompt, or the file and --items say different ones.
    """
    faults: list[RowFault] = []
    undecided: list[RowFault] = []
    turn: Counter[Turns] = Counter()
    for file in files:
        for answer in file.answers:
            alike, kind = by_prompt.get(answer.messages), answer.kind or settings.kind
            item = alike[turn[answer.messages] % len(alike)] if alike else None
            turn[answer.messages] += 1
            if item is not None and answer.kind not in (None, item.kind):
                faults.append(RowFault(answer.place, f"the file says {answer.kind}, and --items says {item.kind}"))
            elif item is not None:
                file.kinds[f"{item.kind} by --items"] += 1
                yield item, answer
            elif kind is not None:
                file.kinds[f"{kind} by {'the file' if answer.kind else '--kind'}"] += 1
                yield _own_item(answer, kind), answer
            else:
                undecided.append(RowFault(answer.place, UNDECIDED))
    refuse_bad_rows(faults, 0, hint="leave --items away, or correct the kind in one of the two")
    if undecided:
        of_items = ", and --items does not hold it" if by_prompt else ""
        raise UsageError(
            f"{undecided[0]}{of_items}; so it is with {len(undecided)} of the "
            f"{sum(len(file.answers) for file in files)} answers",
            hint=HOW_TO_DECIDE,
        )


def _own_item(answer: FileAnswer, kind: Kind) -> EvaluationItem:
    """The item made from the answer alone; answers to one goal share a cluster."""
    prompt = answer.messages[-1].content
    wrapped = answer.goal is not None and answer.goal != prompt
    suite = answer.suite or (kind if kind == "benign" or not wrapped else "attacked")
    own = answer.id or name_of_text("\n".join(turn.content for turn in answer.messages))
    return EvaluationItem(
        id=id_in_suite(suite, own),
        suite=suite,
        kind=kind,
        cluster=answer.cluster or (cluster_of(answer.goal) if answer.goal else cluster_of_prompt(answer.messages)),
        messages=answer.messages,
        expected=answer.expected,
    )


def _numbered(
    pairs: Sequence[tuple[EvaluationItem, FileAnswer]],
) -> Iterator[tuple[EvaluationItem, FileAnswer]]:
    """Make ids unique: `a/2` is the second prompt under the id `a`, `a#2` the second answer to the prompt of `a`."""
    numbers: dict[str, dict[Turns, int]] = defaultdict(dict)
    times: Counter[str] = Counter()
    ids: set[str] = set()
    for item, answer in pairs:
        name = prompt_id(item.id)
        number = numbers[name].setdefault(item.messages, len(numbers[name]) + 1)
        of_prompt = name if number == 1 else f"{name}/{number}"
        times[of_prompt] += 1
        id = repeat_id(of_prompt, times[of_prompt])
        if id in ids:
            raise UsageError(f"the item {id} stands twice", hint="give every prompt of a suite an id of its own")
        ids.add(id)
        yield replace(item, id=id), answer


def _limited(
    pairs: Sequence[tuple[EvaluationItem, FileAnswer]], limit: int | None
) -> list[tuple[EvaluationItem, FileAnswer]]:
    """All answers to the first `limit` prompts of every suite."""
    numbers_of_suite: dict[str, dict[str, int]] = defaultdict(dict)
    numbers: dict[str, count[int]] = defaultdict(lambda: count(1))
    kept = []
    for item, answer in pairs:
        of_suite, name = numbers_of_suite[item.suite], prompt_id(item.id)
        if name not in of_suite:
            of_suite[name] = next(numbers[item.suite])
        if limit is None or of_suite[name] <= limit:
            kept.append((item, answer))
    return kept
