"""The records of the program, listed in the order of the data flow; reading these files in order is reading that flow.

    record         Rate, CountRatio, and the decorator that makes a class a record
    inputs         Message, PromptPair, BenignPrompt, EvaluationItem, ModelIdentity; AnswerSettings -> Generation;
                   SourceCount, OfferedCounts -> DataPreview; ItemSource, SuiteCount -> ItemsPreview
    preparation    AnsweredPrompt -> RoutingCounts -> RiskDifferences -> Selection -> PrepareSummary
    training       TrainingExample; TrainableCount, RouterTraining; TurnLoss -> StepRecord, PhaseRecord, TrainingProof
                   -> TrainingSummary
    judging        Verdict, JudgeIdentity, SideJudge, PublishedAgreement, Agreement;
                   LabelDraw -> LabelFile -> LabelCorrection
    drift          DriftItem -> DriftSummary, RoutingDrift; PromptDriftItem -> PromptDrift; GroupDrift -> WeightDrift;
                   RestoredRouter
    evaluation     CapabilitySample -> CapabilityScore; EvaluationRecord -> SuiteSummary -> EvaluationSummary
    ablation       Intervention, Steering; ConditionOutcomes, ExpertEffect -> Ablation
    attack_transfer TransferCell -> TransferRow, UnionOverlap -> Transfer
    comparison     FairnessCheck, PairedDifference, Flip -> Comparison
    report         ExpertMap, LossCurve -> ReportData; License -> CardFacts; PushedFile -> Push; Environment
    benchmark      BenchmarkPlan -> BenchmarkRow -> Benchmark
    resource_plan  StepMemory -> RankNeed -> ArmNeed -> ResourcePlan
    budget_sweep   SweepPoint -> PointResult -> SweepArm; BudgetTest -> SufficientBudget; SelectionValue -> Sweep
    manifest       StartedRun -> Manifest -> RunRecord -> RunListing

Stages hand each other these frozen records through files. A record is never changed, what is written is read back equal
(`codec.py`), and no record on disk contains NaN or infinity.
"""

from moe_cli.records.ablation import (
    ABLATION_SCHEMA_VERSION,
    Ablation,
    ConditionOutcomes,
    ExpertEffect,
    Intervention,
    Steering,
    TextLoss,
)
from moe_cli.records.attack_transfer import Transfer, TransferCell, TransferRow, UnionOverlap
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
from moe_cli.records.budget_sweep import (
    SWEEP_SCHEMA_VERSION,
    ArmRates,
    BudgetTest,
    PlannedPoint,
    PointKind,
    PointResult,
    PointState,
    SelectionValue,
    SufficientBudget,
    Sweep,
    SweepArm,
    SweepPlan,
    SweepPoint,
)
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
    SeedSpread,
    ThresholdCheck,
    Unshown,
)
from moe_cli.records.drift import (
    DriftItem,
    DriftSummary,
    Estimate,
    GroupDrift,
    LayerDrift,
    PromptDrift,
    PromptDriftItem,
    PromptLayerDrift,
    RestoredRouter,
    RoutingDrift,
    WeightDrift,
)
from moe_cli.records.evaluation import (
    STAGES,
    AnswerFile,
    AnswerServer,
    AnswersPreview,
    CapabilityResult,
    CapabilitySample,
    CapabilityScore,
    EvaluationRecord,
    EvaluationSummary,
    Stage,
    SuiteSummary,
)
from moe_cli.records.inputs import (
    PLAIN_SUITE,
    SIDES,
    AnswerIds,
    AnswerSettings,
    BadRow,
    BenignPrompt,
    DataPreview,
    EvaluationItem,
    Generation,
    ItemSource,
    ItemsPreview,
    Message,
    ModelIdentity,
    OfferedCounts,
    PromptPair,
    ServedAnswer,
    Side,
    SourceCount,
    SuiteCount,
    UnreadableSource,
)
from moe_cli.records.judging import (
    QUESTIONS,
    Agreement,
    JudgeAlone,
    JudgedAnswer,
    JudgeIdentity,
    Label,
    LabelCorrection,
    LabelDraw,
    LabelFile,
    LabelStratum,
    PublishedAgreement,
    Question,
    SideJudge,
    Verdict,
)
from moe_cli.records.manifest import (
    SCHEMA_VERSION,
    AblationResult,
    ComparisonResult,
    EvaluationResult,
    Manifest,
    Notice,
    PrepareResult,
    Progress,
    RunKind,
    RunListing,
    RunRecord,
    RunResult,
    RunVerification,
    StartedRun,
    SweepResult,
    TrainingResult,
)
from moe_cli.records.preparation import (
    AnsweredPrompt,
    AnswerPart,
    Expert,
    ExpertEvidence,
    HarmlessCounts,
    MethodOverlap,
    NullUnion,
    PartOfRisk,
    PrepareSummary,
    RankedExpert,
    RankedTable,
    ReasoningCounts,
    RiskDifferences,
    RiskParts,
    RoutingCounts,
    Selection,
    Separation,
    TurnEvidence,
)
from moe_cli.records.record import CountRatio, Rate
from moe_cli.records.report import (
    CardFacts,
    ComputeDevice,
    Environment,
    ExpertMap,
    License,
    LossCurve,
    MapKind,
    Push,
    PushedFile,
    ReportData,
    ReportOrigin,
)
from moe_cli.records.resource_plan import (
    RESOURCE_PLAN_SCHEMA_VERSION,
    ArmNeed,
    Placement,
    RankNeed,
    Remedy,
    ResourcePlan,
    SelectedBy,
    StepMemory,
)
from moe_cli.records.training import (
    Arm,
    CheckpointState,
    Exported,
    Masking,
    PhaseRecord,
    RoundSelection,
    RouterTraining,
    StepRecord,
    TrainableCount,
    TrainingExample,
    TrainingPlan,
    TrainingProof,
    TrainingSummary,
    TurnLoss,
    TurnTraining,
    ValidationLoss,
)
