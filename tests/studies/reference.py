"""The pages docs/cli.md and docs/configuration.md and the tree of files in docs/architecture.md, made from the program.

    python -m tests.studies.reference docs

A test compares what stands in the repository with what this file makes, so that it never says something else than the
program.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from textwrap import fill
from typing import cast

import typer
from typer.core import TyperGroup

import moe_cli
from moe_cli.artifacts.files import write_atomic
from moe_cli.cli.app import app
from moe_cli.cli.options import setting_of
from moe_cli.config import ENVIRONMENT_PREFIX, MoeConfig, setting_names
from moe_cli.errors import ExitCode

PAGE_WIDTH = 120  # characters
NAME_WIDTH = 28  # of a file in the tree, characters
PACKAGE = Path(moe_cli.__file__).parent
TREE_BEGINS = "<!-- The tree is made by `python -m tests.studies.reference docs`; a test checks it. -->"
TREE_ENDS = "<!-- end of the tree -->"
MADE_BY = "<!-- Made by `python -m tests.studies.reference docs`; a test checks that it is up to date. -->"

CLI_INTRODUCTION = """\
`moe COMMAND --help` prints the same on a terminal. All commands keep to these rules:

- Data and tables go to stdout; progress, notices and errors go to stderr. `--json` prints exactly one JSON document.
- An option that is not typed leaves its setting to the config file, the environment and the default
  ([configuration.md](configuration.md)).
- The underscore spellings of the original scripts are accepted: `--model_name` is `--model-name`.
- What a person can fix is two lines on stderr, `error: ...` and `hint: ...`, and one of the exit codes below.
- A command that stops before it wrote any work leaves nothing behind; one that stops later is continued by the same
  command with `--resume`."""

EXIT_CODES = {
    ExitCode.OK: "done",
    ExitCode.BUG: "a bug, with its traceback",
    ExitCode.USAGE: "the words typed, the settings or the input files are off",
    ExitCode.ARTIFACT: "a run directory is missing, damaged, taken or made for something else, or a sweep lacks points",
    ExitCode.ENVIRONMENT: "the machine lacks a device, memory, disk space or a permission",
    ExitCode.NUMERIC: "a loss, gradient or logit is not a finite number",
    ExitCode.LOCKED: "another run writes to the same directory",
    ExitCode.THRESHOLD: "a comparison threshold failed",
    ExitCode.UNSCORED: "too many answers have no verdict; the results are written all the same",
    ExitCode.PEER: "another process of the same run ended; its exit code says why",
    ExitCode.RESUMABLE: "stopped; what was done is saved, `--resume` goes on",
    ExitCode.INTERRUPTED: "interrupted with nothing to resume from",
}

CONFIGURATION_INTRODUCTION = """\
Every setting has a name with dots, such as `train.learning_rate`. Five sources set it; a later one wins:

1. the default below,
2. the YAML file after `--config`,
3. the environment variable,
4. `--set NAME=VALUE` (repeatable),
5. the command line option, where there is one ([cli.md](cli.md)).

All problems of all sources are reported together, each with the place it comes from, before a model is loaded. An
unknown key is refused. `moe config show` prints the settings as they are resolved, `--dry-run` does the same for one
command and exits with the code of a run as far as it can be told without the model, and `moe config schema` prints the
JSON schema. Every run keeps its resolved settings in `config.yaml`, which is itself a valid file for `--config`.

The file is YAML 1.2: `2e-5` is a number, `no` is a word, `010` is ten, and a key that stands twice is refused. It has
at most 100,000 characters, and may be a pipe (`--config <(COMMAND)`, `/dev/stdin`) that somebody writes into; one
without a writer is refused at once. For example, `moe prepare --config moe.yaml` with this `moe.yaml`:"""

EXAMPLE = """\
seed: 42
model:
  name: allenai/OLMoE-1B-7B-0125-Instruct
  gpu: 0
