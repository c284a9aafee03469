"""The manifest of a run directory, its record in the registry, and what is shown of runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from moe_cli.records.comparison import PairedDifference
from moe_cli.records.record import FileName, JsonObject, Rate, RunId, record

RunKind = Literal["prepare", "selective", "baseline", "alternating", "evaluation", "comparison", "ablation", "sweep"]

SCHEMA_VERSION = 2


@record
class StartedRun:
    """Written first; a directory with this record but without a manifest is an interrupted run."""

    kind: RunKind
    id: RunId
    started: str  # ISO 8601, UTC
    config: JsonObject  # the resolved config
    inputs: dict[str, str]  # role -> path of an earlier run that was found, so that a resumed run takes the same


@record
class Manifest:
    """Written last: its presence means that the directory is complete."""

    schema_version: int
    kind: RunKind
    id: RunId
    files: dict[FileName, str]  # -> sha256
    parents: dict[str, str]  # role -> digest of the parent's manifest; of a file of answers its own
    base_fingerprint: str | None  # of the model it was made with
    model_name: str | None
    config: JsonObject  # the resolved config
    packages: dict[str, str]  # {"torch": "2.13.0"}
    seed: int
    device: str  # "cpu"
    started: str  # ISO 8601, UTC
    finished: str


@record
class RunRecord:
    """One line of the registry: where a run lies and the digest of its manifest."""

    id: RunId
    kind: RunKind
    path: str  # absolute
    manifest_digest: str
    base_fingerprint: str | None
    model_name: str | None
    parents: dict[str, str]
    finished: str


@record
class Progress:
    """Progress of a stage; given to `notify`, never written."""

    task: str  # "answers"
    done: int  # 64
    total: int  # 384
    tokens_per_second: float | None = None  # 3874.4; made since the task began; None: no tokens are made
    num_cut_off: int = 0  # 12; answers so far that ran into the token limit


@record
class Notice:
    """A message for the user at the terminal; given to `notify`, never written."""

    text: str  # "using the newest prepare run of this model: ./prepared"
    warning: bool = False


Notify = Callable[[object], None]  # is given every `Progress` and `Notice`, and plans and results on the way


@record
class PrepareResult:
    """Result of a prepare run in the listing: what it selected."""

    method: str  # "risk_diff"
    num_selected: int  # 12; experts of the union
    num_experts: int  # 64; of the model
    null_union_mean: float | None  # 3.4; experts that the same rule selects by chance; None: not measured


@record
class TrainingResult:
    """Result of a training run in the listing."""

    num_selected: int | None  # 12; experts that trained; None: all parameters
    num_experts: int  # 64; of the model
    num_steps: int  # 96
    final_loss: float | None  # 0.0447; mean over the last epoch; None: no step was on the answers


@record
class EvaluationResult:
    """Result of an evaluation: its first rate of attack success, plain compliance, over-refusal, correct answers."""

    measure: str | None  # "attack success"; None: it has no rate
    rate: Rate | None


@record
class ComparisonResult:
    """Result of a comparison: the first primary difference of the first pair of trained arms, and the conclusion."""

    a: str | None  # "baseline"; None: no pair was compared
    b: str | None  # "selective"
    difference: PairedDifference | None  # of b minus a
    num_unfair: int  # conditions of a fair comparison that differ
    conclusion: tuple[str, ...]


@record
class AblationResult:
    """Result of an ablation."""

    num_experts: int  # 12
    verdict: str  # "not specific"
    p_value: float  # 0.48; of the rank that the verdict rests on
    num_controls: int  # 39


@record
class SweepResult:
    """Result of a sweep: its points, and the smallest sufficient budget of its first method."""

    num_points: int  # 41
    num_failed: int  # 1
    method: str | None  # "risk_diff"
    budget: float | None  # 0.1; None: no budget was found sufficient, or none was tested
    is_tested: bool


RunResult = PrepareResult | TrainingResult | EvaluationResult | ComparisonResult | AblationResult | SweepResult


@record
class RunListing:
    """A line of `moe runs list`."""

    run: RunRecord
    state: Literal["complete", "interrupted", "gone", "changed"]
    result: RunResult | None  # None: the run is not complete, or cannot be read
    problem: str | None  # why it cannot be read


@record
class RunVerification:
    """The result of `moe runs verify`."""

    path: str
    num_files: int
    damaged: tuple[str, ...]  # missing or changed
    added: tuple[str, ...]  # not written by the run
    changed_parents: tuple[str, ...]  # "run: /runs/selective": whose manifest changed since this run was made from it
