"""What every command begins with: the resolved config, the registry, and the environment for the libraries.

All settings are checked and the GPUs are chosen before torch is imported. If all inputs are local, the libraries are
told to stay offline.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from rich.console import RenderableType

from moe_cli import ranks
from moe_cli.activity import begin_activity
from moe_cli.artifacts import Store, registry_path
from moe_cli.characters import escape_json, is_text
from moe_cli.cli.options import TypedSettings
from moe_cli.codec import encode, encode_list, parse_json
from moe_cli.config import MoeConfig, dump_yaml, load_config, setting_names
from moe_cli.data.source_names import is_local, kind_and_source
from moe_cli.errors import MoeError, UsageError
from moe_cli.masking import holds_key, keep_secret
from moe_cli.records.manifest import Notify
from moe_cli.tiny import MODEL_NAME
from moe_cli.views.console import Reporter, stderr_console, stdout_console
from moe_cli.views.text import safe_text

# What libraries read once, when they are imported.
QUIET = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
VISIBLE = "CUDA_VISIBLE_DEVICES"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


@dataclass(frozen=True, slots=True)
class Session:
    """The config, registry and consoles of one running command."""

    config: MoeConfig
    store: Store
    json: bool
    verbose: bool
    again: str  # words that give the next command the same config file and model: " --config moe.yaml"

    def reporter(self) -> AbstractContextManager[Notify]:
        """What draws the records of the stage; of several processes the first alone draws."""
        return Reporter(tables=not self.json) if ranks.is_first() else nullcontext(_say_nothing)

    @contextmanager
    def importing(self) -> Iterator[None]:
        """A block around the imports of torch and transformers, which take seconds."""
        with self.reporter(), begin_activity("importing torch and transformers"):
            yield

    def show(self, record: object, view: RenderableType | None, done: str) -> None:
        """Print the result: one JSON document or its tables, and a line with the next command."""
        if not ranks.is_first():
            return
        if self.json:
            print_json(encode_list(record) if isinstance(record, tuple) else encode(record, indent=True))
            stderr_console().print(safe_text(done), soft_wrap=True)
            return
        console = stdout_console()
        if view is not None:
            console.print(view)
        console.print(safe_text(done), soft_wrap=True)

    def show_dry_run(self, preview: object, view: RenderableType, refusal: MoeError | None) -> None:
        """Print what a run would begin with: the data first, the settings with `--verbose`.

        Raises:
            MoeError: the one with which the run would end, or that of a registry that cannot be written.
        """
        if not ranks.is_first():
            return
        if self.json:
            data = parse_json(encode(preview), source="", hint="")
            print_json(encode({**self.config.model_dump(mode="json"), "data": data}, indent=True))
        else:
            console = stdout_console()
            console.print(view)
            if self.verbose:
                print(dump_yaml(self.config).rstrip())
            done = "nothing was written: this was a dry run" + (
                "" if self.verbose else "; --verbose shows the settings"
            )
            console.print(safe_text(done), soft_wrap=True)
        if refusal is not None:
            raise refusal
        self.store.refuse_unwritable()

    def show_settings_of_run(self) -> None:
        """Print the dry run of a command whose inputs are runs.

        Raises:
            EnvironmentFaultError: the run could not be registered.
        """
        self.show_settings()
        self.store.refuse_unwritable()

    def show_settings(self) -> None:
        """Print the resolved settings."""
        if not ranks.is_first():
            return
        if self.json:
            print_json(self.config.model_dump_json(indent=2).encode())
        else:
            print(dump_yaml(self.config).rstrip())


def print_json(document: bytes) -> None:
    """Print one JSON document on stdout, with terminal control characters escaped."""
    print(escape_json(document.decode(), sys.stdout.encoding or "utf-8"))


def open_session(
    typed: TypedSettings, *, json: bool = False, verbose: bool = False, asks_the_hub: bool = False
) -> Session:
    """Resolve the settings and prepare the environment. A command that `asks_the_hub` is never told to stay offline.

    Raises:
        UsageError: any problem in any setting; all of them at once.
    """
    config = resolved_config(typed, os.environ)
    _set_environment(config, asks_the_hub=asks_the_hub)
    if not is_text(str(here := Path.cwd())):
        raise UsageError(f"the path of this directory, {here}, is not UTF-8", hint="work in a directory named in UTF-8")
    return Session(config, Store(registry_path(config.registry, here)), json, verbose, _again(typed))


def resolved_config(typed: TypedSettings, environment: Mapping[str, str]) -> MoeConfig:
    """The settings of a command with these words in this environment.

    Raises:
        UsageError: any problem in any setting; all of them at once.
    """
    config = load_config(file=typed.config, environment=environment, assignments=typed.assignments, flags=typed.values)
    _refuse_keys(config, environment)
    return config


def _again(typed: TypedSettings) -> str:
    named = {"--config": typed.config, "--model-name": typed.values.get("model.name")}
    return "".join(f" {name} {quote(str(value))}" for name, value in named.items() if value is not None)


def _refuse_keys(config: MoeConfig, environment: Mapping[str, str]) -> None:
    """Refuse settings that hold a key, because settings are written to the results."""
    for endpoint in (config.endpoint, config.judge):
        keep_secret(environment.get(endpoint.key_env or "", ""))
    tree = config.model_dump(mode="json")
    for name in setting_names():
        section, _, key = name.rpartition(".")
        value = tree[section][key] if section else tree[key]
        if not isinstance(value, (int, float)) and holds_key(str(value)):
            raise UsageError(
                f"the setting {name} holds a key, and settings are written to the results",
                hint="a key stands in an environment variable: --api-key-env and --judge-key-env name it",
            )


def _set_environment(config: MoeConfig, *, asks_the_hub: bool) -> None:
    """Set the environment variables of libraries that read them once, when they are imported."""
    environment = dict(QUIET)
    if config.model.gpu is not None:
        _refuse_other_cards(config.model.gpu)
        environment[VISIBLE] = config.model.gpu
    if ranks.num_ranks() > 1:
        environment["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # where a process has gone, the others say so themselves
        environment[VISIBLE] = own_card(environment.get(VISIBLE, os.environ.get(VISIBLE)), ranks.this_rank())
    if not ranks.is_first():
        environment["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    if not asks_the_hub and _all_is_here(config):
        environment |= OFFLINE
    os.environ |= environment


def _refuse_other_cards(gpu: str) -> None:
    """Refuse `--gpu` where a scheduler has assigned GPUs, as its numbers would take those of another job."""
    cards = os.environ.get(VISIBLE)
    if cards is not None and cards.replace(" ", "") != gpu:
        raise UsageError(
            f"--gpu {gpu} (model.gpu) asks for other cards than the environment variable {VISIBLE}={cards}",
            hint="leave --gpu away to use the cards of the variable, or unset it",
        )


def own_card(visible: str | None, rank: ranks.Rank) -> str:
    """The card of a process among those that may be used, "0,1"; None: all of the machine may be.

    Raises:
        UsageError: there are fewer cards than processes on this machine.
    """
    if visible is None:
        return str(rank.local_index)
    cards = [card.strip() for card in visible.split(",") if card.strip()]
    if cards and len(cards) < rank.local_total:
        raise UsageError(
            f"{rank.local_total} processes on this machine, but only the cards {visible} (--gpu, {VISIBLE}) to run on",
            hint="name one card for each process, such as --gpu 0,1 with --nproc 2",
        )
    return cards[rank.local_index] if cards else visible


def _say_nothing(record: object) -> None:
    """The reporter of every process but the first."""


def _all_is_here(config: MoeConfig) -> bool:
    """Whether model, data and judges are on this machine, so that no library needs the hub."""
    # A training run has no config.json of its own: its base may have to be fetched for the drift.
    answers = config.evaluate.answers  # no model is loaded beside them
    own = (Path(os.path.expanduser(config.model.name)) / "config.json").is_file()
    model = bool(answers) or config.model.name == MODEL_NAME or own
    of_a_kind = (kind_and_source(source)[1] for source in (*config.evaluate.items, *answers))
    data = all(map(is_local, (*config.prepare.pairs, *config.prepare.benign, *of_a_kind)))
    judges = all(map(_is_here, (*config.prepare.judges, *config.evaluate.judges)))
    return model and data and judges and not config.evaluate.capability


def _is_here(judge: str) -> bool:
    """Whether a judge needs no weights from the hub; a plugin may need some."""
    name, _, path = judge.partition(":")
    if name == "keywords":
        return True
    from moe_cli.judges.catalog import CLASSIFIERS

    return name != "plugin" and (name not in CLASSIFIERS or (Path(os.path.expanduser(path)) / "config.json").is_file())
