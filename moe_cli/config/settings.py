"""Every setting of the program, with its default, its unit and its bounds.

Comes in: plain values from the sources (`sources.py`). Goes out: one frozen `MoeConfig`. Always holds: unknown keys are
refused, and the dump of a config loads to the same config.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

DEFAULT_MODEL = "allenai/OLMoE-1B-7B-0125-Instruct"

Count = Annotated[int, Field(ge=1, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Method = Literal["risk_diff", "random", "all", "file"]


def _as_share(value: object) -> object:
    """`5%` and `none` as people write them."""
    if isinstance(value, str) and value.strip().lower() == "none":
        return None
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return value


def _as_word(value: object) -> object:
    """`gpu: 0` as people write it."""
    return str(value) if type(value) is int else value


class Section(BaseModel):
    """A group of settings: frozen, and strict about names."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class ModelConfig(Section):
    """Which model, and where it runs."""

    name: str = Field(DEFAULT_MODEL, description="a hub name, a local directory, or `tiny` (built in)")
    revision: str | None = Field(None, description="commit, tag or branch of a hub model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="dtype of the weights; `auto` is the checkpoint's own"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="`auto`, `cpu`, `cuda` or `cuda:N`")
    gpu: Annotated[str | None, BeforeValidator(_as_word)] = Field(
        None, pattern=r"^\d+(,\d+)*$", description="cards to use, such as `0` or `0,1`"
    )
    threads: Count | None = Field(None, description="CPU threads; default: torch's own")

    @model_validator(mode="after")
    def _cards_need_cuda(self) -> ModelConfig:
        if self.gpu is not None and self.device == "cpu":
            raise ValueError(f"model.gpu asks for the cards {self.gpu}, but model.device is `cpu`")
        return self


class PrepareConfig(Section):
    """`moe prepare`."""

    output_dir: Path = Field(Path("prepared"), description="where the run is written")
    pairs: Path | None = Field(None, description="JSONL or JSON file of prompt pairs; not needed for `tiny`")
    benign: Path | None = Field(None, description="JSONL or JSON file of harmless prompts; not needed for `tiny`")
    limit: Count | None = Field(None, description="use only the first N pairs and N benign prompts, in order of id")
    tiny_pairs: Count = Field(192, description="pairs drawn from the tiny language when the model is `tiny`")
    batch_size: Count = Field(16, description="examples in a batch")
    safe_ratio: Share = Field(0.5, description="share of a batch that is not attacked")
    benign_ratio: Share | None = Field(
        None, description="benign part of the safe share; default 0.5 with a benign file, else 0"
    )
    keep_all: bool = Field(False, description="keep pairs whose plain form was not refused or whose attack failed")
    refusals: Path | None = Field(
        None, description="text file with one refusal a line, used as targets instead of the model's own refusals"
    )
    max_new_tokens: Count = Field(128, description="longest answer, in tokens")
    generation_batch_size: Count = Field(32, description="prompts answered at once")
    method: Method = Field("risk_diff", description="how the candidates are chosen")
    selection_file: Path | None = Field(None, description="JSON list of [layer, expert] for the method `file`")
    budget: Annotated[Annotated[float, Field(gt=0.0, le=1.0)] | None, BeforeValidator(_as_share)] = Field(
        0.05, description="largest trainable share of all parameters, `0.05` or `5%`; `none` is the original rule"
    )
    threshold: Annotated[float, Field(ge=-1.0, le=1.0)] = Field(0.05, description="smallest pooled risk difference")
    top_k: Count = Field(50, description="most experts that one batch selects")
    resamples: Count = Field(1000, description="bootstrap and permutation resamples")
    null_draws: Count = Field(200, description="draws of the null union")

    @model_validator(mode="after")
    def _the_method_has_what_it_needs(self) -> PrepareConfig:
        if (self.method == "file") != (self.selection_file is not None):
            raise ValueError("method `file` and prepare.selection_file belong together")
        if self.method == "random" and self.budget is None:
            raise ValueError("method `random` draws within a budget; set prepare.budget")
        return self


class TrainConfig(Section):
    """`moe train`; everything here holds for both arms, except what names one of them."""

    selective_dir: Path = Field(Path("unsafe_expert_finetuned_batch"), description="where the selective arm writes")
    baseline_dir: Path = Field(Path("full_model_baseline"), description="where the baseline arm writes")
    prepared: Path | None = Field(None, description="prepare run; default: the newest one of the same model")
    masking: Literal["update", "none"] = Field(
        "update", description="selective only: `update` lets each batch update its own experts alone"
    )
    max_share: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="selective only: refuse to train a larger share; default: the budget of the selection"
    )
    num_epochs: Count = Field(3, description="passes over the batches")
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
    workers: int = Field(0, ge=0, lt=2**31, description="processes that hand out the batches; changes no bit")
    report_to: tuple[str, ...] = Field((), description="trackers of the Trainer, such as `tensorboard`")


class EvaluateConfig(Section):
    """`moe evaluate`."""

    name: str = Field("default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the evaluation")
    items: tuple[Path, ...] = Field((), description="JSONL files of items; not needed for `tiny`")
    tiny_items: Count = Field(100, description="items per suite drawn from the tiny language")
    tiny_seed: Seed = Field(7, description="seed of that draw; never the training seed, so runs stay comparable")
    limit: Count | None = Field(None, description="use only the first N items of every suite")
    max_new_tokens: Count = Field(512, description="longest answer, in tokens")
    batch_size: Count = Field(32, description="prompts answered at once; changes bf16 answers, so it is recorded")
    max_unscored: Share = Field(0.02, description="largest share of answers without a verdict before exit 8")


class CompareConfig(Section):
    """`moe compare`."""

    output_dir: Path = Field(Path("comparison"), description="where the comparison is written")
    evaluation: str | None = Field(None, description="name of the evaluations to compare; default: the newest")
    margin: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.02, description="a difference inside it does not matter")


class MoeConfig(Section):
    """All settings of one command."""

    seed: Seed = Field(42, description="seed of everything that is drawn")
    registry: Path | None = Field(None, description="registry directory; default `.moe/registry` here or above")
    model: ModelConfig = ModelConfig()
    prepare: PrepareConfig = PrepareConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    compare: CompareConfig = CompareConfig()
