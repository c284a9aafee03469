"""The output has the bits of the unmodified model; the gradients are the dense model's rows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from moe_cli.experts.autograd import ExpertsCall, run_routed_experts
from moe_cli.experts.backward import BackwardTarget
from moe_cli.experts.bank import Bank
from moe_cli.experts.grouped_products import multiply_grouped, sort_by_expert
from moe_cli.experts.interface import attach
from moe_cli.model.topology import expert_layers
from moe_cli.records import Expert
from tests.experts.families import FAMILIES, gpt_oss, olmoe
from tests.experts.steps import dense_gradients, loss_of, some_experts, token_ids

torch.set_num_threads(1)

SUBSETS = {"all": tuple(range(8)), "some": (1, 3, 6), "one": (5,)}


@pytest.mark.parametrize("family", FAMILIES)
def test_step_0_output_has_the_bits_of_the_unmodified_model(family):
    model, ids = FAMILIES[family](), token_ids()
    before = model(input_ids=ids, use_cache=False).logits
    with attach(model, some_experts(model)):
        assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)  # with gradients
        with torch.no_grad():
            assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_step_0_output_has_the_same_bits_in_half_precision(dtype):
    model, ids = olmoe().to(dtype), token_ids()
    before = model(input_ids=ids, use_cache=False).logits
    with attach(model, some_experts(model)) as slices:
        assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)
        assert slices.compute_dtype is dtype


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_slice_gradients_are_the_rows_of_the_dense_gradient_in_float64(family, subset):
    model, ids = FAMILIES[family]().double(), token_ids()
    model.set_experts_implementation("batched_mm")  # transformers' grouped_mm knows no float64
    dense = dense_gradients(model, ids)
    with attach(model, some_experts(model, SUBSETS[subset])) as slices:
        loss_of(model, ids).backward()
        for name, master in slices.parameters.items():
            torch.testing.assert_close(master.grad, dense[name], rtol=1e-9, atol=1e-14)
        assert all(
            any(dense[name].any() for name in slices.parameters if name.endswith(end))
            for end in ("up_proj", "down_proj")
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_slice_gradients_are_the_rows_of_the_dense_gradient_in_float32(family):
    model, ids = FAMILIES[family](), token_ids()
    dense = dense_gradients(model, ids)
    with attach(model, some_experts(model)) as slices:
        loss_of(model, ids).backward()
        for name, master in slices.parameters.items():
            torch.testing.assert_close(master.grad, dense[name], rtol=1e-4, atol=1e-7 + 1e-5 * dense[name].abs().max())


def embedding_and_router_gradients(model, ids):
    """Gradients of the input embeddings' output and of every router parameter."""
    routers = {name: p for name, p in model.named_parameters() if ".gate." in name or ".router." in name}
    for parameter in routers.values():
        parameter.requires_grad_()
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    model(inputs_embeds=embedded, labels=ids, use_cache=False).loss.backward()
    return embedded.grad, {name: parameter.grad.clone() for name, parameter in routers.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_input_and_router_gradients_are_the_dense_ones(family):
    model, ids = FAMILIES[family]().double(), token_ids()
    model.set_experts_implementation("batched_mm")
    dense_input, dense_routers = embedding_and_router_gradients(model, ids)
    model.zero_grad()
    with attach(model, some_experts(model)):
        input_gradient, routers = embedding_and_router_gradients(model, ids)
    torch.testing.assert_close(input_gradient, dense_input, rtol=1e-9, atol=1e-14)
    assert len(routers) >= 2
    for name, gradient in routers.items():
        torch.testing.assert_close(gradient, dense_routers[name], rtol=1e-9, atol=1e-14)


def test_an_active_slice_that_no_token_reached_gets_zeros():
    model, ids = olmoe(), token_ids(1, 2)  # 2 tokens x top-2 reach at most 4 of 8 experts
    with attach(model, some_experts(model, tuple(range(8)))) as slices:
        loss_of(model, ids).backward()
        empty = [master for master in slices.parameters.values() if not master.grad.any()]
        assert len(empty) >= 2 * 2 * 4
        assert all(master.grad.shape == master.shape for master in slices.parameters.values())


def test_in_bfloat16_the_masters_and_their_gradients_are_float32():
    model, ids = olmoe(), token_ids(4, 16)
    dense = dense_gradients(model, ids)
    half = olmoe().bfloat16()
    with attach(half, some_experts(half)) as slices:
        loss_of(half, ids).backward()
        for name, master in slices.parameters.items():
            assert master.dtype is master.grad.dtype is torch.float32
            cosine = torch.cosine_similarity(master.grad.flatten(), dense[name].flatten(), dim=0)
            assert cosine > 0.95, f"{name}: {cosine}"


def test_under_autocast_the_products_run_in_the_banks_dtype():
    ids = token_ids()
    for dtype in (torch.float32, torch.bfloat16):
        model = olmoe()
        for layer in expert_layers(model):
            layer.module.to(dtype)
        with attach(model, some_experts(model)) as slices, torch.autocast("cpu", torch.bfloat16):
            attached = model(input_ids=ids, labels=ids, use_cache=False)
            assert slices.compute_dtype is dtype
        attached.loss.backward()
        assert all(master.grad.dtype is torch.float32 for master in slices.parameters.values())
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model(input_ids=ids, use_cache=False).logits, attached.logits)


