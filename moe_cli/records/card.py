"""What the page of a trained model says: given to the view that writes it, never written itself."""

from __future__ import annotations

from typing import Literal

from moe_cli.records.evaluation import EvaluationSummary
from moe_cli.records.inputs import ModelIdentity
from moe_cli.records.preparation import Expert
from moe_cli.records.record import record
from moe_cli.records.sources import SourceCount
from moe_cli.records.training import TrainingSummary


@record
class License:
    """What a page names as the licence; the names are those of the hub's header."""

    license: str | None  # "apache-2.0"; None: it names none
    license_name: str | None  # "zorp-community"; where `license` is "other"
    license_link: str | None  # "LICENSE"


@record
class CardFacts:
    """Everything that the page of a model is made of."""

    holds: Literal["model", "delta"]  # what lies beside the page
    base: ModelIdentity
    license: License  # the base's
    training: TrainingSummary | None  # None: the experts came without their run
    experts: tuple[Expert, ...]  # that trained, in order; empty where everything trained
    sources: tuple[SourceCount, ...] | None  # of the prepare run; empty: the tiny language; None: it was not found
    evaluations: tuple[EvaluationSummary, ...]  # of these very weights, the newest first
    version: str  # "0.1.0"; of moe


@record
class PushedFile:
    """One file of an upload."""

    name: str  # "model.safetensors"
    num_bytes: int  # 6309672
    sha256: str


@record
class Push:
    """What `moe push` sent, or with `--dry-run` would send."""

    repository: str  # "owner/name"
    revision: str  # "main"
    private: bool  # of a repository that is made now; one that is there stays as it is
    holds: Literal["model", "delta"]
    files: tuple[PushedFile, ...]
    num_bytes: int  # of all files
    card: str  # the text of README.md
    url: str | None  # "https://huggingface.co/owner/name/commit/..."; None: nothing was sent
