"""The model of a benchmark and the batch of its step.

The model has random weights, made on its device in its dtype, or is a real one. The batch has token ids and the
positions whose next tokens are the answer. Every row of a benchmark gets equal weights and equal tokens; a model of
random weights downloads nothing.

Letters of shapes: B rows, S positions, A answer positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, OlmoeConfig, PreTrainedConfig, PreTrainedModel, Qwen3MoeConfig

from moe_cli.bench.presets import check_selected
from moe_cli.config import MoeConfig
from moe_cli.experts.trainable import refuse_underflow
from moe_cli.model.load import load_model, resolve_device
from moe_cli.model.topology import ExpertLayer, expert_layers
from moe_cli.records import BenchmarkedModel, BenchmarkPlan, Expert, ModelShape

SPECIAL = 3  # ids below are padding, beginning and end


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The token ids and answer positions of one step."""

    ids_BS: Tensor
    kept_A: Tensor  # the positions before the answer's tokens
    forward_rows: int  # rows of one forward

    def parts(self) -> tuple[Tensor, ...]:
        """The rows of each forward pass of a step."""
        parts: tuple[Tensor, ...] = self.ids_BS.split(self.forward_rows)
        return parts

    def loss(self, logits_BAV: Tensor, part_BS: Tensor) -> Tensor:
        """Cross entropy in float32 over the answer tokens of a part, divided by the number of those in the step."""
        answers_A = part_BS[:, self.kept_A + 1].flatten()
        loss_sum = functional.cross_entropy(logits_BAV.flatten(0, 1).float(), answers_A, reduction="sum")
        return loss_sum / (len(self.ids_BS) * len(self.kept_A))


def device_of(config: MoeConfig) -> torch.device:
    """The one device that the rows run on."""
    device = torch.device(resolve_device(config.model))
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


def batch_of(plan: BenchmarkPlan, model: PreTrainedModel, seed: int) -> Batch:
    """Rows of random tokens, the second half of each of which is the answer."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    ids_BS = torch.randint(SPECIAL, vocabulary, (plan.rows, plan.length), generator=generator)
    kept_A = torch.arange(plan.length - plan.length // 2 - 1, plan.length - 1)
    return Batch(ids_BS.to(model.device), kept_A.to(model.device), max(1, plan.forward_tokens // plan.length))


def build_model(plan: BenchmarkPlan, config: MoeConfig, device: torch.device) -> PreTrainedModel:
    """The model of the plan, in training mode.

    Raises:
        UsageError, ArtifactError: a real model that cannot be loaded, or in a dtype that cannot be trained.
    """
    torch.manual_seed(config.seed)
    if plan.shape is not None:
        with device:
            model = AutoModelForCausalLM.from_config(_config(plan.shape), dtype=getattr(torch, plan.dtype or "float32"))
        return model.train()
    dtype = {"dtype": plan.dtype} if plan.dtype else {}
    real = load_model(config.model.model_copy(update={"name": plan.model, "device": str(device), **dtype})).model
    refuse_underflow(real.dtype, str(plan.model), hint="add --dtype bfloat16")
    return real.train()


def describe_model(model: PreTrainedModel, plan: BenchmarkPlan) -> BenchmarkedModel:
    """Counts and shape of the model, which may be on the meta device.

    Raises:
        UsageError: it has fewer experts than are to be selected.
    """
    layers = expert_layers(model)
    check_selected((plan.selected, *plan.shares), min(layer.num_experts for layer in layers))
    return BenchmarkedModel(
        architecture=type(model).__name__,
        total_params=sum(parameter.numel() for parameter in model.parameters()),
        expert_params=sum(layer.num_experts * layer.params_per_expert for layer in layers),
        layers=tuple(layer.layer for layer in layers),
        num_experts=layers[0].num_experts,
        top_k=layers[0].top_k,
        dtype=str(model.dtype).removeprefix("torch."),
    )


def draw_selection(layers: tuple[ExpertLayer, ...], selected: int) -> list[Expert]:
    """`selected` experts of every layer, spread evenly over their indices."""
    return [
        Expert(layer=layer.layer, index=index * layer.num_experts // selected)
        for layer in layers
        for index in range(selected)
    ]


def _config(shape: ModelShape) -> PreTrainedConfig:
    same = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "num_experts": shape.experts,
        "num_experts_per_tok": shape.top_k,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if shape.family == "olmoe":
        return OlmoeConfig(**same, intermediate_size=shape.width)
    return Qwen3MoeConfig(
        **same, moe_intermediate_size=shape.width, intermediate_size=4 * shape.width, head_dim=shape.head_dim
    )
