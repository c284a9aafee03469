"""The registry of runs and the files they are made of: written once and whole, with digests, parents and locks."""

from moe_cli.artifacts.finished import FinishedRun, finished_run
from moe_cli.artifacts.registry import State, Store, registry_path, state_of
from moe_cli.artifacts.results import listing_of
from moe_cli.artifacts.runs import RunWriter, ScratchFiles, open_run

__all__ = [
    "FinishedRun",
    "RunWriter",
    "ScratchFiles",
    "State",
    "Store",
    "finished_run",
    "listing_of",
    "open_run",
    "registry_path",
    "state_of",
]
