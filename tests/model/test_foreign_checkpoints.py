"""Whatever the files of a checkpoint hold, it is opened as it should be or refused by name; its template has limits."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from moe_cli.config import ModelConfig
from moe_cli.errors import ArtifactError, EnvironmentFaultError, MoeError, UsageError
from moe_cli.model import rendering
from moe_cli.model.chat import encode_prompt
from moe_cli.model.foreign_files import config_of
from moe_cli.model.load import load_model
from moe_cli.model.rendering import render_template
from moe_cli.records import Message
from moe_cli.tiny import CHECKPOINT_PATH
from tests.studies.foreign_checkpoints import DEEP, TEMPLATES, mutations, outcome

torch.set_num_threads(1)
TURNS = [{"role": "user", "content": "zorp the glim"}]


@pytest.fixture
def stranger(tmp_path):
    shutil.copytree(CHECKPOINT_PATH, tmp_path / "stranger")
    return tmp_path / "stranger"


def opened(directory):
    return load_model(ModelConfig(name=str(directory), device="cpu"))


def with_config(directory, **more):
    file = directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **more}))


@pytest.mark.parametrize(
    "more",
    [
        *({"hidden_size": "abc"}, {"num_hidden_layers": 10**9}, {"num_attention_heads": 0}, {"dtype": "bf16"}),
        *({"vocab_size": None}, {"rope_parameters": []}, {"hidden_act": {"a": 1}}),
        {"quantization_config": {"quant_method": "gptq"}},
    ],
    ids=str,
)
def test_a_config_of_wrong_values_is_refused_with_the_name_of_the_checkpoint(stranger, more):
    with_config(stranger, **more)
    with pytest.raises((ArtifactError, UsageError, EnvironmentFaultError)) as found:
        opened(stranger)
    assert str(stranger) in found.value.message and "\n" not in found.value.message


@pytest.mark.parametrize(
    "content", ["[]", "{", "", DEEP, "\x80\x04]\x94."], ids=["list", "cut", "empty", "deep", "pickle"]
)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_file_that_is_no_json_object_is_refused_before_any_weight_is_used(stranger, name, content):
    (stranger / name).write_text(content)
    with pytest.raises(MoeError) as found:
        opened(stranger)
    assert str(stranger) in found.value.message


def test_mutations_of_every_file_end_in_no_traceback(stranger):
    ends = {case: outcome(stranger) for case in mutations(stranger, 12, seed=3)}
    assert {case: end for case, end in ends.items() if end[0] not in ("works", "refused")} == {}


@pytest.mark.parametrize(
    "asked", ["kernels-community/x", "a/b@main:c", "flash_attention_3", {"": "a/b"}, "no"], ids=str
)
def test_a_config_never_chooses_code_that_is_not_here(stranger, asked):
    with_config(stranger, attn_implementation=asked, experts_implementation="kernels-community/x")
    config = config_of(str(stranger))
    assert (config._attn_implementation, config._experts_implementation) == (None, None)
    assert opened(stranger).identity.fingerprint == opened(CHECKPOINT_PATH).identity.fingerprint


@pytest.mark.parametrize("asked", ["eager", "sdpa"])
def test_a_config_chooses_among_what_is_here(stranger, asked):
    with_config(stranger, attn_implementation=asked)
    assert opened(stranger).model.config._attn_implementation == asked


def test_weights_that_are_whole_numbers_without_a_quantisation_are_refused(stranger):
    file = stranger / "model.safetensors"
    tensors = load_file(file)
    name = "model.embed_tokens.weight"
    save_file({**tensors, name: (tensors[name] * 100).to(torch.int8)}, file)
    with pytest.raises(ArtifactError, match=f"holds {name} as I8, and config.json names no quantisation"):
        opened(stranger)


def test_a_directory_in_the_place_of_weights_is_refused_by_name(stranger):
    (stranger / "model.safetensors").unlink()
    (stranger / "model.safetensors").mkdir()
    with pytest.raises(ArtifactError, match=r"model\.safetensors is a directory"):
        opened(stranger)


@pytest.mark.parametrize("template", ["", "x", "{% for m in messages %}{{ m.content.0.text }}{% endfor %}"])
def test_a_template_that_never_shows_the_prompt_is_refused(stranger, template):
    (stranger / "chat_template.jinja").write_text(template)
    with pytest.raises(UsageError, match=r"leaves out what the user says|has no chat template"):
        opened(stranger)


@pytest.fixture(scope="module")
def tokenizer():
    return opened(CHECKPOINT_PATH).tokenizer


@pytest.mark.parametrize("template", [text for text in TEMPLATES if text not in ("", "x")], ids=lambda text: text[:40])
def test_a_template_fails_within_its_limits_and_by_name_or_shows_nothing(tokenizer, monkeypatch, template):
    monkeypatch.setattr(rendering, "MOST_SECONDS", 0.2)
    monkeypatch.setattr(tokenizer, "chat_template", template)
    try:
        ids = encode_prompt(tokenizer, [Message(role="user", content="zorp the glim")])
    except UsageError as error:
        assert f"the chat template of {CHECKPOINT_PATH}" in error.message and "\n" not in error.message
    else:
        assert len(ids) < 9


def test_limits_are_taken_back_and_change_no_text(tokenizer):
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)
    text = render_template(tokenizer, TURNS, answer_next=True)
    assert text == tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True)
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
