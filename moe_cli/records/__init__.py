"""The nouns of the program in the order in which they flow; reading these files in order is reading the data flow.

    inputs       Message, PromptPair, BenignPrompt, EvaluationItem, ModelIdentity
    preparation  Generation -> RoutingCounts -> RiskDifferences -> Selection -> TrainingExample
    training     TrainableCount, StepRecord, TrainingProof, TrainingSummary
    evaluation   Verdict -> EvaluationRecord -> Rate, DriftItem -> EvaluationSummary
    comparison   FairnessCheck, PairedDifference -> Comparison
    runs         StartedRun -> Manifest -> RunRecord

Comes in: plain values. Goes out: frozen records that stages hand to each other through files. Always holds: a record
is never changed, what is written is read back equal (`codec.py`), and no record holds NaN or infinity on disk.
"""

from moe_cli.records.comparison import Comparison, FairnessCheck, PairComparison, PairedDifference, RunColumn
from moe_cli.records.evaluation import (
    DriftItem,
    DriftSummary,
    Estimate,
    EvaluationRecord,
    EvaluationSummary,
    JudgeIdentity,
    Rate,
    SuiteSummary,
    Verdict,
)
from moe_cli.records.inputs import SIDES, BenignPrompt, EvaluationItem, Message, ModelIdentity, PromptPair, Side
from moe_cli.records.preparation import (
    REGIONS,
    AnsweredPrompt,
    Expert,
    ExpertEvidence,
    Generation,
    Label,
    NullUnion,
    PrepareSummary,
    RiskDifferences,
    RoutingCounts,
    Selection,
    TrainingExample,
)
from moe_cli.records.runs import (
    SCHEMA_VERSION,
    Manifest,
    Notice,
    Progress,
    RunKind,
    RunListing,
    RunRecord,
    RunVerification,
    StartedRun,
)
from moe_cli.records.training import (
    Arm,
    CheckpointState,
    Exported,
    Masking,
    StepRecord,
    TrainableCount,
    TrainingPlan,
    TrainingProof,
    TrainingSummary,
)

__all__ = [
    "REGIONS",
    "SCHEMA_VERSION",
    "SIDES",
    "AnsweredPrompt",
    "Arm",
    "BenignPrompt",
    "CheckpointState",
    "Comparison",
    "DriftItem",
    "DriftSummary",
    "Estimate",
    "EvaluationItem",
    "EvaluationRecord",
    "EvaluationSummary",
    "Expert",
    "ExpertEvidence",
    "Exported",
    "FairnessCheck",
    "Generation",
    "JudgeIdentity",
    "Label",
    "Manifest",
    "Masking",
    "Message",
    "ModelIdentity",
    "Notice",
    "NullUnion",
    "PairComparison",
    "PairedDifference",
    "PrepareSummary",
    "Progress",
    "PromptPair",
    "Rate",
    "RiskDifferences",
    "RoutingCounts",
    "RunColumn",
    "RunKind",
    "RunListing",
    "RunRecord",
    "RunVerification",
    "Selection",
    "Side",
    "StartedRun",
    "StepRecord",
    "SuiteSummary",
    "TrainableCount",
    "TrainingExample",
    "TrainingPlan",
    "TrainingProof",
    "TrainingSummary",
    "Verdict",
]
