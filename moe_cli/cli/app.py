"""The command tree and the entry point.

Comes in: the command line. Goes out: one command's output and exit code. Always holds: `moe --help` imports neither
torch nor transformers; the underscore spellings of the original scripts (`--model_name`) are accepted.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from moe_cli import __version__
from moe_cli.cli import compare, config, demo, evaluate, prepare, runs, train

app = typer.Typer(
    name="moe",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find the experts through which a mixture-of-experts model does harm, repair only those, compare honestly.",
)
app.command("prepare")(prepare.prepare)
app.add_typer(train.app, name="train")
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.add_typer(runs.app, name="runs")
app.add_typer(config.app, name="config")
app.command("demo")(demo.demo)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"moe {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """The five commands share one config and one registry."""


def main() -> None:
    """Entry point of the console script."""
    app(args=hyphenated(sys.argv[1:]))


def hyphenated(words: list[str]) -> list[str]:
    """`--model_name` as `--model-name`; values are left alone."""
    return [_hyphenated(word) if word.startswith("--") else word for word in words]


def _hyphenated(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value
