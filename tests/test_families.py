"""The same commands run on randomly initialised model directories of other families, from pairs and items in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoTokenizer,
    LlamaConfig,
    MixtralConfig,
    PretrainedConfig,
    Qwen3MoeConfig,
)

from moe_cli.artifacts import Store, finished_run
from moe_cli.codec import decode_lines
from moe_cli.compare import stage as compare
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.evaluate import stage as evaluate
from moe_cli.model.load import load_model
from moe_cli.prepare import stage as prepare
from moe_cli.records import Notice, StepRecord
from moe_cli.tiny import CHECKPOINT_PATH
from moe_cli.train import stage as train
from tests.experts import checkpoints

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}


def written(path: Path, config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> Path:
    """A model directory with random weights and the tiny tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT_PATH)
    config.vocab_size = len(tokenizer)
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    config.bos_token_id = None
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def qwen3() -> PretrainedConfig:
    # The first layer is dense: expert layers keep the decoder's own index.
    return Qwen3MoeConfig(
        **SIZES,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_experts=8,
        num_experts_per_tok=2,
        mlp_only_layers=[0],
    )


def mixtral() -> PretrainedConfig:
    return MixtralConfig(**SIZES, intermediate_size=16, num_local_experts=8, num_experts_per_tok=2)


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def settings_for(model: Path, tmp_path: Path, small_settings: Callable[..., MoeConfig]) -> MoeConfig:
    """A small experiment on the model, with pairs and items from files."""
    pairs = lines(
        tmp_path / "pairs.jsonl",
        [{"id": str(n), "goal": f"goal {n}", "safe": f"zorp {n}", "unsafe": f"story of zorp {n}"} for n in range(12)],
    )
    items = lines(
        tmp_path / "items.jsonl",
        [
            {"id": "1", "suite": "attacked", "kind": "harmful", "prompt": "zorp the glim"},
            {"id": "2", "suite": "benign", "kind": "benign", "prompt": "repeat apple", "expected": "apple"},
            {"id": "3", "suite": "text", "kind": "text", "prompt": "repeat apple", "answer": "apple"},
        ],
    )
    return small_settings(
        tmp_path,
        model={"name": str(model)},
        # A random model neither refuses nor complies, so nothing may be filtered; its risk differences are small.
        prepare={"pairs": pairs, "keep_all": True, "threshold": 0.0, "budget": 0.5, "max_new_tokens": 6},
        evaluate={"items": [str(items)], "max_unscored": 1.0},
    )


