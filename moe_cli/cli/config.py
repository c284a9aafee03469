"""`moe config show | schema`: prints the settings or their JSON schema. Imports no torch."""

from __future__ import annotations

import orjson
import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import Json, TypedSettings, with_settings
from moe_cli.config import MoeConfig

app = typer.Typer(no_args_is_help=True, help="Show the resolved settings, or every setting there is.")


@app.command("show")
@catch_errors
@with_settings()
def show(typed: TypedSettings, json: Json = False) -> None:
    """Print the settings as file, environment and --set resolve them.

    Example: moe config show --config moe.yaml --set train.num_epochs=1
    """
    from moe_cli.cli.session import open_session

    open_session(typed, json=json).show_settings()


@app.command("schema")
@catch_errors
def schema() -> None:
    """Print the JSON schema of the config file.

    Example: moe config schema
    """
    print(orjson.dumps(MoeConfig.model_json_schema(), option=orjson.OPT_INDENT_2).decode())