def routed(bank, experts_TK, roles):
    """A function of (tokens, router weights, *slices) over a bank of 4 experts whose row 1 and 3 are slices."""
    dispatch = sort_by_expert(experts_TK, 4, biased=bank.up_bias is not None, sentinels=bank.sentinels)
    targets = [BackwardTarget(expert, role) for expert in (1, 3) for role in roles]

    def output(tokens_TH, router_TK, *slices):
        with torch.no_grad():
            for target, value in zip(targets, slices, strict=True):
                getattr(bank, target.role).data[target.expert] = value
        return run_routed_experts(tokens_TH, router_TK, ExpertsCall(bank, dispatch, tuple(targets)), slices)

    return output, [getattr(bank, t.role)[t.expert].clone().requires_grad_() for t in targets]


def glu(first_SG):
    gate, up = first_SG.chunk(2, dim=-1)
    return nn.functional.silu(gate) * up


def squared(first_SF):
    return first_SF.tanh().square()


CASES = {
    "gated": {},
    "ungated": {"activate": squared, "width": 4},
    "transposed": {"transposed": True},
    "biased": {"biased": True},
    "interleaved": {"activate": lambda first: first[..., ::2].tanh() * (first[..., 1::2] + 1), "biased": True},
    "normed": {"norm": lambda out: out * torch.rsqrt(out.square().mean(-1, keepdim=True) + 1e-3)},
    "sentinels": {"sentinels": True, "biased": True},
    "sentinels normed": {"sentinels": True, "norm": torch.tanh},
}


@pytest.mark.parametrize("inputs", ["tokens and router", "tokens", "router", "slices alone"])
@pytest.mark.parametrize("case", CASES)
def test_gradcheck_in_float64(case, inputs):
    shape = SimpleNamespace(**{"activate": glu, "width": 8, "transposed": False, "biased": False} | CASES[case])
    torch.manual_seed(0)
    up, down = torch.randn(4, shape.width, 3).double(), torch.randn(4, 3, 4).double()
    bank = Bank(
        up=up.transpose(1, 2).contiguous() if shape.transposed else up,
        down=down.transpose(1, 2).contiguous() if shape.transposed else down,
        up_bias=torch.randn(4, shape.width).double() if shape.biased else None,
        down_bias=torch.randn(4, 3).double() if shape.biased else None,
        transposed=shape.transposed,
        activate=shape.activate,
        norm=getattr(shape, "norm", None),
        sentinels=getattr(shape, "sentinels", False),
    )
    experts_TK = torch.tensor([[0, 1], [1, 3], [3, 2], [1, 4 if bank.sentinels else 0], [2, 3]])
    roles = ("up", "down", "up_bias", "down_bias") if shape.biased else ("up", "down")
    output, slices = routed(bank, experts_TK, roles)
    tokens_TH = torch.randn(5, 3).double().requires_grad_("tokens" in inputs)
    router_TK = torch.rand(5, 2).double()
    if bank.sentinels:
        router_TK[3, 1] = 0.0  # as transformers does
    router_TK.requires_grad_("router" in inputs)
    assert torch.autograd.gradcheck(output, (tokens_TH, router_TK, *slices))


