"""Which class opens a checkpoint, and which checkpoints are refused before their weights are read."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoTokenizer,
    MixtralConfig,
    Qwen3OmniMoeConfig,
    Qwen3VLMoeConfig,
)

from moe_cli.activity import Activity, listening_to
from moe_cli.config import ModelConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.model.foreign_files import auto_class
from moe_cli.model.load import load_model
from moe_cli.model.tensors import align_weights
from moe_cli.tiny import CHECKPOINT_PATH
from tests.experts.catalog import LOOPED, families
from tests.experts.checkpoints import NOT_OPENED


def test_a_causal_language_model_is_opened_as_one():
    config = MixtralConfig()
    assert auto_class(config) == (AutoModelForCausalLM, config)


def test_a_model_that_reads_images_too_is_opened_whole():
    config = Qwen3VLMoeConfig()
    assert auto_class(config) == (AutoModelForMultimodalLM, config)


def test_of_a_model_that_speaks_what_answers_in_text_is_opened():
    config = Qwen3OmniMoeConfig()
    auto, opened = auto_class(config)
    assert auto is AutoModelForMultimodalLM
    assert opened is config.thinker_config


@pytest.mark.parametrize("family", sorted(set(NOT_OPENED) & set(families()) - LOOPED))
def test_what_does_not_answer_token_by_token_is_refused_before_its_weights_are_read(family, tmp_path):
    CONFIG_MAPPING[family](architectures=["ItsOwnClass"]).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(CHECKPOINT_PATH).save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    with pytest.raises(UsageError, match=rf"a {family} checkpoint \(ItsOwnClass\) does not answer") as error:
        load_model(ModelConfig(name=str(tmp_path), device="cpu"))
    assert "classifier" in error.value.hint


@pytest.mark.parametrize("family", sorted(LOOPED & set(families())))
def test_layers_that_run_several_times_for_a_token_are_refused_before_weights_are_read(family, tmp_path):
    CONFIG_MAPPING[family]().save_pretrained(tmp_path)
    assert family in NOT_OPENED
    with pytest.raises(UsageError, match=rf"a {family} checkpoint runs its layers 3 times for each token"):
        load_model(ModelConfig(name=str(tmp_path), device="cpu"))


def test_a_model_that_is_not_here_while_the_hub_cannot_be_reached_is_no_wrong_word():
    with pytest.raises(EnvironmentFaultError, match="nobody/nothing-at-all is not on this machine") as error:
        load_model(ModelConfig(name="nobody/nothing-at-all"))
    assert "HF_HOME" in error.value.hint


def test_an_architecture_that_transformers_does_not_know_is_refused_with_its_name(tmp_path):
    AutoTokenizer.from_pretrained(CHECKPOINT_PATH).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "unheard_of"}')
    with pytest.raises(UsageError, match="unheard_of"):
        load_model(ModelConfig(name=str(tmp_path), device="cpu"))


def test_weights_that_begin_anywhere_in_a_file_are_moved_to_where_torch_would_allocate_them():
    model = nn.Linear(4, 4)
    shifted = torch.empty(32)[1:17].view(4, 4).copy_(model.weight.data)
    values, bias = shifted.clone(), model.bias.data_ptr()
    model.weight.data = shifted
    assert model.weight.data_ptr() % 64
    align_weights(model)
    assert model.weight.data_ptr() % 64 == 0 and torch.equal(model.weight, values)
    assert model.bias.data_ptr() == bias


def test_loading_and_saving_are_told_with_their_counts_and_draw_no_bar_of_the_library(tmp_path, capfd):
    told: list[tuple[str, int | None, int]] = []

    class Listener:
        def began(self, begun: Activity) -> None:
            pass

        def ended(self, begun: Activity) -> None:
            told.append((begun.text, begun.total, begun.done))

    with listening_to(Listener()):
        loaded = load_model(ModelConfig(name="tiny", device="cpu"))
        loaded.model.save_pretrained(tmp_path)
    loading, hashing, writing = told
    assert loading[0] == "loading the model tiny" and loading[1] == loading[2] > 10
    assert hashing == ("hashing the weights", 4 * loaded.identity.total_params, 4 * loaded.identity.total_params)
    assert writing == ("writing model shards", 1, 1)
    assert capfd.readouterr() == ("", "")