@pytest.mark.parametrize(
    ("config", "dtype", "layers"),
    [(qwen3, torch.float32, (1,)), (mixtral, torch.float32, (0, 1)), (mixtral, torch.bfloat16, (0, 1))],
    ids=["qwen3_moe", "mixtral", "mixtral_bfloat16"],
)
def test_every_command_runs_on_a_model_directory(tmp_path, monkeypatch, small_settings, config, dtype, layers):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    settings = settings_for(written(tmp_path / "model", config(), dtype), tmp_path, small_settings)
    store = Store(tmp_path / "registry")
    prepared = prepare.run(settings, store, lambda _: None)
    assert prepared.selection.base.layers == layers
    selective = train.run("selective", settings, store, lambda _: None)
    baseline = train.run("baseline", settings, store, lambda _: None)
    assert selective.summary.proof.frozen_digest_before == selective.summary.proof.frozen_digest_after
    assert baseline.summary.proof.num_moved == baseline.summary.proof.num_parameters
    first = [next(decode_lines(StepRecord, made.path / "steps.jsonl")).loss for made in (selective, baseline)]
    assert first[0] == pytest.approx(first[1], rel=1e-6 if dtype is torch.float32 else 5e-3)  # nothing is trained yet
    assert selective.summary.experts_dtype == baseline.summary.experts_dtype == str(dtype).removeprefix("torch.")
    for made in (selective, baseline):
        saved, info = AutoModelForCausalLM.from_pretrained(made.path / "final_model", output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        assert saved.dtype is dtype
        evaluate.run(str(made.path), settings, store, lambda _: None)
    compared = compare.run([str(selective.path), str(baseline.path)], settings, store, lambda _: None)
    assert [check.name for check in compared.comparison.fairness if check.status == "differs"] == []
    assert finished_run(compared.path).damaged() == ()


@pytest.mark.parametrize("family", ["qwen3_vl_moe", "qwen3_omni_moe"])
def test_a_model_that_reads_images_is_prepared_trained_and_evaluated_on_text(
    tmp_path, monkeypatch, small_settings, family
):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    settings = settings_for(checkpoints.written(family, tmp_path / "model"), tmp_path, small_settings)
    store = Store(tmp_path / "registry")
    prepare.run(settings, store, lambda _: None)
    selective = train.run("selective", settings, store, lambda _: None)
    assert selective.summary.proof.frozen_digest_before == selective.summary.proof.frozen_digest_after
    told: list[object] = []
    baseline = train.run("baseline", settings, store, told.append)
    proof = baseline.summary.proof
    assert 0 < proof.num_moved == proof.with_gradient < proof.requested == proof.in_optimizer == proof.num_parameters
    assert any(
        f"the loss reaches {proof.with_gradient} of the" in note.text for note in told if isinstance(note, Notice)
    )
    saved, info = AutoModelForMultimodalLM.from_pretrained(selective.path / "final_model", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    whole = orjson.loads((tmp_path / "model" / "config.json").read_bytes())["architectures"]
    assert [type(saved).__name__] == whole  # also where the part that answers in text is all that was opened
    assert any(".visual." in name for name, _ in saved.named_parameters())
    again = load_model(settings.model.model_copy(update={"name": str(selective.path / "final_model")}))
    assert again.identity.architecture == selective.summary.base.architecture
    evaluate.run(str(selective.path), settings, store, lambda _: None)


def test_a_dense_model_is_refused_with_what_was_looked_for(tmp_path, monkeypatch, small_settings):
    monkeypatch.chdir(tmp_path)
    model = written(tmp_path / "dense", LlamaConfig(**SIZES, intermediate_size=48))
    settings = small_settings(tmp_path, model={"name": str(model)}, evaluate={"items": [str(tmp_path / "items.jsonl")]})
    lines(tmp_path / "items.jsonl", [{"id": "1", "kind": "harmful", "prompt": "zorp"}])
    with pytest.raises(UsageError, match="no expert layers that moe understands"):
        evaluate.run(str(model), settings, Store(tmp_path / "registry"), lambda _: None)


def test_a_checkpoint_with_missing_weights_is_refused_and_never_filled_with_random_ones(tmp_path, small_settings):
    model = written(tmp_path / "holes", mixtral())
    weights = load_file(model / "model.safetensors")
    del weights["model.layers.0.self_attn.q_proj.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"1 weights are not in it, such as model\.layers\.0\.self_attn\.q_proj"):
        load_model(small_settings(tmp_path, model={"name": str(model)}).model)
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtifactError, match="is damaged"):
        load_model(small_settings(tmp_path, model={"name": str(model)}).model)


def test_a_checkpoint_that_lacks_one_expert_is_refused(tmp_path, small_settings):
    model = written(tmp_path / "hole", mixtral())
    weights = load_file(model / "model.safetensors")
    for name in [name for name in weights if ".experts.3." in name and "layers.1" in name]:
        del weights[name]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match="is damaged or of another architecture"):
        load_model(small_settings(tmp_path, model={"name": str(model)}).model)


def test_a_model_without_a_chat_template_is_refused(tmp_path, small_settings):
    model = written(tmp_path / "plain", mixtral())
    (model / "chat_template.jinja").unlink()
    pairs = lines(
        tmp_path / "pairs.jsonl", [{"id": str(n), "goal": f"g{n}", "safe": "a", "unsafe": "b"} for n in range(8)]
    )
    settings = small_settings(tmp_path, model={"name": str(model)}, prepare={"pairs": pairs})
    with pytest.raises(UsageError, match="has no chat template"):
        prepare.run(settings, Store(tmp_path / "registry"), lambda _: None)
    assert not (tmp_path / "prepared").exists()