@pytest.mark.parametrize("biased", [True, False], ids=["biased", "unbiased"])
@pytest.mark.parametrize("norm", [None, lambda out: torch.tanh(out + 1)], ids=["plain", "normed"])
def test_what_the_kernel_leaves_behind_the_last_offset_never_leaks(monkeypatch, norm, biased):
    """The rows of sentinels hold whatever the memory held; here they hold NaN."""

    def poisoned(rows, weights, offsets):
        out = multiply_grouped(rows, weights, offsets)
        out[int(offsets[-1]) :] = torch.nan
        return out

    torch.manual_seed(0)
    bank = Bank(
        up=torch.randn(4, 8, 3).double(),
        down=torch.randn(4, 3, 4).double(),
        up_bias=torch.randn(4, 8).double() if biased else None,
        down_bias=torch.randn(4, 3).double() if biased else None,
        transposed=False,
        activate=glu,
        norm=norm,
        sentinels=True,
    )
    roles = ("up", "down", "up_bias", "down_bias") if biased else ("up", "down")
    output, slices = routed(bank, torch.tensor([[0, 1], [1, 4], [5, 3]]), roles)
    inputs = [torch.randn(3, 3).double().requires_grad_(), torch.tensor([[0.5, 0.5], [1, 0], [0, 1]]).double()]
    inputs[1].requires_grad_()
    clean = torch.autograd.grad(output(*inputs, *slices).square().sum(), [*inputs, *slices])
    monkeypatch.setattr("moe_cli.experts.bank.multiply_grouped", poisoned)
    got = torch.autograd.grad(output(*inputs, *slices).square().sum(), [*inputs, *slices])
    assert all(torch.equal(one, other) for one, other in zip(clean, got, strict=True))
    assert got[1][1, 1] == got[1][2, 0] == 0.0


@pytest.mark.parametrize("below", [True, False])
def test_the_gate_is_computed_again_under_the_autocast_of_the_forward(below):
    seen = []

    def gate(first_SG):
        seen.append(torch.is_autocast_enabled("cpu"))
        return glu(first_SG)

    bank = Bank(torch.randn(4, 8, 4), torch.randn(4, 4, 4), None, None, False, gate, None, False)
    output, slices = routed(bank, torch.tensor([[0, 1], [3, 2]]), ("up", "down"))
    with torch.autocast("cpu", torch.bfloat16):
        out = output(torch.randn(2, 4, requires_grad=below), torch.rand(2, 2), *slices)
    out.square().sum().backward()
    assert seen == [True, True]


@pytest.mark.parametrize("weight", ["gate_up_proj", "down_proj", "gate_up_proj_bias", "down_proj_bias"])
def test_a_trainable_bank_is_refused_because_its_gradient_would_silently_be_missing(weight):
    model = gpt_oss()
    with attach(model, some_experts(model)):
        model.model.layers[0].mlp.experts.get_parameter(weight).requires_grad_()
        with pytest.raises(ValueError, match="must stay frozen"):
            loss_of(model, token_ids())


def test_only_the_layers_above_the_lowest_slice_are_walked_back():
    model, ids = olmoe(), token_ids()
    with attach(model, [e for e in some_experts(model) if e.layer == 1]):
        below = []
        model.model.layers[0].register_forward_hook(lambda _, __, out: below.append(out))
        loss_of(model, ids).backward()
        hidden = below[0][0] if isinstance(below[0], tuple) else below[0]
        assert not hidden.requires_grad


def test_a_norm_after_every_expert_is_walked_through():
    """muse_spark, whose text model has no language head of its own: its experts alone; transformers 5.17 lacks it."""
    configuration = pytest.importorskip("transformers.models.muse_spark.configuration_muse_spark")
    modeling = pytest.importorskip("transformers.models.muse_spark.modeling_muse_spark")
    config = configuration.MuseSparkTextConfig(moe_hidden_size=8, moe_intermediate_size=16, num_local_experts=4)
    config._experts_implementation = "grouped_mm"
    experts = modeling.MuseSparkExperts(config)
    for parameter in experts.parameters():
        nn.init.normal_(parameter)
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"experts": experts})])})
    tokens, router = torch.randn(6, 8), torch.rand(6, 2)
    indices = torch.tensor([[0, 1], [1, 3], [3, 2], [1, 0], [2, 3], [1, 2]])
    expected = experts(tokens, indices, router)
    expected.square().sum().backward()
    dense = {name: parameter.grad.clone() for name, parameter in experts.named_parameters()}
    experts.zero_grad()
    with attach(model, [Expert(layer=0, index=1), Expert(layer=0, index=3)]) as slices:
        out = experts(tokens, indices, router)
        assert torch.equal(out, expected)
        out.square().sum().backward()
        assert experts.post_expert_norm.weight.grad is None
        for name, master in slices.parameters.items():
            *_, index, weight = name.split(".")
            torch.testing.assert_close(master.grad, dense[weight][int(index)], rtol=1e-4, atol=1e-4)
