"""Where settings come from: defaults < file < environment < --set < flag.

All problems are reported together, each with the source it came from, before anything heavy is loaded.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from moe_cli.characters import is_text
from moe_cli.config.settings import MoeConfig
from moe_cli.config.yaml_text import LONGEST_TEXT, parse_yaml
from moe_cli.errors import UsageError
from moe_cli.masking import mask_keys
from moe_cli.spelling import did_you_mean

ENVIRONMENT_PREFIX = "MOE_"
LONGEST_VALUE = 200  # characters of a wrong value that are shown
FLAT_KEYS = ("seed", "registry")
LARGEST_FILE = 4 * LONGEST_TEXT  # bytes: a character of UTF-8 has four at most
NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # Windows has no such pipes

Tree = dict[str, object]


def load_config(
    *, file: Path | None, environment: Mapping[str, str], assignments: Sequence[str], flags: Mapping[str, object]
) -> MoeConfig:
    """The resolved config.

    `assignments` are the values of --set (`train.learning_rate=1e-4`), `flags` maps dotted keys to typed values.

    Raises:
        UsageError: every problem of every source, one per line.
    """
    tree: Tree = {}
    origin: dict[str, str] = {}
    problems: list[str] = []
    sources = (*_from_file(file), *_from_environment(environment), *_from_assignments(assignments, problems))
    for key, value, source in (*sources, *((key, value, "the command line") for key, value in flags.items())):
        if fault := _unwritable(value):
            problems.append(f"{key}: {fault} (from {source})")
            continue
        _put(tree, key.split("."), value)
        origin[key] = source
    try:
        config = MoeConfig.model_validate(tree)
    except ValidationError as error:
        problems += _problems(error, origin)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UsageError(
            f"the configuration has {count}" + "".join(f"\n  - {line}" for line in problems),
            hint="moe config show prints the resolved settings, moe config schema every key",
        )
    return config


def _from_file(file: Path | None) -> Iterator[tuple[str, object, str]]:
    if file is None:
        return
    try:
        content = parse_yaml(_bytes_of(file).decode())
    except UnicodeDecodeError as error:
        fault = str(error).splitlines()[0]
        raise UsageError(f"{file} is not valid YAML: {fault}", hint="docs/configuration.md shows an example") from error
    except ValueError as error:
        raise UsageError(f"{file} is not valid YAML: {error}", hint="docs/configuration.md shows an example") from error
    if content is None:
        return
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds a {type(content).__name__}, not settings", hint="write `key: value` lines")
    yield from ((key, value, str(file)) for key, value in _leaves(content))


def _bytes_of(file: Path) -> bytes:
    """The content of a file or a pipe (`--config <(...)`, `/dev/stdin`).

    Raises:
        UsageError: there is no such file, or it is larger than any settings could be.
    """
    if not file.exists() or file.is_dir():
        raise UsageError(f"there is no config file {file}", hint="check the path after --config")
    handle = os.open(file, os.O_RDONLY | NO_WAITING)  # for a writer of a pipe, who may never come
    with open(handle, "rb") as stream:
        try:
            begun = os.read(handle, LARGEST_FILE)
        except BlockingIOError:  # the writer is there, and has not written yet
            begun = None
        if begun == b"" and stat.S_ISFIFO(os.fstat(handle).st_mode):
            raise UsageError(f"nobody writes into the pipe {file}", hint="name a file, or --config <(COMMAND)")
        os.set_blocking(handle, True)
        content = (begun or b"") + stream.read(LARGEST_FILE + 1 - len(begun or b""))
    if len(content) > LARGEST_FILE:
        raise UsageError(f"{file} has more than {LARGEST_FILE:,} bytes, and settings take few", hint="check --config")
    return content


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    for name, text in sorted(environment.items()):
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name.startswith(ENVIRONMENT_PREFIX) and ("__" in key or key in FLAT_KEYS or _meant(key)):
            yield key.replace("__", "."), _scalar(text), f"the environment variable {name}"


def _meant(key: str) -> bool:
    """Whether a name with one underscore too few is meant as a setting: refused with a suggestion, not ignored."""
    names = [name.replace(".", "_") for name in setting_names()]
    return any(key in (name, name.partition("_")[2]) for name in names)


def _from_assignments(assignments: Sequence[str], problems: list[str]) -> Iterator[tuple[str, object, str]]:
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if equals and key:
            yield key.strip(), _scalar(text), f"--set {key.strip()}"
        else:
            described = f" {assignment}" if re.fullmatch(r"[a-z_.]+", assignment) else ""  # another word may be a key
            problems.append(f"--set{described}: write it as section.key=value")


def _scalar(text: str) -> object:
    """The YAML value of a text; invalid YAML, numbers and dates stay text, which the setting's own type parses."""
    value: object
    try:
        value = parse_yaml(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, (bool, str, list, dict)) else text


def _unwritable(value: object) -> str | None:
    """The part of a text that neither a path nor a settings file can contain; None if there is none."""
    if isinstance(value, (list, tuple)):
        return next(filter(None, map(_unwritable, value)), None)
    if isinstance(value, dict):
        return _unwritable([*value, *value.values()])
    text = str(value) if isinstance(value, (str, Path)) else ""
    if "\0" in text:
        return "it holds a NUL character"
    return None if is_text(text) else "it is not UTF-8"


def _leaves(tree: Mapping[object, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _put(tree: Tree, path: Sequence[str], value: object) -> None:
    for part in path[:-1]:
        below = tree.setdefault(part, {})
        if not isinstance(below, dict):
            tree[part] = below = {}
        tree = below
    tree[path[-1]] = value


def _problems(error: ValidationError, origin: Mapping[str, str]) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False):
        key = ".".join(str(part) for part in problem["loc"])
        source = next((text for name, text in origin.items() if f"{key}.".startswith(f"{name}.")), None)
        place = f" (from {source[:LONGEST_VALUE]})" if source else ""
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            yield f"{key}: unknown key{_suggestion(key)}{place}"
        elif isinstance(problem["input"], dict) or _may_be_secret(key):
            yield f"{key}: {message}{place}"
        else:
            yield f"{key}: {message}, found {_short(problem['input'])}{place}"


def _short(value: object) -> str:
    text = mask_keys(repr(value))  # before it is cut, as half a key is not found
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _may_be_secret(key: str) -> bool:
    """Whether a value must not be shown, as it may be a secret. (For a section, the message names the settings.)"""
    section, _, name = key.partition(".")
    return section in ("endpoint", "judge") and name.partition(".")[0] in ("", "key_env", "base_url")


def _suggestion(key: str) -> str:
    known = list(setting_names())
    sections = list(dict.fromkeys(name.partition(".")[0] for name in known))
    return did_you_mean(key, [*known, *sections])


def setting_names(section: type[BaseModel] = MoeConfig, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings, in order."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_names(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
