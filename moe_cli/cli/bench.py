"""`moe bench`: parses the options, runs the benchmark and prints its table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import HARDWARE, RUN, SEED, Json, TypedSettings, with_settings
from moe_cli.errors import UsageError

MODEL_PANEL = "Model and batch"
Size = int | None
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write the JSON document there.", rich_help_panel=RUN),
]
Page = Annotated[bool, typer.Option("--markdown", help="Print the tables for a page.", rich_help_panel=RUN)]


def _size(help: str) -> object:
    return typer.Option(min=1, help=help, rich_help_panel=MODEL_PANEL)


@catch_errors
@with_settings(*HARDWARE, SEED)
def bench(
    typed: TypedSettings,
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
    output: Output = None,
    json: Json = False,
    markdown: Page = False,
) -> None:
    """Time one optimizer step of each arm on this machine, beside what a user would do today.

    Example: moe bench --threads 1

    Example: moe bench --shares 0,1,3,8,16,64 --markdown

    Example: moe bench --preset olmoe-1b-7b --gpu 0 --checkpointing --json -o olmoe.json
    """
    from moe_cli.artifacts.files import write_atomic
    from moe_cli.bench.presets import plan_of
    from moe_cli.cli.session import open_session
    from moe_cli.codec import encode

    _refuse_outputs(json, markdown, output)
    session = open_session(typed.having("model.name", model), json=json)
    shape = {
        "hidden": hidden,
        "width": width,
        "layers": layers,
        "experts": experts,
        "top_k": top_k,
        "vocabulary": vocabulary,
        "rows": rows,
        "length": length,
        "selected": selected,
        "dtype": dtype,
    }
    measured = {"arms": arms, "shares": shares, "lora_rank": lora_rank, "forward_tokens": forward_tokens}
    plan = plan_of(
        preset,
        {**shape, **measured, "checkpointing": checkpointing, "repeats": repeats, "memory": not no_memory},
        model,
    )
    with session.importing():
        from moe_cli.bench import stage
        from moe_cli.views.benchmark_tables import bench_markdown, bench_view

    with session.reporter() as notify:
        result = stage.run(session.config, plan, notify)
    if output is not None:
        write_atomic(output, encode(result, indent=True) + b"\n")
    if markdown:
        print(bench_markdown(result))
    view = None if markdown else bench_view(result)
    session.show(result, view, f"wrote {output or 'nothing'}; next: moe train --help")


def _refuse_outputs(json: bool, markdown: bool, output: Path | None) -> None:
    if json and markdown:
        raise UsageError("--json and --markdown both print the result", hint="give one of them; -o writes the JSON")
    if output is not None:
        from moe_cli.artifacts.locks import refuse_unwritable

        refuse_unwritable(output)
