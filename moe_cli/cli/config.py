"""`moe config show | schema` and `moe env`: the settings, and the environment for a fault report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import orjson
import typer

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.options import REGISTRY, Json, TypedSettings, with_settings
from moe_cli.config import ENVIRONMENT_PREFIX, MoeConfig, setting_names
from moe_cli.masking import mask_keys

app = typer.Typer(no_args_is_help=True, help="Show the resolved settings, or every setting there is.")
REGISTRY_VARIABLE = f"{ENVIRONMENT_PREFIX}REGISTRY"
PREFIXES = (ENVIRONMENT_PREFIX, "HF_", "HUGGING", "TRANSFORMERS_", "CUDA_", "PYTORCH_", "OMP_", "TENSORBOARD_")
MAY_HOLD_SECRETS = ("base_url", "judges", "key_env")  # settings: an address, a program with its words, a key by mistake
HARMLESS = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_DATASETS_CACHE",
    "HF_DATASETS_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ENABLE_MPS_FALLBACK",
    "OMP_NUM_THREADS",
    "TENSORBOARD_LOGGING_DIR",
)
DONE = "no value that could be a secret is shown; next: paste it into the report"


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


@catch_errors
@with_settings(REGISTRY, config_file=False)
def env(typed: TypedSettings, json: Json = False) -> None:
    """Print what a report of a fault needs: versions, devices, memory, registry, and variables without secrets.

    It works where the settings are wrong, too.

    Example: moe env
    """
    from moe_cli.artifacts import Store, registry_path
    from moe_cli.cli.session import QUIET, Session

    variables = shown_variables(os.environ)
    registry = typed.values.get("registry") or os.environ.get(REGISTRY_VARIABLE)
    store = Store(registry_path(Path(str(registry)) if registry else None, Path.cwd()))
    session = Session(MoeConfig(), store, json, False, "")
    os.environ |= QUIET
    from moe_cli.bench.machine import describe_environment
    from moe_cli.views.run_tables import environment_view

    environment = describe_environment(session.store.registry, variables)
    session.show(environment, environment_view(environment), DONE)


def shown_variables(variables: Mapping[str, str]) -> dict[str, str | None]:
    """The environment variables that change what moe does; the value of one that could be a secret is None.

    A value is shown because its name is known to hold no secret, never because it looks harmless, and without any
    key.
    """
    settings = [name for name in setting_names() if name.rpartition(".")[2] not in MAY_HOLD_SECRETS]
    known = {*HARMLESS, *(ENVIRONMENT_PREFIX + name.replace(".", "__").upper() for name in settings)}
    return {
        name: mask_keys(value) if name in known else None
        for name, value in sorted(variables.items())
        if name.startswith(PREFIXES)
    }
