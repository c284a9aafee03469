"""`moe bench`: words typed -> one call -> one table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import RenderableType

from moe_cli.artifacts.files import write_whole
from moe_cli.artifacts.outputs import refuse_unwritable
from moe_cli.bench.plan import SHAPE_FIELDS, plan_of
from moe_cli.cli import options
from moe_cli.cli.boundary import bounded
from moe_cli.cli.session import Session, open_session
from moe_cli.codec import encode
from moe_cli.errors import UsageError
from moe_cli.tiny import MODEL_NAME

app = typer.Typer(invoke_without_command=True)

MODEL_PANEL = "Model and batch"
PLANNED = (
    *SHAPE_FIELDS,
    *(
        "rows",
        "length",
        "selected",
        "dtype",
        "arms",
        "shares",
        "lora_rank",
        "forward_tokens",
        "checkpointing",
        "repeats",
    ),
)
Size = int | None
Model = Annotated[str, typer.Option("--model-name", "--model", "-m", help="Hub name, local directory, or `tiny`.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write the JSON document there.", rich_help_panel=options.RUN_PANEL),
]
Page = Annotated[
    bool, typer.Option("--markdown", help="Print the tables for a page.", rich_help_panel=options.RUN_PANEL)
]
Made = TypeVar("Made")


def _size(help: str) -> object:
    return typer.Option(min=1, help=help, rich_help_panel=MODEL_PANEL)


@app.callback()
@bounded
def bench(
    context: typer.Context,
    preset: Annotated[str, typer.Option(help="issue, olmoe-1b-7b or qwen3-30b-a3b: the shape.")] = "issue",
    model: Annotated[
        str | None, typer.Option("--model-name", "--model", "-m", help="A real model in the place of random weights.")
    ] = None,
    hidden: Annotated[Size, _size("Hidden size.")] = None,
    width: Annotated[Size, _size("Width of one expert.")] = None,
    layers: Annotated[Size, _size("Layers.")] = None,
    experts: Annotated[Size, _size("Experts in a layer.")] = None,
    top_k: Annotated[Size, _size("Experts that a token goes to.")] = None,
    vocabulary: Annotated[Size, _size("Tokens in the vocabulary.")] = None,
    rows: Annotated[Size, _size("Rows in the batch of a step.")] = None,
    length: Annotated[Size, _size("Tokens in a row; half of them are the answer.")] = None,
    selected: Annotated[Size, _size("Experts selected in every layer.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32 or bfloat16: of the weights.", rich_help_panel=MODEL_PANEL)
    ] = None,
    arms: Annotated[str | None, typer.Option(help="Only these rows: `selective,full_grouped_mm`.")] = None,
    shares: Annotated[str | None, typer.Option(help="Sweep over experts selected per layer: `0,1,3,8`.")] = None,
    lora_rank: Annotated[int, typer.Option("--rank", min=1, help="Rank of the LoRA row.")] = 16,
    forward_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of one forward, as in moe train.")] = 4096,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="With gradient checkpointing.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Steps of every row, after one to warm up.")] = 10,
    no_memory: Annotated[
        bool, typer.Option("--no-memory", help="On the CPU: leave out the peak memory, a process for each row.")
    ] = False,
    gpu: options.Gpu = None,
    device: options.Device = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    output: Output = None,
    json: options.Json = False,
    markdown: Page = False,
) -> None:
    """Time one optimizer step of each arm on this machine, beside what a user would do today.

    `moe bench prepare` times the whole of `moe prepare` instead, `moe bench evaluate` the answering of `moe evaluate`.

    Example: moe bench --threads 1

    Example: moe bench --shares 0,1,3,8,16,64 --markdown

    Example: moe bench --preset olmoe-1b-7b --gpu 0 --checkpointing --json -o olmoe.json
    """
    if context.invoked_subcommand is not None:
        _refuse_typed(context)
        return
    words = dict(locals())
    _refuse_outputs(json, markdown, output)
    session = open_session("bench", {**words, "model_name": model})
    plan = plan_of(preset, {name: words[name] for name in PLANNED} | {"memory": not no_memory}, model)
    with session.importing():
        from moe_cli.bench import stage
        from moe_cli.views.bench import bench_markdown, bench_view

    with session.reporter() as notify:
        made = stage.run(session.config, plan, notify)
    _show(session, made, bench_view, bench_markdown if markdown else None, output, "moe train --help")


@app.command("prepare")
@bounded
def prepare(
    model: Model = MODEL_NAME,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts to answer, about: whole pairs are asked.")] = 1000,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of the whole stage in every row.")] = 3,
    pairs: Annotated[list[str] | None, typer.Option(help="Prompt pairs; `tiny` brings its own.")] = None,
    benign: Annotated[list[str] | None, typer.Option(help="Harmless prompts.")] = None,
    gpu: options.Gpu = None,
    device: options.Device = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    output: Output = None,
    json: options.Json = False,
    markdown: Page = False,
) -> None:
    """Time the whole of `moe prepare`: prompt by prompt, in fixed batches, and as it runs.

    Example: moe bench prepare --threads 1

    Example: moe bench prepare -m allenai/OLMoE-1B-7B-0125-Instruct --pairs pairs.jsonl --gpu 0 --markdown
    """
    _refuse_outputs(json, markdown, output)
    words = {**locals(), "model_name": model}
    session = open_session("prepare", {name: value for name, value in words.items() if name != "output"})
    with session.importing():
        from moe_cli.bench import preparing
        from moe_cli.prepare import stage
        from moe_cli.views.bench_prepare import prepare_bench_markdown, prepare_bench_view

    with session.reporter() as notify:
        made = preparing.run(session.config, prompts, repeats, notify, stage.run)
    _show(session, made, prepare_bench_view, prepare_bench_markdown if markdown else None, output, "moe prepare --help")


@app.command("evaluate")
@bounded
def evaluate(
    model: Model = MODEL_NAME,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts to draw, where no items are named.")] = 128,
    items: Annotated[list[str] | None, typer.Option(help="Items to answer, as in `moe evaluate`. Repeatable.")] = None,
    tiny_items: Annotated[int | None, typer.Option(min=1, help="With `tiny`: items of each of its own suites.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Times that every row answers all prompts.")] = 3,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer in tokens (512).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Most prompts answered at once (64).")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="By length: most tokens at once (32768).")] = None,
    gpu: options.Gpu = None,
    device: options.Device = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    output: Output = None,
    json: options.Json = False,
    markdown: Page = False,
) -> None:
    """Time the answering of `moe evaluate` beside fixed batches of transformers alone.

    Without items it draws prompts and lengths of answers from distributions that it names.

    Example: moe bench evaluate --threads 1 --batch-size 32

    Example: moe bench evaluate --tiny-items 50 --threads 1 --json

    Example: moe bench evaluate -m allenai/OLMoE-1B-7B-0125-Instruct --items items.jsonl --gpu 0 --markdown
    """
    _refuse_outputs(json, markdown, output)
    words = {**locals(), "model_name": model}
    session = open_session("evaluate", words)
    with session.importing():
        from moe_cli.bench import evaluating
        from moe_cli.evaluate.suites import evaluation_items
        from moe_cli.model.engine import Prompt
        from moe_cli.views.bench_evaluate import evaluate_bench_markdown, evaluate_bench_view

    asked: int | list[Prompt] = prompts
    if items or tiny_items:
        found = evaluation_items(session.config.evaluate, model)
        asked = [Prompt(item.id, item.messages) for item in found if item.kind != "text"]
    with session.reporter() as notify:
        made = evaluating.run(session.config, asked, repeats, notify)
    page = evaluate_bench_markdown if markdown else None
    _show(session, made, evaluate_bench_view, page, output, "moe evaluate --help")


def _show(
    session: Session,
    made: Made,
    view: Callable[[Made], RenderableType],
    page: Callable[[Made], str] | None,
    output: Path | None,
    following: str,
) -> None:
    """The result on the terminal or as a page, and in a file where one is named."""
    if output is not None:
        write_whole(output, encode(made, indent=True) + b"\n")
    if page is not None:
        print(page(made))
    session.show(made, None if page is not None else view(made), f"wrote {output or 'nothing'}; next: {following}")


def _refuse_outputs(json: bool, markdown: bool, output: Path | None) -> None:
    if json and markdown:
        raise UsageError("--json and --markdown both print the result", hint="give one of them; -o writes the JSON")
    if output is not None:
        refuse_unwritable(output)


def _refuse_typed(context: typer.Context) -> None:
    """Options before a command would be ignored in silence."""
    typed = [
        name for name in context.params if getattr(context.get_parameter_source(name), "name", None) == "COMMANDLINE"
    ]
    if typed:
        raise UsageError(
            f"--{typed[0].replace('_', '-')} stands before `{context.invoked_subcommand}` and would be ignored",
            hint=f"write the options behind it: moe bench {context.invoked_subcommand} ...",
        )
