"""An invented family either works as its flags say, or is refused with what was found: it is never trained wrongly."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from torch import nn
from transformers.integrations.moe import use_experts_implementation

from moe_cli.errors import UsageError
from moe_cli.experts.interface import attach
from moe_cli.records import Expert

torch.set_num_threads(1)

# 4 experts, hidden 8, width 16: every size is another, so no weight fits a place that is not its own.
GATED = {"gate_up_proj": (4, 32, 8), "down_proj": (4, 8, 16)}
TRANSPOSED = {"gate_up_proj": (4, 8, 32), "down_proj": (4, 16, 8)}
UNGATED = {"up_proj": (4, 16, 8), "down_proj": (4, 8, 16)}
BIASES = {"gate_up_proj_bias": (4, 32), "down_proj_bias": (4, 8)}


def invented(flags: dict[str, bool], shapes: dict[str, tuple[int, ...]]) -> nn.Module:
    """A model of one layer whose experts hold weights of these shapes under these flags."""

    @use_experts_implementation(**flags)
    class InventedExperts(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.num_experts = 4
            self.act_fn = nn.SiLU()
            for name, shape in shapes.items():
                holder, _, own = name.rpartition(".")
                if holder:
                    self.add_module(holder, nn.Module())
                self.get_submodule(holder).register_parameter(own, nn.Parameter(torch.randn(shape)))

        def forward(self, hidden_states, top_k_index, top_k_weights):
            raise NotImplementedError("only the registered functions run here")

    torch.manual_seed(0)
    config = hf.OlmoeConfig()
    config._experts_implementation = "grouped_mm"
    return nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"experts": InventedExperts(config)})])})


KNOWN = {
    "gated": ({}, GATED),
    "transposed": ({"is_transposed": True}, TRANSPOSED),
    "ungated": ({"has_gate": False}, UNGATED),
    "biased": ({"has_bias": True}, GATED | BIASES),
}


@pytest.mark.parametrize("layout", KNOWN)
def test_an_invented_family_of_a_known_layout_trains_as_the_dense_one_does(layout):
    model = invented(*KNOWN[layout])
    experts = model["layers"][0]["experts"]
    tokens_TH, router_TK = torch.randn(6, 8), torch.rand(6, 2)
    experts_TK = torch.tensor([[0, 1], [1, 3], [3, 2], [1, 0], [2, 3], [1, 2]])
    expected_TH = experts(tokens_TH, experts_TK, router_TK)
    expected_TH.square().sum().backward()
    dense = {name: parameter.grad.clone() for name, parameter in experts.named_parameters()}
    with attach(model, [Expert(layer=0, index=1), Expert(layer=0, index=3)]) as slices:
        out_TH = experts(tokens_TH, experts_TK, router_TK)
        assert torch.equal(out_TH, expected_TH)
        out_TH.square().sum().backward()
        for name, master in slices.parameters.items():
            *_, index, weight = name.split(".")
            torch.testing.assert_close(master.grad, dense[weight][int(index)], rtol=1e-4, atol=1e-3)


UNKNOWN = {
    "a third matrix per expert": (
        {},
        GATED | {"mix_proj": (4, 8, 8)},
        r"holds \[.*'mix_proj'\], but its flags announce",
    ),
    "a factor per expert": ({}, GATED | {"scale": (4,)}, r"holds \[.*'scale'\]"),
    "a weight that all experts share": ({}, GATED | {"shift": (8,)}, r"holds \[.*'shift'\]"),
    "a weight in a part of its own": ({}, GATED | {"lora.weight": (4, 8)}, r"holds \[.*'lora.weight'\]"),
    "biases without the flag": ({}, GATED | BIASES, r"holds \[.*'down_proj_bias'"),
    "the flag without biases": ({"has_bias": True}, GATED, r"announce \[.*'down_proj_bias'"),
    "a gate without the flag": ({"has_gate": False}, GATED, r"announce \['down_proj', 'up_proj'\]"),
    "transposed without the flag": ({}, TRANSPOSED, r"down_proj as \[4, 16, 8\], but its flags announce \[4, 32, 4\]"),
    "the flag without transposition": ({"is_transposed": True}, GATED, r"down_proj as \[4, 8, 16\]"),
    "only the second weight transposed": ({}, GATED | {"down_proj": (4, 16, 8)}, r"down_proj as \[4, 16, 8\]"),
    "a first weight of one half": ({}, GATED | {"gate_up_proj": (4, 16, 8)}, r"announce \[4, 8, 8\]"),
    "an odd first weight": ({}, GATED | {"gate_up_proj": (4, 33, 8)}, r"gate_up_proj as \[4, 33, 8\]"),
    "more rows than experts": ({}, GATED | {"down_proj": (5, 8, 16)}, r"down_proj as \[5, 8, 16\]"),
    "flat weights": ({}, {"gate_up_proj": (4, 256), "down_proj": (4, 128)}, r"gate_up_proj as \[4, 256\]"),
    "a bias of another width": (
        {"has_bias": True},
        GATED | BIASES | {"gate_up_proj_bias": (4, 16)},
        r"_bias as \[4, 16\]",
    ),
    "no weights at all": ({}, {}, r"holds \[\]"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_invented_family_of_an_unknown_layout_is_refused_with_what_was_found(case):
    flags, shapes, message = UNKNOWN[case]
    model = invented(flags, shapes)
    flags_before = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(UsageError, match=message) as error:
        attach(model, [Expert(layer=0, index=1)])
    assert "InventedExperts" in str(error.value) and "not trained" in error.value.hint
    assert [parameter.requires_grad for parameter in model.parameters()] == flags_before
