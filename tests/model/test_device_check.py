"""A device that is not here is refused before anything is loaded."""

import pytest
import torch

from moe_cli.config import ModelConfig
from moe_cli.errors import EnvironmentFaultError
from moe_cli.model import load
from moe_cli.model.decoding import SampledToken
from moe_cli.model.tensors import float64_device


@pytest.mark.parametrize(("built", "why"), [(False, "is built without it"), (True, "finds none on this machine")])
def test_apples_gpu_is_asked_for_before_anything_is_opened(monkeypatch, built, why):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)
    monkeypatch.setattr(load, "model_directory", lambda name: pytest.fail("the model was looked for"))
    with pytest.raises(EnvironmentFaultError, match=why) as refusal:
        load.load_model(ModelConfig(name="tiny", device="mps"))
    assert refusal.value.exit_code == 4 and "--device mps" in refusal.value.message


def test_apples_gpu_is_used_only_where_it_is_named(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load.resolve_device(ModelConfig(device="mps")) == "mps"
    assert load.resolve_device(ModelConfig()) == "cpu"


def test_float64_is_computed_on_the_cpu_where_the_device_has_none():
    assert float64_device(torch.device("mps")) == torch.device("cpu")
    for device in (torch.device("cpu"), torch.device("cuda", 1)):
        assert float64_device(device) == device


def test_a_sampled_token_comes_back_to_the_device_of_its_logits(monkeypatch):
    scores = torch.randn(3, 11, generator=torch.Generator().manual_seed(0))
    token = SampledToken(["a", "b", "c"], 0, seed=1, temperature=1.0, top_p=0.9)
    expected = token(torch.zeros(3, 2), scores)
    monkeypatch.setattr("moe_cli.model.decoding.float64_device", lambda device: torch.device("cpu"))
    assert torch.equal(token(torch.zeros(3, 2), scores), expected)


@pytest.mark.parametrize("kernel", ["CompositeExplicitAutograd"])
def test_the_grouped_product_has_a_kernel_for_every_device(kernel):
    # Apple's GPU has no kernel of its own: it is served by the one for all devices, as the CPU is.
    assert torch._C._dispatch_has_kernel_for_dispatch_key("aten::_grouped_mm", kernel)
    assert torch._C._dispatch_has_computed_kernel_for_dispatch_key("aten::_grouped_mm", "MPS")
