"""`moe export` and `moe push`: parse the options, write or upload the model, and print one line."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import MACHINE, MODEL, REGISTRY, RUN, Json, TypedSettings, option, with_settings
from moe_cli.errors import UsageError


@catch_errors
@with_settings(MODEL, option("model.device", panel=MACHINE))
def export(
    typed: TypedSettings,
    source: Annotated[Path, typer.Argument(help="Run with a delta, its delta file, or (with --delta) a checkpoint.")],
    output: Annotated[Path, typer.Option("--output-dir", "-o", help="Directory, or file with --delta, to write.")],
    delta: Annotated[bool, typer.Option("--delta", help="Write the delta of a checkpoint to its base.")] = False,
    scale: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Part of what training changed that is applied.")
    ] = 1.0,
    json: Json = False,
) -> None:
    """Turn base + delta into a full checkpoint, or a checkpoint back into a delta.

    Example: moe export unsafe_expert_finetuned_batch -o merged

    Example: moe export unsafe_expert_finetuned_batch --scale 0.5 -o half

    Example: moe export merged --delta --model-name tiny -o expert_delta.safetensors
    """
    base_name = typed.values.get("model.name")
    if delta and base_name is None:
        raise UsageError("--delta needs the base of the checkpoint", hint="name it with --model-name")
    if delta and scale != 1.0:
        raise UsageError("--scale is for a checkpoint, and --delta writes a delta", hint="leave one of them away")
    from moe_cli.cli.session import open_session

    session = open_session(typed, json=json)
    with session.importing():
        from moe_cli.export import stage
        from moe_cli.views.model_card import model_card

    with session.reporter():
        if delta:
            result = stage.delta_of(source, output, session.config.model, session.store)
        else:
            result = stage.full_checkpoint(
                source,
                output,
                session.config.model,
                session.store,
                base_name=None if base_name is None else str(base_name),
                scale=scale,
                card=model_card,
            )
    what = ((f"{result.num_experts} experts", result.num_experts), ("routers", result.routers))
    trained = " and ".join(name for name, held in what if held)
    done = f"wrote {result.path}: {trained} ({result.num_params:,} parameters) on {result.base.name}"
    place = quote(str(result.path))
    then = f"moe export {place} -o DIRECTORY makes the checkpoint again" if delta else f"moe evaluate {place}"
    session.show(result, None, f"{done}; next: {then}")


@catch_errors
@with_settings(REGISTRY, config_file=False)
def push(
    typed: TypedSettings,
    run: Annotated[Path, typer.Argument(help="Training run whose final model is sent.")],
    repository: Annotated[str, typer.Argument(help="Repository on the hub: owner/name.")],
    delta: Annotated[bool, typer.Option("--delta", help="Send what trained alone, not the model.")] = False,
    private: Annotated[
        bool, typer.Option("--private/--public", help="Whether a repository that is made is private.")
    ] = True,
    revision: Annotated[str, typer.Option(help="Branch to send to; made where it is missing.")] = "main",
    token_env: Annotated[
        str | None, typer.Option(help="Environment variable with the token; default: the hub's own login.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and list everything, send nothing.", rich_help_panel=RUN)
    ] = False,
    json: Json = False,
) -> None:
    """Send a run's final model, or what trained alone, to the hub, with a page that has its results.

    Example: moe push unsafe_expert_finetuned_batch owner/name --dry-run

    Example: moe push unsafe_expert_finetuned_batch owner/name --delta
    """
    from moe_cli.cli.session import open_session

    session = open_session(typed, json=json, asks_the_hub=True)
    from moe_cli.export import push as stage
    from moe_cli.views.model_card import model_card
    from moe_cli.views.run_tables import pushed_view

    with session.reporter():
        result = stage.push(
            run,
            repository,
            session.store,
            model_card,
            delta=delta,
            private=private,
            revision=revision,
            token_env=token_env,
            dry_run=dry_run,
        )
    again = f"moe push {quote(str(run))} {quote(repository)}{' --delta' if delta else ''}"
    done = f"nothing was sent; next: {again}" if result.url is None else f"sent {repository}: {result.url}"
    session.show(result, pushed_view(result), done)
