"""Judges by the names that a user types: `keywords`, `harmbench:MODEL`, `strongreject`, `command:PROGRAM ARGS`.

All names are checked before any weights are loaded or any request is sent, and all errors are reported at once. No two
judges have the same name. A judge of another package is named by its entry point; a name that is missing or there
twice, and an object that is no `Judge`, are refused before it is asked anything.

[project.entry-points."moe_cli.judges"]
    mine = "my_package.judging:my_judge"
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from moe_cli.config.sections import JudgeConfig
from moe_cli.errors import UsageError
from moe_cli.judges.classifiers import HARMBENCH, LLAMA_GUARD, WILDGUARD, Classifier
from moe_cli.judges.command import CommandJudge
from moe_cli.judges.endpoint_judge import EndpointJudge
from moe_cli.judges.judge import Judge
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.judges.rubric import Rubric, rubric_of
from moe_cli.judges.rubrics import strongreject_delimited_rubric, strongreject_rubric, xstest_rubric
from moe_cli.model.chat_endpoint import EndpointOptions, chat_endpoint
from moe_cli.records.judging import QUESTIONS, Question
from moe_cli.spelling import did_you_mean

GROUP = "moe_cli.judges"
PARTS = ("name", "questions", "group", "identity", "holds_weights", "check", "verdicts", "release")
CLASSIFIERS = {classifier.name: classifier for classifier in (HARMBENCH, LLAMA_GUARD, WILDGUARD)}
JUDGE_OPTIONS = EndpointOptions(base_url="--judge-url", key="--judge-key-env", model="--judge-model")


def plugin_judge(name: str, settings: JudgeConfig) -> Judge:
    """The judge of the entry point `name`.

    Raises:
        UsageError: there is no such entry point, or two; it cannot be imported, or it makes no judge.
    """
    entries = list(entry_points(group=GROUP, name=name))
    if len(entries) != 1:
        names = sorted({entry.name for entry in entry_points(group=GROUP)})
        there = f"{len(entries)} packages offer it" if entries else f"there are: {', '.join(names) or 'none'}"
        raise UsageError(
            f"the judge plugin:{name} is not there exactly once; {there}",
            hint=f"install the package that has it as an entry point of {GROUP}",
        )
    (entry,) = entries
    try:
        make = entry.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the judge plugin:{name} ({entry.value}) cannot be imported: {error}", hint="install its package again"
        ) from error
    judge = make(settings)
    missing = [part for part in PARTS if part not in dir(judge)]
    if missing:
        raise UsageError(
            f"what plugin:{name} ({entry.value}) makes is no judge: it lacks {', '.join(missing)}",
            hint="docs/judges.md says what a judge must have",
        )
    return cast(Judge, judge)


COMMANDS: dict[str, tuple[Question, ...]] = {
    "command": QUESTIONS,
    "command-harm": ("harm",),
    "command-refusal": ("refusal",),
}
NAMES = ("keywords", *CLASSIFIERS, "strongreject", "strongreject-delimited", "xstest", "rubric", *COMMANDS, "plugin")


def judges_of(
    names: Sequence[str], settings: JudgeConfig, environment: Mapping[str, str] = os.environ
) -> tuple[Judge, ...]:
    """The judges of these names, in their order.

    Raises:
        UsageError: no name, an unknown one, the same judge twice, an endpoint without an address, a faulty rubric file,
            a program or directory that is not there; all of them at once.
    """
    if not names:
        raise UsageError("no judge is named", hint="name one of " + ", ".join(NAMES))
    judges: list[Judge] = []
    faults: list[UsageError] = []
    for word in names:
        try:
            judges.append(_judge(word, settings, environment))
        except UsageError as fault:  # said together below
            faults.append(fault)
    twice = [name for name, times in Counter(judge.name for judge in judges).items() if times > 1]
    faults += [UsageError(f"the judge {name} is named twice", hint="name every judge once") for name in twice]
    if len(faults) > 1:
        lines = "".join(f"\n  - {fault.message} ({fault.hint})" for fault in faults)
        raise UsageError(f"the judges have {len(faults)} problems{lines}", hint="docs/judges.md lists every judge")
    if faults:
        raise faults[0]
    return tuple(judges)


def _judge(word: str, settings: JudgeConfig, environment: Mapping[str, str]) -> Judge:
    name, colon, argument = word.strip().partition(":")
    if name in CLASSIFIERS:
        _refuse_empty(word, argument or not colon, f"{name}:MODEL names a hub model or a directory")
        return _local(CLASSIFIERS[name], argument or None, settings)
    if name in COMMANDS:
        return CommandJudge(_split(word, argument), COMMANDS[name], settings)
    if name == "plugin":
        _refuse_empty(word, argument, "plugin:NAME names an entry point of moe_cli.judges")
        return plugin_judge(argument, settings)
    if name == "rubric":
        _refuse_empty(word, argument, "rubric:FILE names a text file")
        return _by_endpoint(lambda: rubric_of(Path(os.path.expanduser(argument))), settings, environment)
    alone: dict[str, Callable[[], Judge]] = {
        "keywords": KeywordJudge,
        "strongreject": lambda: _by_endpoint(lambda: strongreject_rubric(settings.threshold), settings, environment),
        "strongreject-delimited": lambda: _by_endpoint(
            lambda: strongreject_delimited_rubric(settings.threshold), settings, environment
        ),
        "xstest": lambda: _by_endpoint(xstest_rubric, settings, environment),
    }
    if name in alone and colon:
        raise UsageError(f"the judge {name} takes nothing after a colon", hint="there are " + ", ".join(NAMES))
    if name not in alone:
        guess = did_you_mean(name, NAMES)
        raise UsageError(f"there is no judge {_shown(name)}{guess}", hint="there are " + ", ".join(NAMES))
    return alone[name]()


def _shown(name: str) -> str:
    """The name before the colon for an error, if it could be that of a judge; anything else may be a key."""
    return repr(name) if re.fullmatch(r"[A-Za-z_-]{0,40}", name) else "of that name"


def _refuse_empty(word: str, argument: object, hint: str) -> None:
    if not argument:
        raise UsageError(f"the judge {word!r} lacks what stands after the colon", hint=hint)


def _split(word: str, command: str) -> list[str]:
    hint = "command:PROGRAM ARGS, with quotes around words that hold spaces"
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"a judge `command:` cannot be split into words: {error}", hint=hint) from error
    _refuse_empty(word, argv, hint)
    return argv


def _local(classifier: Classifier, model: str | None, settings: JudgeConfig) -> Judge:
    from moe_cli.judges.local import LocalJudge  # torch, only where a classifier is asked for

    return LocalJudge(classifier, model, settings)


def _by_endpoint(rubric: Callable[[], Rubric], settings: JudgeConfig, environment: Mapping[str, str]) -> Judge:
    built = rubric()
    if settings.base_url is not None and settings.model is None:
        raise UsageError(
            f"the judge {built.name} does not know which model to ask for at {settings.base_url}",
            hint=f"set {JUDGE_OPTIONS.model} to the model's name there",
        )
    endpoint = chat_endpoint(settings, "", environment, whole=False, options=JUDGE_OPTIONS)
    return EndpointJudge(built, endpoint, settings.max_tokens, settings.retries + 1, settings.concurrency)
