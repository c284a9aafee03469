"""Data of pages: the report of a comparison, the model card, the environment.

The report's data are passed to the view and written nowhere else. A map has a row for every expert layer; what could
not be found is listed.
"""

from __future__ import annotations

from typing import Literal

from moe_cli.records.comparison import FlipText
from moe_cli.records.evaluation import EvaluationSummary
from moe_cli.records.inputs import ModelIdentity, SourceCount
from moe_cli.records.preparation import Expert, RiskParts, Separation
from moe_cli.records.record import record
from moe_cli.records.training import TrainingSummary, TurnTraining

MapKind = Literal["risk", "selection", "drift"]


@record
class ExpertMap:
    """One value for every expert."""

    kind: MapKind
    name: str  # "routing drift: baseline"
    what: str  # "share of a layer's choices, trained minus base"; the unit in words
    layers: tuple[int, ...]  # the decoder's own indices
    values: tuple[tuple[float | None, ...], ...]  # [L][E]; None: undefined
    parts: RiskParts | None = None  # of kind `risk`: what the selected experts' values are made of; None: not measured
    separation: Separation | None = None  # of kind `risk`: what they tell of other goals; None: not measured
    no_separation: str | None = None  # why


@record
class LossCurve:
    """The training loss of one run."""

    run: str  # "selective"
    steps: tuple[int, ...]
    losses: tuple[float, ...]  # per step, nats
    held_out: tuple[tuple[int, float], ...]  # (step, loss on the held-out batches)
    turns: tuple[TurnTraining, ...] = ()  # by the turn of the answers; empty: all are of one turn, or it is not known


@record
class ReportOrigin:
    """One input directory of the comparison."""

    run: str  # "selective"; the column it belongs to
    what: str  # "evaluation"
    path: str
    digest: str  # sha256 of its manifest
    finished: str  # ISO 8601, UTC
    packages: dict[str, str]  # {"torch": "2.13.0"}


@record
class ReportData:
    """Data of the report beside the comparison itself."""

    version: str  # "0.1.0"; of the program
    made: str  # ISO 8601, UTC; when the comparison began
    redacted: bool  # no words of prompts and answers, no ids of items, no absolute paths
    maps: tuple[ExpertMap, ...]
    curves: tuple[LossCurve, ...]
    texts: tuple[FlipText, ...]
    origins: tuple[ReportOrigin, ...]
    missing_maps: tuple[str, ...]  # "routing drift of selective: not measured in all of its evaluations"
    missing_curves: tuple[str, ...]  # "loss of selective: its directory has no steps.jsonl"


@record
class License:
    """The licence on a page; the fields are named as in the hub's header."""

    license: str | None  # "apache-2.0"; None: it names none
    license_name: str | None  # "zorp-community"; where `license` is "other"
    license_link: str | None  # "LICENSE"


@record
class CardFacts:
    """All data of a model card."""

    holds: Literal["model", "delta"]  # what lies beside the page
    base: ModelIdentity
    license: License  # the base's
    training: TrainingSummary | None  # None: the experts came without their run
    experts: tuple[Expert, ...]  # that trained, in order; empty where everything trained
    routers: bool  # whether routers trained beside these experts
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
    """The files that `moe push` sent, or with `--dry-run` would send."""

    repository: str  # "owner/name"
    revision: str  # "main"
    private: bool  # of a repository that is made now; one that is there stays as it is
    holds: Literal["model", "delta"]
    files: tuple[PushedFile, ...]
    num_bytes: int  # of all files
    card: str  # the text of README.md
    url: str | None  # "https://huggingface.co/owner/name/commit/..."; None: nothing was sent


@record
class ComputeDevice:
    """A device that a model can run on."""

    name: str  # "cpu", "cuda:0" or "mps"
    model: str | None  # "NVIDIA H200"; None: not told
    memory_bytes: int | None  # in all; None: not told
    expert_kernels: dict[str, str]  # {"bfloat16": "grouped_mm", "float32": "loop"}; by dtype of the experts


@record
class Environment:
    """The output of `moe env`, without any value that could be a secret."""

    moe: str  # "0.1.0"
    python: str  # "3.11.9"
    system: str  # "Linux-6.8.0-x86_64-with-glibc2.39"
    processor: str  # "AMD EPYC 7763 64-Core Processor"
    num_cores: int  # 2; that this process may use
    num_threads: int  # 1; of torch
    memory_bytes: int
    available_bytes: int
    devices: tuple[ComputeDevice, ...]
    packages: dict[str, str | None]  # {"torch": "2.13.0", "peft": None}; None: not installed
    registry: str  # absolute path
    num_runs: int  # registered there
    variables: dict[str, str | None]  # {"MOE_SEED": "7", "HF_TOKEN": None}; None: set, its value is not shown
