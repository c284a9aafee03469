"""Every setting of the program, with its default, its unit and its bounds.

Unknown keys are refused, and the dump of a config loads to the same config. The values come from `loading.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from moe_cli.config.sections import (
    MATCHED,
    ColumnNames,
    Count,
    EndpointConfig,
    JudgeConfig,
    Method,
    Section,
    Seed,
    Share,
    Sources,
    Temperature,
    Threads,
    Words,
    as_conditions,
    as_list,
    as_nothing,
    as_share,
    as_word,
)
from moe_cli.config.study_settings import AblateConfig, AlternatingConfig, SweepConfig
from moe_cli.errors import UsageError

DEFAULT_MODEL = "allenai/OLMoE-1B-7B-0125-Instruct"

MAX_UNSCORED = 0.02  # share of answers without a verdict, beyond which rates are not to be relied on
MARGIN = 0.02  # what a difference may be without mattering; what safety may cost is never held against a wider one
FEWEST_LABELS = 50  # items of a measure that people label, below which nothing is corrected
BENIGN_TOKENS = 768  # a target of it leaves a quarter of train.max_length to its prompt
JUDGES_MEANING = (
    "who judges: `keywords`, `harmbench`, `llama-guard`, `wildguard`, `strongreject`, `strongreject-delimited`, "
    "`xstest`, `rubric:FILE`, `command:PROGRAM` or `plugin:NAME`"
)
WRITTEN = Path("endpoint")  # in the place of a file of refusals


class ModelConfig(Section):
    """Which model, and where it runs."""

    name: str = Field(DEFAULT_MODEL, description="hub name, local directory, or `tiny` (built in)")
    revision: str | None = Field(None, description="commit, tag or branch of a hub model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype of the weights; `auto` is the checkpoint's own"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$",
        description="`cpu`, `cuda`, `cuda:N`, `mps`, or `auto`: the CUDA cards where there are any, else the CPU",
    )
    gpu: Annotated[str | None, BeforeValidator(as_word)] = Field(
        None, pattern=r"^\d+(,\d+)*$", description="CUDA cards to use, such as `0` or `0,1`"
    )
    threads: Threads | None = Field(None, description="CPU threads; default: torch's own")
    rank_timeout: float = Field(
        1800.0, gt=0.0, description="seconds that one of several processes waits for the others before it gives up"
    )

    @model_validator(mode="after")
    def _cards_need_cuda(self) -> ModelConfig:
        if self.gpu is not None and self.device in ("cpu", "mps"):
            raise ValueError(f"model.gpu asks for the CUDA cards {self.gpu}, but model.device is `{self.device}`")
        return self


class PrepareConfig(Section):
    """`moe prepare`."""

    output_dir: Path = Field(Path("prepared"), description="where the run is written")
    pairs: Sources = Field(
        (), description="pairs or goals: files, folders, or hub data sets as `owner/name@REVISION`; `tiny` has its own"
    )
    benign: Sources = Field((), description="harmless prompts, in the same forms; `tiny` has its own")
    data_revision: str | None = Field(None, description="commit or tag of hub data sets named without one")
    map: ColumnNames = Field((), description="what columns mean, such as `prompt=body,label=is_safe`")
    attack: Path | None = Field(None, description="file of attack templates that hold `{goal}`, for goals alone")
    attack_per_goal: Count | None = Field(None, description="templates drawn for each goal; default: all of them")
    benign_attack: Share = Field(0.0, description="share of the plain harmless prompts that a template wraps")
    max_bad_rows: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="bad rows left out before an error")
    limit: Count | None = Field(None, description="use only the first N pairs and N benign prompts, in order of id")
    tiny_pairs: Count = Field(192, description="pairs drawn from the tiny language when the model is `tiny`")
    batch_size: Count = Field(16, description="examples in a batch")
    safe_ratio: Share = Field(0.5, description="share of a batch that is not attacked")
    benign_ratio: Share | None = Field(
        None, description="benign part of the safe share; default 0.5 with a benign file, else 0"
    )
    keep_all: bool = Field(False, description="keep pairs whose plain form was not refused or whose attack failed")
    refusals: Path | None = Field(
        None, description="targets instead of the model's own refusals: a file with one a line or row, or `endpoint`"
    )
    pickle: bool = Field(False, description="also write the three pickles of the original scripts")
    engine: Literal["transformers", "openai"] = Field(
        "transformers", description="what answers: the model itself, or the endpoint that serves it"
    )
    max_new_tokens: Count = Field(128, description="longest answer to a form of a pair, in tokens")
    benign_max_new_tokens: Count | None = Field(
        None,
        description="longest answer to a benign prompt, in tokens; one that is cut off is left out; default 768, and "
        "max_new_tokens where that is larger",
    )
    temperature: Temperature = Field(0.0, description="0 is greedy; above it answers are sampled")
    sampling_top_p: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="sampling: the likeliest tokens that reach this share of the probability"
    )
    judges: Sources = Field(("keywords",), description=JUDGES_MEANING)
    generation_batch_size: Count = Field(64, description="most prompts answered at once")
    generation_tokens: Count = Field(
        16384, description="most tokens at once: prompts answered at once x (longest prompt + longest answer)"
    )
    method: Method = Field("risk_diff", description="how the candidates are chosen")
    matched_to: Literal["risk_diff", "gradient", "stability"] = Field(
        "risk_diff", description="`random`, `frequency`: the method that says how many experts each layer has"
    )
    selection_file: Path | None = Field(
        None, description="for the method `file`: JSON list of [layer, expert], ESFT's config, or a table as CSV"
    )
    answer_part: Literal["whole", "spoken", "reasoning"] = Field(
        "whole", description="tokens of the answers that count: all, those without reasoning, or the reasoning alone"
    )
    select_by: Annotated[str | None, BeforeValidator(as_nothing), AfterValidator(as_conditions)] = Field(
        None,
        description="what candidates must meet: `q<0.05 and risk_diff>0.1`; of risk_diff, text, prompt, did, p, q, "
        "lower and stability",
    )
    budget: Annotated[Annotated[float, Field(gt=0.0, le=1.0)] | None, BeforeValidator(as_share)] = Field(
        0.05, description="largest trainable share of all parameters, `0.05` or `5%`; `none` is the original rule"
    )
    threshold: Annotated[float, Field(ge=-1.0, le=1.0)] | None = Field(
        None, description="candidates have a larger pooled risk difference; default 0.05, and 0 with select_by"
    )
    top_k: Count = Field(50, description="most experts that one batch selects")
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.2, description="`esft-token`, `esft-gate`: share of a layer's score that its candidates reach"
    )
    per_layer: Count | None = Field(None, description="most candidates of one layer")
    stability: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.8, description="`stability`: smallest share of the resamples that make an expert a candidate"
    )
    scores: tuple[Literal["gradient"], ...] = Field(
        (), description="what is measured beside the routing, for `moe select` to use later"
    )
    extra_replays: bool = Field(
        True,
        description="also replay each form with the answer to the other one, and harmless prompts plain and inside an "
        "attack: what of the risk difference is the answers' text, the prompts, the wrapper, the harm",
    )
    resamples: Count = Field(1000, description="bootstrap resamples, and first permutations of the p-values")
    null_draws: Count = Field(200, description="draws of the null union, and of random sets of experts")

    @model_validator(mode="after")
    def _the_method_has_what_it_needs(self) -> PrepareConfig:
        if (self.method == "file") != (self.selection_file is not None):
            raise ValueError("method `file` and prepare.selection_file belong together")
        if self.method in MATCHED and self.budget is None:
            raise ValueError(f"method `{self.method}` is matched to a budget; set prepare.budget")
        return self

    @property
    def refusals_are_written(self) -> bool:
        """Whether an endpoint writes the refusal targets."""
        return self.refusals == WRITTEN

    @property
    def benign_limit(self) -> int:
        """The longest answer to a benign prompt that holds, in tokens."""
        return self.benign_max_new_tokens or max(BENIGN_TOKENS, self.max_new_tokens)

    @property
    def smallest_difference(self) -> float:
        """The threshold that holds: where conditions choose, any positive difference is enough for it."""
        if self.threshold is not None:
            return self.threshold
        return 0.05 if self.select_by is None else 0.0

    @property
    def in_part(self) -> bool:
        """Whether a part of each answer counts, so that reasoning is counted apart even where there is none."""
        return self.answer_part != "whole"

    @property
    def measures_gradients(self) -> bool:
        """Whether a backward for each batch is run."""
        return self.method == "gradient" or "gradient" in self.scores


class TrainConfig(Section):
    """`moe train`; everything here holds for all arms, except what names one of them."""

    selective_dir: Path = Field(Path("unsafe_expert_finetuned_batch"), description="where the selective arm writes")
    baseline_dir: Path = Field(Path("full_model_baseline"), description="where the baseline arm writes")
    prepared: Path | None = Field(None, description="prepare run; default: the newest one of the same model")
    masking: Literal["update", "none"] = Field(
        "update", description="of the selected experts: `update` lets each batch update its own alone"
    )
    max_share: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="refuse to train a larger share in selected experts; default: the budget of the selection"
    )
    num_epochs: Count = Field(3, description="passes over the batches; the alternating arm has those of its rounds")
    learning_rate: float = Field(5e-5, gt=0.0, description="peak learning rate")
    weight_decay: float = Field(0.0, ge=0.0, description="AdamW's decay")
    max_grad_norm: float = Field(1.0, gt=0.0, description="gradient norm clipped at")
    warmup_steps: int = Field(
        100, ge=0, lt=2**31, description="linear warm-up, at most 10 % of the run; then linear decay"
    )
    gradient_accumulation_steps: Count = Field(1, description="fixed batches in one step")
    max_length: int = Field(
        1024, ge=8, lt=2**31, description="longest row in tokens; the prompt is cut, never the answer"
    )
    max_padding: float = Field(
        0.1, ge=0.0, description="most padding per useful token; rows of similar length share a forward"
    )
    max_forward_tokens: Count | None = Field(
        4096, description="most tokens in one forward, to save memory; changes no update; `null`: the whole batch"
    )
    gradient_checkpointing: bool = Field(
        False, description="keep only the layers' inputs and compute the rest again; slower, saves memory"
    )
    checkpoint_every: Count | None = Field(None, description="steps between checkpoints; default: every epoch")
    validation_batches: int = Field(
        0, ge=0, lt=2**31, description="last N batches held out; the final model is the checkpoint best on them"
    )
    workers: int = Field(0, ge=0, le=256, description="processes that hand out the batches; changes no bit")
    placement: Literal["replicated", "sharded"] = Field(
        "replicated",
        description="of the weights, where several processes train: a copy for each, or a share for each (FSDP2)",
    )
    report_to: Words = Field(
        (), description="trackers that follow the run, such as `tensorboard`: a word, or several; see docs/guide.md"
    )


class EvaluateConfig(Section):
    """`moe evaluate`."""

    name: str = Field("default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$", description="name of the evaluation")
    items: Sources = Field(
        (), description="items: files, folders or hub data sets, `harmful=FILE` says their kind; `tiny` has its own"
    )
    map: ColumnNames = Field((), description="what columns mean, such as `prompt=body,label=is_safe`")
    answers: Sources = Field(
        (),
        description="files of answers to judge (HarmBench, JailbreakBench, XSTest, inspect, lm-eval, JSON, CSV); no "
        "model is loaded",
    )
    kind: Literal["harmful", "benign"] | None = Field(
        None, description="what the prompts of `answers` are where neither the files nor the items say it"
    )
    scale: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="of a run with a delta: the part of what training changed that is applied"
    )
    steer: Path | None = Field(
        None,
        description="a JSON file of experts to `activate` and to `deactivate`, by which the router is steered",
    )
    tiny_items: Count = Field(100, description="items per suite drawn from the tiny language")
    tiny_seed: Seed = Field(7, description="seed of that draw; never the training seed, so runs stay comparable")
    limit: Count | None = Field(None, description="use only the first N items of every suite")
    epochs: Count = Field(1, description="answers to each item; more than one need a temperature above 0")
    engine: Literal["transformers", "openai"] = Field(
        "transformers", description="what answers: the model itself, or the endpoint that serves it"
    )
    max_new_tokens: Count = Field(512, description="longest answer, in tokens")
    temperature: Temperature = Field(0.0, description="0 is greedy; above it answers are sampled")
    sampling_top_p: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="sampling: the likeliest tokens that reach this share of the probability"
    )
    batch_size: Count = Field(64, description="most prompts answered at once; changes bf16 answers, so it is recorded")
    batch_tokens: Count = Field(
        32768, description="most tokens at once: prompts answered at once x (longest prompt + longest answer)"
    )
    judges: Sources = Field(("keywords",), description=JUDGES_MEANING)
    capability: Sources = Field((), description="tasks of lm-eval; needs the extra `capability`")
    capability_limit: Count | None = Field(None, description="use only the first N questions of every task")
    capability_tasks: Path | None = Field(None, description="directory of further task definitions for lm-eval")
    capability_batch_size: Count = Field(16, description="questions of a task scored at once")
    capability_chat: bool = Field(False, description="ask the tasks' questions in the model's chat template")
    restore_router: bool = Field(
        False, description="answer the harmful items again with the router of the base, where training changed it"
    )
    max_unscored: Share = Field(MAX_UNSCORED, description="largest share of answers without a verdict before exit 8")

    @property
    def other_answers(self) -> str | None:
        """The setting by which the answers are not those of the weights as they are; None: they are."""
        changed = (("engine", self.engine != "transformers"), ("answers", self.answers), ("steer", self.steer))
        return next((f"evaluate.{name}" for name, is_set in changed if is_set), None)

    @model_validator(mode="after")
    def _repeats_differ(self) -> EvaluateConfig:
        if self.epochs > 1 and self.temperature == 0:
            raise ValueError("evaluate.epochs: greedy answers to one item are all the same; set evaluate.temperature")
        return self

    @model_validator(mode="after")
    def _one_router(self) -> EvaluateConfig:
        if self.steer is not None and self.restore_router:
            raise ValueError("evaluate.restore_router puts another router in; measure it without evaluate.steer")
        return self

    @model_validator(mode="after")
    def _files_say_the_rest(self) -> EvaluateConfig:
        if self.kind is not None and not self.answers:
            raise ValueError("evaluate.kind is for answers of files; name them with evaluate.answers")
        if self.answers and self.epochs > 1:
            raise ValueError("evaluate.epochs is for answers that are made; those of evaluate.answers are counted")
        if self.answers and self.engine == "openai":
            raise ValueError("evaluate.engine `openai` asks a server, and evaluate.answers are there already")
        return self

    @model_validator(mode="after")
    def _a_part_of_the_change_is_of_weights(self) -> EvaluateConfig:
        if self.scale < 1.0 and (self.answers or self.engine == "openai"):
            raise ValueError("evaluate.scale changes weights, and answers of files or of a server come from none here")
        return self


class CompareConfig(Section):
    """`moe compare`."""

    output_dir: Path = Field(Path("comparison"), description="where the comparison is written")
    evaluation: str | None = Field(None, description="name of the evaluations; default: the newest")
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        MARGIN, description="a difference inside it does not matter; prices are held against at most 0.02"
    )
    intersect: bool = Field(False, description="pair the items that all runs have, where the items are not the same")
    strict: bool = Field(False, description="refuse a comparison in which a condition of the fairness gate differs")
    fail_if: Annotated[tuple[str, ...], BeforeValidator(as_list)] = Field(
        (), description="exit 7 unless the data rule it out: `asr>+0.02` of the difference, `asr[RUN]>0.1` of a rate"
    )
    labels: Annotated[tuple[str, ...], BeforeValidator(as_list)] = Field(
        (), description="files of answers that people labelled (`moe label`), which correct what the judge says"
    )


class MoeConfig(Section):
    """All settings of one command."""

    seed: Seed = Field(42, description="seed of everything that is drawn")
    registry: Path | None = Field(None, description="registry directory; default `.moe/registry` here or above")
    model: ModelConfig = ModelConfig()
    endpoint: EndpointConfig = EndpointConfig()
    prepare: PrepareConfig = PrepareConfig()
    train: TrainConfig = TrainConfig()
    alternating: AlternatingConfig = AlternatingConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    judge: JudgeConfig = JudgeConfig()
    compare: CompareConfig = CompareConfig()
    ablate: AblateConfig = AblateConfig()
    sweep: SweepConfig = SweepConfig()

    def refuse_for_alternating(self) -> None:
        """Refuse settings that the alternating arm cannot train with.

        Raises:
            UsageError: the weights are to be sharded; or experts to be selected anew, and the final model to be chosen
                among checkpoints of different experts, or the selection to have a limit of its own.
        """
        if self.train.placement == "sharded":
            raise UsageError(
                "the alternating arm trains routers whose weights every process holds whole",
                hint="leave train.placement at replicated",
            )
        if self.alternating.reselect == "none":
            return
        if self.train.validation_batches:
            raise UsageError(
                "with held-out batches the final model may be that of a round whose experts are not those of the last",
                hint="leave --reselect or train.validation_batches away",
            )
        if self.train.max_share is not None:
            raise UsageError(
                "train.max_share limits one selection, and one made anew keeps to the budget of the prepare run",
                hint="leave it away, or select with another budget: moe select PREPARED --budget 5%",
            )

    def refuse_for_ablation(self) -> None:
        """Refuse settings of an evaluation whose answers are not those of the weights as they are.

        Raises:
            UsageError: another engine, answers of files, a steered router, or a part of the change.
        """
        scaled = None if self.evaluate.scale == 1.0 else "evaluate.scale"
        if (other := self.evaluate.other_answers or scaled) is not None:
            raise UsageError(
                f"an ablation answers with the weights as they are, without experts; {other} says otherwise",
                hint=f"leave {other} away",
            )
