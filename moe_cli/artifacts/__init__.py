"""Run directories, their files and the registry: files are written once and whole, with digests, parents and locks."""

from moe_cli.artifacts.finished import FinishedRun, finished_run
from moe_cli.artifacts.listing import listing_of
from moe_cli.artifacts.registry import State, Store, registry_path, state_of
from moe_cli.artifacts.run_directory import RunWriter, ScratchFiles, open_run

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
