"""`moe plan`: parses the options and prints what training a model needs, before anything is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import HARDWARE, Json, TypedSettings, option, options, with_settings
from moe_cli.errors import UsageError

SETTINGS = (
    option("model.dtype"),
    option("train.prepared", meaning="Prepare run whose batches and experts are planned; default: none."),
    *options("train.max_length", "train.max_forward_tokens", "train.gradient_checkpointing"),
    *options("train.gradient_accumulation_steps", "train.num_epochs", "prepare.batch_size", "prepare.budget"),
    *HARDWARE,
)
MOST = 2**31 - 1  # of whatever is counted
UNITS = {"": 1, "MB": 10**6, "MIB": 2**20, "GB": 10**9, "GIB": 2**30, "TB": 10**12, "TIB": 2**40}


@catch_errors
@with_settings(*SETTINGS)
def plan(
    typed: TypedSettings,
    model: Annotated[str | None, typer.Argument(help="Hub name, local directory, or `tiny`.")] = None,
    experts: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST, help="Experts of every layer that train; default: those of `--prepared`, else a budget."
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(min=8, max=MOST, help="Tokens of a row, half of them the answer; default: train.max_length."),
    ] = None,
    batches: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Batches of an epoch; default: those of `--prepared`.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory of one card: `80GB`, `141GiB`; default: that of this machine.")
    ] = None,
    ranks: Annotated[str, typer.Option(help="Numbers of processes: `1,2,4,8`.")] = "1,2,4,8",
    bench: Annotated[Path | None, typer.Option(help="Record of `moe bench --json -o FILE`, for the time.")] = None,
    json: Json = False,
) -> None:
    """What training needs, from the config alone: memory of each arm, what makes it fit, steps, and what is sent.

    No weights are loaded or fetched: a step is followed with tensors that have sizes and no values.

    Example: moe plan allenai/OLMoE-1B-7B-0125-Instruct --memory 80GB

    Example: moe plan Qwen/Qwen3-30B-A3B --memory 80GB --experts 3 --length 512 --gradient-checkpointing

    Example: moe plan tiny --prepared prepared --ranks 1,2
    """
    from moe_cli.cli.session import open_session

    session = open_session(typed.having("model.name", model), json=json)
    if "prepare.batch_size" in typed.values and (prepared := session.config.train.prepared) is not None:
        raise UsageError(
            f"--batch-size is given, and the batches of {prepared} are made",
            hint="leave --batch-size away, or --prepared for a plan without the run",
        )
    num_bytes, numbers = None if memory is None else _bytes(memory), _numbers(ranks)
    with session.importing():
        from moe_cli.bench.arm_needs import ResourceRequest
        from moe_cli.bench.resources import plan_resources
        from moe_cli.views.plan_tables import resource_plan_view

    request = ResourceRequest(
        per_layer=experts, length=length, num_batches=batches, memory=num_bytes, ranks=numbers, benchmark=bench
    )
    with session.reporter():
        planned = plan_resources(session.config, request)
    session.show(
        planned, resource_plan_view(planned), f"nothing was loaded; next: moe prepare --model {quote(planned.model)}"
    )


def _bytes(text: str) -> int:
    match = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in UNITS or float(match[1]) <= 0:
        raise UsageError(f"--memory {text} is no size", hint="write it as 80GB, 141GiB or a number of bytes")
    return int(float(match[1]) * UNITS[match[2].upper()])


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[1-9]\d{0,5}", part) for part in parts):
        raise UsageError(f"--ranks {text} is no list of numbers of processes", hint="write it as 1,2,4,8")
    return tuple(sorted({1, *map(int, parts)}))
