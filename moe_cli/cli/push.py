"""`moe push`: words typed -> one call -> one table."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from moe_cli.cli import options
from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.session import open_session


@catch_errors
def push(
    run: Annotated[Path, typer.Argument(help="Training run whose final model is sent.")],
    repository: Annotated[str, typer.Argument(help="Repository on the hub: owner/name.")],
    delta: Annotated[bool, typer.Option("--delta", help="Send the trained experts alone, not the model.")] = False,
    private: Annotated[
        bool, typer.Option("--private/--public", help="Whether a repository that is made is private.")
    ] = True,
    revision: Annotated[str, typer.Option(help="Branch to send to; made where it is missing.")] = "main",
    token_env: Annotated[
        str | None, typer.Option(help="Environment variable with the token; default: the hub's own login.")
    ] = None,
    registry: options.Registry = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and list everything, send nothing.", rich_help_panel="This run")
    ] = False,
    json: options.Json = False,
) -> None:
    """Send a run's final model, or its trained experts alone, to the hub, with a page that has its results.

    Example: moe push unsafe_expert_finetuned_batch owner/name --dry-run

    Example: moe push unsafe_expert_finetuned_batch owner/name --delta
    """
    session = open_session("push", locals(), asks_the_hub=True)
    from moe_cli.export import push as stage
    from moe_cli.views.model_card import model_card
    from moe_cli.views.pushed import pushed_view

    with session.reporter():
        made = stage.push(
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
    done = f"nothing was sent; next: {again}" if made.url is None else f"sent {repository}: {made.url}"
    session.show(made, pushed_view(made), done)
