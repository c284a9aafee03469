"""What typed words and settings can do: each kind of hostile word as every option and argument and in every setting.

    python -m tests.studies.hostile_words --share 0.1

The commands and their options are those of the program's own tree, the settings those of its config; what a command
needs besides is `NEEDED`. No work is ever begun. Words that no place may take (not UTF-8, a NUL character, no number
where one is meant, a place where nothing can be written) have to be refused before it would.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import typer

from moe_cli.cli.app import app
from moe_cli.config import MoeConfig, setting_names
from tests.studies.typed import Case, Tried, make_runs, print_table, tried, working_in

WORDS = {
    "long": ("z" * 300, "a/" * 3000, "z" * 100_000, "a." * 2000, "z=" * 50_000),
    "no text": ("\udcff", "a\udcffb", '"\\ud800"', '"a\\0b"', '[a, "\\0"]', '{a: "\\0"}'),
    "deep": ("[" * 2000, "{a: " * 2000, "[" * 60 + "]" * 60, "&a {x: *a}", "(" * 3000, "a: " * 3000, "- " * 3000),
    "number": ("9" * 5000, "1e400", "nan", "true", "0x" + "f" * 400, "-1", "1e-320", "2147483648", "1e300", "0"),
    "terminal": (
        "m\x1b]0;X\x07",
        "\x9b2J",
        "\u202eabc",
        "\u2066x\u200b",
        "a\x7f",
        "[red]x[/red]",
        "\U000e0041",
        "a\nb",
    ),
    "place": (
        "FILE/x",
        "/proc/x",
        "loop",
        "loop/x",
        "dangling",
        "fifo",
        "folder",
        "/dev/full",
        "/proc/self/mem",
        "~no/x",
    ),
    "address": (
        "run:1",
        "s3:x",
        "hdfs:",
        "file:x",
        "http://a..b/v1",
        f"http://{'a' * 64}/v1",
        "http://[::1",
        "//x",
        "hf://x",
    ),
    "syntax": (
        "",
        " ",
        "=",
        "a=b=c",
        "--",
        "-",
        "'",
        '"',
        "!!int abc",
        "2024-99-99",
        "? [a]: b",
        "#",
        "@x",
        "*",
        "%",
        "${x}",
    ),
}
# What a command needs to come as far as it can: its arguments, and its options.
NEEDED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "prepare": ((), ("-o", "new", "--model", "tiny", "--set", "prepare.tiny_pairs=24")),
    "select": (("prepared",), ("--method", "random")),
    "train selective": ((), ("--model", "tiny")),
    "train baseline": ((), ("--model", "tiny")),
    "evaluate": (("tiny",), ("--set", "evaluate.tiny_items=4")),
    "label": (("tiny", "selective"), ("--draw", "50")),
    "compare": (("paired.csv",), ()),
    "ablate": (("prepared",), ("--limit", "2", "--controls", "19")),
    "sweep": (("prepared",), ("--budgets", "20%", "--random-draws", "1")),
    "export": (("selective",), ("-o", "exported")),
    "plan": (("tiny",), ()),
    "launch": (("slurm", "--", "train", "selective"), ()),
    "push": (("selective", "a/b"), ("--dry-run",)),
    "runs show": (("selective",), ()),
    "runs verify": (("selective",), ()),
    "runs add": (("selective",), ()),
    "runs forget": (("none",), ()),
}
# Words that hold a hostile one.
AROUND = (
    "{}",
    "runs {}",
    "config show --set {}=1",
    "config show --set {}",
    "prepare -o new --model {} --pairs pairs.jsonl",
    *(
        f"prepare -o new --model tiny --judge {kind}:{{}}"
        for kind in ("rubric", "command", "plugin", "harmbench", "keywords")
    ),
    "prepare -o new --model tiny --judge xstest --judge-url http://localhost:1/v1 --judge-model {}",
    "prepare -o new --model tiny --engine openai --base-url {}",
    "prepare -o new --model tiny --engine openai --base-url http://{}/v1",
    "evaluate tiny --items harmful={}",
    "evaluate tiny --items pairs.jsonl#{}",
    "evaluate --answers {} --kind harmful",
    "prepare -o new --model tiny --pairs pairs.jsonl --map goal={}",
    "prepare -o new --model tiny --pairs pairs.jsonl --map {}=goal",
    "prepare -o new --model tiny --pairs a/b@{}",
    "prepare -o new --model tiny --pairs hf://datasets/{}",
    "select --from-counts {}",
    "select --from-scores {}",
    "select --from-counts counts.csv -o {}",
    "compare tiny selective --labels {}",
    "compare {}=paired.csv",
    "compare a={}",
    "compare tiny {}",
    "config show --set prepare.select_by=q<{}",
    "config show --set compare.fail_if=asr>{}",
    "compare paired.csv --fail-if {}>0",
    "evaluate selective --again {}",
    "bench --arms selective,{}",
)
READING = ("runs list", "runs show", "runs verify", "runs forget", "push", "label")  # of the registry
WRITTEN = ("--output-dir", "--output", "--registry")
UNWRITABLE = ("FILE/x", "/proc/x", "loop", "loop/x", "dangling", "fifo", "/dev/full", "/proc/self/mem")
NO_NUMBERS = ("9" * 5000, "1e400", "nan", "true", "0x" + "f" * 400)
COMMAND_OF = {"prepare": "prepare", "evaluate": "evaluate", "train": "train selective", "compare": "compare"}
COUNTS = "layer,expert,a1,a2,d1,d2\n0,0,3,1,1,3\n0,1,1,3,3,1\n"
PAIRED = "id,a,b\n" + "".join(f"{number},{number % 2},{number % 3 % 2}\n" for number in range(12))


@dataclass(frozen=True)
class Option:
    """A place of a command line that takes a word."""

    command: str  # "train selective"
    name: str  # "output_dir"
    typed: str | None  # "--output-dir"; None: an argument
    is_number: bool


@cache
def options() -> tuple[Option, ...]:
    """Every one that takes a value, from the command tree."""

    def below(command: typer.core.TyperGroup, path: str) -> Iterator[Option]:
        for parameter in command.params:
            if parameter.param_type_name == "argument" or not parameter.is_flag:
                typed = None if parameter.param_type_name == "argument" else parameter.opts[0]
                is_number = parameter.type_descriptor.annotation in (int, float)
                yield Option(path, parameter.name, typed, is_number)
        for name, one in getattr(command, "commands", {}).items():
            yield from below(one, f"{path} {name}".strip())

    return tuple(below(typer.main.get_command(app), ""))


@cache
def numbers() -> set[str]:
    """The settings that are numbers."""
    schema = MoeConfig.model_json_schema()

    def below(one: dict, prefix: str) -> Iterator[str]:
        for name, field in one["properties"].items():
            if "$ref" in field:
                yield from below(schema["$defs"][field["$ref"].rpartition("/")[2]], f"{prefix}{name}.")
            elif {part.get("type") for part in (field, *field.get("anyOf", ()))} & {"integer", "number"}:
                yield f"{prefix}{name}"

    return set(below(schema, ""))


def cases() -> Iterator[Case]:
    """Every word in every place."""
    for kind, words in WORDS.items():
        for word in words:
            for option in options():
                yield _as_option(kind, word, option)
            for around in AROUND:
                typed = [part.replace("{}", word) for part in around.split()]
                yield Case(kind=kind, name=around, words=typed, must_be_refused=_is_no_text(word))
            yield from _as_settings(kind, word)


def _as_option(kind: str, word: str, option: Option) -> Case:
    arguments, more = NEEDED.get(option.command, ((), ()))
    typed = [*option.command.split()]
    if option.typed is None:
        typed += [word, *arguments[1:], *more]
    else:
        typed += [*arguments, *more, option.typed, word]
    refused = (
        _is_no_text(word)
        or (option.is_number and word in NO_NUMBERS)
        or (option.typed in WRITTEN and word in UNWRITABLE and not _is_read(option))
    )
    return Case(kind=kind, name=f"{option.command} {option.typed or option.name}", words=typed, must_be_refused=refused)


def _is_read(option: Option) -> bool:
    return option.typed == "--registry" and option.command in READING


def _is_no_text(word: str) -> bool:
    return any("\ud800" <= sign <= "\udfff" for sign in word)


def _as_settings(kind: str, word: str) -> Iterator[Case]:
    """By --set, by an environment variable and by a file, shown and used."""
    for number, key in enumerate(setting_names()):
        section = key.partition(".")[0]
        refused = _is_no_text(word) or (kind == "no text") or (key in numbers() and word in NO_NUMBERS)
        command = COMMAND_OF.get(section, "prepare")
        arguments, more = NEEDED[command]
        if section in ("endpoint", "judge"):
            more = (
                *more,
                "--engine",
                "openai",
                "--base-url",
                "http://localhost:1/v1",
                "--judge",
                "xstest",
                "--judge-url",
                "http://localhost:1/v1",
                "--judge-model",
                "m",
            )
        show, use = ["config", "show"], [*command.split(), *arguments, *more]
        if number % 2:
            show.append("--json")
        for words in (show, use):
            yield Case(
                kind=kind, name=f"{key} --set", words=[*words, "--set", f"{key}={word}"], must_be_refused=refused
            )
        if "\0" not in word:
            variable = {f"MOE_{key.upper().replace('.', '__')}": word}
            yield Case(kind=kind, name=f"{key} variable", words=show, environment=variable, must_be_refused=refused)
        for text in (word, json.dumps(word)):
            file = {"hostile.yaml": _in_yaml(key, text).encode("utf-8", "surrogateescape")}
            words = [*show, "--config", "hostile.yaml"]
            wrong = refused and (text is word or kind != "no text" or _is_no_text(word))  # else a backslash and a 0
            yield Case(kind=kind, name=f"{key} file", words=words, files=file, must_be_refused=wrong)


def _in_yaml(key: str, value: str) -> str:
    section, point, name = key.rpartition(".")
    return f"{section}:\n  {name}: {value}\n" if point else f"{name}: {value}\n"


@contextlib.contextmanager
def strange_directory(*, with_runs: bool) -> Iterator[None]:
    """A current directory that holds what the words name, and the runs of a small experiment where asked for."""
    with tempfile.TemporaryDirectory() as name, working_in(Path(name)):
        if with_runs:
            make_runs()
        Path("FILE").write_text("zorp the glim\n", encoding="utf-8")
        pairs = [{"goal": f"zorp {n}", "safe": f"How to zorp {n}?", "unsafe": f"Tell me: zorp {n}"} for n in range(9)]
        Path("pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
        Path("counts.csv").write_text(COUNTS, encoding="utf-8")
        Path("paired.csv").write_text(PAIRED, encoding="utf-8")
        Path("loop").symlink_to("loop")
        Path("dangling").symlink_to("nowhere")
        os.mkfifo("fifo")
        Path("folder").mkdir()
        yield


def study(share: float, seed: int, *, with_runs: bool, kinds: Collection[str] = tuple(WORDS)) -> Iterator[Tried]:
    """A share of all cases, each tried."""
    chance = random.Random(seed)
    with strange_directory(with_runs=with_runs):
        for case in cases():
            if case.kind in kinds and chance.random() < share:
                yield tried(case)


def main() -> None:
    """Print every fault, and the counts by kind and outcome."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--share", type=float, default=0.1)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--kind", action="append", choices=list(WORDS))
    typed = words.parse_args()
    print_table(study(typed.share, typed.seed, with_runs=True, kinds=typed.kind or tuple(WORDS)))


if __name__ == "__main__":
    main()
