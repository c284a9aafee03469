"""The nouns of the program in the order in which they flow; reading these files in order is reading the data flow.

    inputs       Message, PromptPair, BenignPrompt, EvaluationItem, ModelIdentity
    answering    AnswerSettings, Generation
    preparation  AnsweredPrompt -> RoutingCounts -> RiskDifferences -> Selection -> TrainingExample
    training     TrainableCount, StepRecord, TrainingProof, TrainingSummary
    judging      Verdict, JudgeIdentity, PublishedAgreement, Agreement
    rates        Rate
    drift        DriftItem -> DriftSummary, RoutingDrift; GroupDrift, RestoredRouter
    capability   CapabilitySample -> CapabilityScore
    evaluation   EvaluationRecord -> SuiteSummary -> EvaluationSummary
    card         License, CardFacts; PushedFile -> Push
    comparison   FairnessCheck, PairedDifference, Flip -> Comparison
    report       ExpertMap, LossCurve, FlipText -> ReportData
    benchmark    BenchmarkPlan -> BenchmarkRow -> Benchmark
    benchmark_prepare  PrepareRow, RecordingCost -> PrepareBenchmark
    benchmark_evaluate EvaluateRow -> EvaluateBenchmark
    runs         StartedRun -> Manifest -> RunRecord

Comes in: plain values. Goes out: frozen records that stages hand to each other through files. Always holds: a record
is never changed, what is written is read back equal (`codec.py`), and no record holds NaN or infinity on disk.
"""

from moe_cli.records.answering import AnswerIds, AnswerSettings, Generation
from moe_cli.records.benchmark import (
    BENCHMARK_SCHEMA_VERSION,
    Benchmark,
    BenchmarkArm,
    BenchmarkDtype,
    BenchmarkedModel,
    BenchmarkFamily,
    BenchmarkPlan,
    BenchmarkRow,
    Machine,
    ModelShape,
    RatioOfRows,
    RowPeak,
    SharePoint,
    Spread,
    StepBytes,
)
from moe_cli.records.benchmark_evaluate import (
    EVALUATE_BENCHMARK_SCHEMA_VERSION,
    EvaluateBenchmark,
    EvaluateRow,
    EvaluateWay,
)
from moe_cli.records.benchmark_prepare import (
    PREPARE_BENCHMARK_SCHEMA_VERSION,
    PrepareBenchmark,
    PrepareRow,
    PrepareWay,
    RecordingCost,
)
from moe_cli.records.capability import CapabilityResult, CapabilitySample, CapabilityScore
from moe_cli.records.card import CardFacts, License, Push, PushedFile
from moe_cli.records.comparison import (
    ComparedArm,
    Comparison,
    FairnessCheck,
    Flip,
    FlipText,
    ImportedOutcomes,
    PairComparison,
    PairedDifference,
    RunColumn,
    ThresholdCheck,
)
from moe_cli.records.drift import (
    DriftItem,
    DriftSummary,
    Estimate,
    GroupDrift,
    LayerDrift,
    RestoredRouter,
    RoutingDrift,
    WeightDrift,
)
from moe_cli.records.evaluation import STAGES, EvaluationRecord, EvaluationSummary, Stage, SuiteSummary
from moe_cli.records.inputs import SIDES, BenignPrompt, EvaluationItem, Message, ModelIdentity, PromptPair, Side
from moe_cli.records.judging import (
    QUESTIONS,
    Agreement,
    JudgedAnswer,
    JudgeIdentity,
    PublishedAgreement,
    Question,
    Verdict,
)
from moe_cli.records.preparation import (
    REGIONS,
    AnsweredPrompt,
    BadRow,
    DataPreview,
    Expert,
    ExpertEvidence,
    ItemSource,
    ItemsPreview,
    Label,
    MethodOverlap,
    NullUnion,
    OfferedCounts,
    PrepareSummary,
    RankedExpert,
    RankedTable,
    RiskDifferences,
    RoutingCounts,
    Selection,
    SourceCount,
    SuiteCount,
    TrainingExample,
    UnreadableSource,
)
from moe_cli.records.rates import Rate
from moe_cli.records.report import ExpertMap, LossCurve, MapKind, ReportData, ReportOrigin
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
    ValidationLoss,
)

__all__ = [
    "BENCHMARK_SCHEMA_VERSION",
    "EVALUATE_BENCHMARK_SCHEMA_VERSION",
    "PREPARE_BENCHMARK_SCHEMA_VERSION",
    "QUESTIONS",
    "REGIONS",
    "SCHEMA_VERSION",
    "SIDES",
    "STAGES",
    "Agreement",
    "AnswerIds",
    "AnswerSettings",
    "AnsweredPrompt",
    "Arm",
    "BadRow",
    "Benchmark",
    "BenchmarkArm",
    "BenchmarkDtype",
    "BenchmarkFamily",
    "BenchmarkPlan",
    "BenchmarkRow",
    "BenchmarkedModel",
    "BenignPrompt",
    "CapabilityResult",
    "CapabilitySample",
    "CapabilityScore",
    "CardFacts",
    "CheckpointState",
    "ComparedArm",
    "Comparison",
    "DataPreview",
    "DriftItem",
    "DriftSummary",
    "Estimate",
    "EvaluateBenchmark",
    "EvaluateRow",
    "EvaluateWay",
    "EvaluationItem",
    "EvaluationRecord",
    "EvaluationSummary",
    "Expert",
    "ExpertEvidence",
    "ExpertMap",
    "Exported",
    "FairnessCheck",
    "Flip",
    "FlipText",
    "Generation",
    "GroupDrift",
    "ImportedOutcomes",
    "ItemSource",
    "ItemsPreview",
    "JudgeIdentity",
    "JudgedAnswer",
    "Label",
    "LayerDrift",
    "License",
    "LossCurve",
    "Machine",
    "Manifest",
    "MapKind",
    "Masking",
    "Message",
    "MethodOverlap",
    "ModelIdentity",
    "ModelShape",
    "Notice",
    "NullUnion",
    "OfferedCounts",
    "PairComparison",
    "PairedDifference",
    "PrepareBenchmark",
    "PrepareRow",
    "PrepareSummary",
    "PrepareWay",
    "Progress",
    "PromptPair",
    "PublishedAgreement",
    "Push",
    "PushedFile",
    "Question",
    "RankedExpert",
    "RankedTable",
    "Rate",
    "RatioOfRows",
    "RecordingCost",
    "ReportData",
    "ReportOrigin",
    "RestoredRouter",
    "RiskDifferences",
    "RoutingCounts",
    "RoutingDrift",
    "RowPeak",
    "RunColumn",
    "RunKind",
    "RunListing",
    "RunRecord",
    "RunVerification",
    "Selection",
    "SharePoint",
    "Side",
    "SourceCount",
    "Spread",
    "Stage",
    "StartedRun",
    "StepBytes",
    "StepRecord",
    "SuiteCount",
    "SuiteSummary",
    "ThresholdCheck",
    "TrainableCount",
    "TrainingExample",
    "TrainingPlan",
    "TrainingProof",
    "TrainingSummary",
    "UnreadableSource",
    "ValidationLoss",
    "Verdict",
    "WeightDrift",
]