prepare:
  pairs: pairs.jsonl
  benign: benign.jsonl
  budget: 5%
train:
  learning_rate: 2e-5
  num_epochs: 3
evaluate:
  items: [items.jsonl]
"""

HUGE = 2**31  # the bound of every count; not worth a word

Schema = Mapping[str, object]


def pages(docs: Path) -> dict[str, str]:
    """Name and text of every page; of a page with a part that is made the rest stands in the directory."""
    architecture = (docs / "architecture.md").read_text(encoding="utf-8")
    before, begins, rest = architecture.partition(TREE_BEGINS)
    _, ends, after = rest.partition(TREE_ENDS)
    if not (begins and ends):
        raise ValueError(f"architecture.md lacks {TREE_BEGINS} or {TREE_ENDS}")
    return {
        "cli.md": cli_page(),
        "configuration.md": configuration_page(),
        "architecture.md": f"{before}{TREE_BEGINS}\n{code_tree()}\n{TREE_ENDS}{after}",
    }


def code_tree() -> str:
    """Every file of the package with the first sentence of its docstring."""
    return "\n".join(["```", f"{PACKAGE.name}/", *_branch(PACKAGE, 1), "```"])


def _branch(directory: Path, depth: int) -> Iterator[str]:
    entries = [path for path in directory.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    for path in sorted(entries, key=lambda path: (path.is_dir(), path.name != "__init__.py", path.name)):
        name = f"{'  ' * depth}{path.name}{'/' if path.is_dir() else ''}"
        sentence = _first_sentence(path / "__init__.py" if path.is_dir() else path)
        if path.is_dir():
            yield from _tree_lines(name, sentence)
            yield from _branch(path, depth + 1)
        elif path.name != "__init__.py":
            yield from _tree_lines(name, sentence)


def _tree_lines(name: str, sentence: str) -> list[str]:
    """One entry of the tree, as many lines as it needs."""
    start = f"{name:<{NAME_WIDTH}} "
    text = fill(sentence, PAGE_WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)
    return [line.rstrip() for line in text.splitlines()] or [name]


def _first_sentence(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[.?!])(?<!\betc\.) ", paragraph, maxsplit=1)[0] if paragraph else ""


def cli_page() -> str:
    """Every command with its help, its examples and its options."""
    commands = list(_commands(typer.main.get_command(app), "moe"))
    codes = _table(("code", "meaning"), [(str(int(code)), EXIT_CODES[code]) for code in ExitCode])
    parts = ["# Commands", MADE_BY, CLI_INTRODUCTION, "## Exit codes", codes]
    for name, command in commands:
        parts += [f"## {name}", *_command_parts(name, command)]
    return "\n\n".join(parts) + "\n"


def configuration_page() -> str:
    """Every setting with its type, default, bounds, meaning and environment variable."""
    parts = ["# Configuration", MADE_BY, CONFIGURATION_INTRODUCTION, f"```yaml\n{EXAMPLE}```", "## All commands"]
    named = {name: _property(name) for name in setting_names()}
    parts.append(_settings_table({name: found for name, found in named.items() if "." not in name}))
    for section in dict.fromkeys(name.partition(".")[0] for name in named if "." in name):
        parts += [f"## {section}", str(_section(section)["description"])]
        parts.append(_settings_table({name: found for name, found in named.items() if name.startswith(f"{section}.")}))
    return "\n\n".join(parts) + "\n"


def _commands(command: object, name: str) -> Iterator[tuple[str, object]]:
    """Full names and commands below `command`, in the order of its help."""
    if not isinstance(command, TyperGroup):
        yield name, command
        return
    if command.invoke_without_command:
        yield name, command
    for word in command.list_commands(typer.Context(command)):
        yield from _commands(command.commands[word], f"{name} {word}")


def _command_parts(name: str, command: object) -> Iterator[str]:
    paragraphs = str(getattr(command, "help", "")).split("\n\n")
    yield from (fill(text, PAGE_WIDTH) for text in paragraphs if not text.startswith("Example: "))
    parameters: Sequence[object] = getattr(command, "params", ())
    arguments = [one for one in parameters if getattr(one, "param_type_name", "") == "argument"]
    options = [one for one in parameters if getattr(one, "param_type_name", "") == "option"]
    usage = " ".join([name, *map(_argument, arguments), "[OPTIONS]"])
    examples = [text.removeprefix("Example: ") for text in paragraphs if text.startswith("Example: ")]
    yield "```\n" + "\n".join([usage, "", *examples]) + "\n```"
    if arguments:
        yield _table(("argument", "meaning"), [(f"`{_argument(one)}`", _help(one)) for one in arguments])
    if options:
        yield _table(("option", "meaning", "setting", "default"), [_option_row(one) for one in options])


def _argument(argument: object) -> str:
    name = str(getattr(argument, "name", "")).upper() + ("..." if getattr(argument, "nargs", 1) == -1 else "")
    return name if getattr(argument, "required", False) else f"[{name}]"


def _help(parameter: object) -> str:
    return str(getattr(parameter, "help", None) or "").replace("\\[", "[")


def _option_row(option: object) -> tuple[str, ...]:
    names = ", ".join(f"`{word}`" for word in getattr(option, "opts", ()))
    setting = setting_of(str(getattr(option, "name", "")))
    if setting is None:
        default = getattr(option, "default", None)
        return names, _help(option), "", "" if default in (None, False) else f"`{default}`"
    return names, _help(option), f"`{setting}`", _default(_property(setting))


def _settings_table(settings: Mapping[str, Schema]) -> str:
    rows = [
        (f"`{name}`", _kind(found), _default(found), _bounds(found), str(found["description"]), f"`{_variable(name)}`")
        for name, found in settings.items()
    ]
    return _table(("setting", "type", "default", "bounds", "meaning", "environment"), rows)


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.replace(".", "__").upper()


@cache
def _schema() -> Schema:
    return cast(Schema, MoeConfig.model_json_schema())


def _section(name: str) -> Schema:
    """The schema of one section; of the whole config where the name is empty."""
    if not name:
        return _schema()
    reference = str(cast(Schema, cast(Schema, _schema()["properties"])[name])["$ref"])
    return cast(Schema, cast(Schema, _schema()["$defs"])[reference.rpartition("/")[2]])


def _property(name: str) -> Schema:
    """The schema of one setting."""
    section, _, key = name.rpartition(".")
    return cast(Schema, cast(Schema, _section(section)["properties"])[key])


def _given(found: Schema) -> Schema:
    """The schema of the value where it is given; whether it may be left out shows in the default."""
    choices = [cast(Schema, choice) for choice in cast("Sequence[object]", found.get("anyOf", ()))]
    return next((choice for choice in choices if choice.get("type") != "null"), found)


def _kind(found: Schema) -> str:
    given = _given(found)
    if words := cast("Sequence[object]", given.get("enum", [given["const"]] if "const" in given else [])):
        return " or ".join(f"`{word}`" for word in words)
    if given.get("format") == "path":
        return "path"
    if given.get("type") == "array":
        return f"list of {_kind(cast(Schema, given['items']))}"
    return {"integer": "whole number", "number": "number", "boolean": "true or false"}.get(str(given["type"]), "text")


def _default(found: Schema) -> str:
    value = found["default"]
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _bounds(found: Schema) -> str:
    given = _given(found)
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    bounds = [f"{word} {given[key]:.10g}" for key, word in words.items() if given.get(key, HUGE) != HUGE]
    return ", ".join([*bounds, *([f"matches `{given['pattern']}`"] if "pattern" in given else [])])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main() -> None:
    """Write the pages into the directory that was named."""
    docs = Path(sys.argv[1])
    for name, text in pages(docs).items():
        write_atomic(docs / name, text.encode())


if __name__ == "__main__":
    main()
