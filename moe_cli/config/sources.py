"""Where settings come from: defaults < file < environment < --set < flag.

Comes in: a YAML file, the environment, words typed. Goes out: one `MoeConfig`. Always holds: all problems are reported
together, each with the place it came from, before anything heavy is loaded.
"""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from moe_cli.config.settings import MoeConfig
from moe_cli.errors import UsageError

ENVIRONMENT_PREFIX = "MOE_"
UNICODE_BREAKS = "\x85\u2028\u2029"
FLAT_KEYS = ("seed", "registry")

Tree = dict[str, object]


def load_config(
    *, file: Path | None, environment: Mapping[str, str], assignments: Sequence[str], flags: Mapping[str, object]
) -> MoeConfig:
    """The resolved config.

    `assignments` are the words after --set (`train.learning_rate=1e-4`), `flags` maps dotted keys to values typed.

    Raises:
        UsageError: every problem of every source, one per line.
    """
    tree: Tree = {}
    origin: dict[str, str] = {}
    problems: list[str] = []
    sources = (*_from_file(file), *_from_environment(environment), *_from_assignments(assignments, problems))
    for key, value, source in (*sources, *((key, value, "the command line") for key, value in flags.items())):
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


def dump_yaml(config: BaseModel) -> str:
    """YAML that loads to the same config."""
    text = io.StringIO()
    yaml = _yaml()
    yaml.default_flow_style = False
    yaml.representer.add_representer(str, _text)
    yaml.dump(config.model_dump(mode="json"), text)
    return text.getvalue()


def _text(representer: SafeRepresenter, text: str) -> ScalarNode:
    """In quotes that escape, where it holds a break of lines that other quotes would fold."""
    style = '"' if any(sign in text for sign in UNICODE_BREAKS) else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)  # YAML 1.2: `2e-5` is a number, `no` a string, equal keys are refused
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    return yaml


def _from_file(file: Path | None) -> Iterator[tuple[str, object, str]]:
    if file is None:
        return
    if not file.exists() or file.is_dir():  # a pipe is as good as a file
        raise UsageError(f"there is no config file {file}", hint="check the path after --config")
    try:
        content = _yaml().load(file.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{file} is not valid YAML: {_fault(error)}", hint="docs/configuration.md shows an example"
        ) from error
    if content is None:
        return
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds a {type(content).__name__}, not settings", hint="write `key: value` lines")
    yield from ((key, value, str(file)) for key, value in _leaves(content))


def _fault(error: Exception) -> str:
    """What is wrong and where, without the text around it, which may hold a key."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return str(error).splitlines()[0] if isinstance(error, UnicodeDecodeError) else type(error).__name__
    problem = (error.problem or error.context or "").partition(" with value ")[0]
    return f"{problem}, line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    for name, text in sorted(environment.items()):
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name.startswith(ENVIRONMENT_PREFIX) and ("__" in key or key in FLAT_KEYS or _meant(key)):
            yield key.replace("__", "."), _scalar(text), f"the environment variable {name}"


def _meant(key: str) -> bool:
    """Whether a name with one underscore too few means a setting: refused with a suggestion, never ignored."""
    names = [name.replace(".", "_") for name in setting_names()]
    return any(key in (name, name.partition("_")[2]) for name in names)


def _from_assignments(assignments: Sequence[str], problems: list[str]) -> Iterator[tuple[str, object, str]]:
    for words in assignments:
        key, equals, text = words.partition("=")
        if equals and key:
            yield key.strip(), _scalar(text), f"--set {key.strip()}"
        else:
            shown = f" {words}" if re.fullmatch(r"[a-z_.]+", words) else ""  # another word may be a key
            problems.append(f"--set{shown}: write it as section.key=value")


def _scalar(text: str) -> object:
    """The YAML value of a word; no YAML, a number or a date stays text, which the setting's own type reads."""
    value: object
    try:
        value = _yaml().load(text)
    except YAMLError:
        return text
    return value if value is None or isinstance(value, (bool, str, list, dict)) else text


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
        place = f" (from {source})" if source else ""
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            yield f"{key}: unknown key{_suggestion(key)}{place}"
        elif isinstance(problem["input"], dict) or _may_be_secret(key):
            yield f"{key}: {message}{place}"
        else:
            yield f"{key}: {message}, found {problem['input']!r}{place}"


def _may_be_secret(key: str) -> bool:
    """Whether a value is not shown: where a key may have been typed. (Of a section, the message names the settings.)"""
    section, _, name = key.partition(".")
    return section in ("endpoint", "judge") and name.partition(".")[0] in ("", "key_env", "base_url")


def _suggestion(key: str) -> str:
    known = list(setting_names())
    sections = list(dict.fromkeys(name.partition(".")[0] for name in known))
    near = difflib.get_close_matches(key, [*known, *sections], n=1)
    return f", did you mean {near[0]}?" if near else ""


def setting_names(section: type[BaseModel] = MoeConfig, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings, in order."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_names(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
