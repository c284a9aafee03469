"""A router's distribution is that of its own scores of its own logits, in every family, without the seam as well."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from scipy.stats import entropy

from moe_cli.errors import UsageError
from moe_cli.model.interventions import fixed_layers
from moe_cli.model.router_seam import kl_divergences, last_token_distributions, log_distribution
from moe_cli.model.topology import expert_layers, router_module
from tests.experts.catalog import LOOPED, build, families
from tests.experts.steps import token_ids
from tests.model.intervened import loaded_as

torch.set_num_threads(1)

SEEN = [family for family in families() if family not in LOOPED]
SCORES = {  # what each of these families scores its logits by, read in its source
    "olmoe": lambda z: z.softmax(-1),
    "mixtral": lambda z: z.softmax(-1),
    "qwen3_moe": lambda z: z.softmax(-1),
    "gpt_oss": lambda z: z.softmax(-1),
    "deepseek_v3": torch.sigmoid,
    "glm4_moe": torch.sigmoid,
    "deepseek_v4": lambda z: torch.nn.functional.softplus(z).sqrt(),
}
ROWS = [row.tolist()[:length] for row, length in zip(token_ids(3, 9), (9, 4, 7), strict=True)]


def changed(model):
    """The same model with noise on every weight, and on the correction biases."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in (*other.named_parameters(), *other.named_buffers()):
            if tensor.is_floating_point() and ("inv_freq" not in name):
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return other


def by_hand(model, family, row):
    """p [L, E] in float64 at the last token of one row without padding, from the inputs of the routers."""
    inputs = {}
    for index, layer in enumerate(expert_layers(model)):
        router_module(model, layer).register_forward_pre_hook(
            lambda module, args, index=index: inputs.__setitem__(index, args[0].reshape(-1, args[0].shape[-1])[-1])
        )
    with torch.no_grad():
        model(input_ids=torch.tensor([row]), use_cache=False)
    found = []
    for index, layer in enumerate(expert_layers(model)):
        router = router_module(model, layer)
        bias = getattr(router, "bias", None)
        logits = router.weight.double() @ inputs[index].double() + (0 if bias is None else bias.double())
        scores = SCORES[family](logits)
        found.append((scores / scores.sum()).detach().numpy())
    return np.stack(found)


@pytest.mark.parametrize("family", SCORES)
def test_the_kl_at_the_last_token_is_that_of_the_familys_own_formula_without_the_seam(family):
    base = build(family)
    tuned = changed(base)
    log_p_L, log_q_L = (last_token_distributions(loaded_as(model), ROWS) for model in (base, tuned))
    for place, row in enumerate(ROWS):
        p_LE, q_LE = (by_hand(model, family, row) for model in (base, tuned))
        for index, (log_p_BE, log_q_BE) in enumerate(zip(log_p_L, log_q_L, strict=True)):
            assert log_p_BE[place].exp().numpy() == pytest.approx(p_LE[index], abs=1e-6)
            kl = kl_divergences(log_p_BE, log_q_BE)[place].item()
            assert kl == pytest.approx(entropy(p_LE[index], q_LE[index]), abs=1e-6)
            assert kl > 1e-4


# Of earlier releases Jamba's block, not its router, makes the scores, so that the seam does not see by what.
UNREAD = {"jamba"} if Version(transformers.__version__) < Version("5.24") else set()


@pytest.mark.parametrize("family", SEEN)
def test_in_every_family_it_is_a_distribution_that_no_padding_changes_and_that_is_at_no_distance_from_itself(family):
    loaded = loaded_as(build(family))
    if family in UNREAD:
        with pytest.raises(UsageError, match="so its distribution is not known"):
            last_token_distributions(loaded, ROWS)
        return
    together = last_token_distributions(loaded, ROWS)
    for place, row in enumerate(ROWS):
        alone = last_token_distributions(loaded, [row])
        for log_p_BC, log_p_1C in zip(together, alone, strict=True):
            assert log_p_BC[place].exp().sum().item() == pytest.approx(1.0, abs=1e-6)
            assert torch.allclose(log_p_BC[place], log_p_1C[0], rtol=0, atol=2e-6)
            assert torch.equal(kl_divergences(log_p_1C, log_p_1C), torch.zeros(1))


def test_it_is_the_last_token_of_the_row_that_is_read():
    loaded = loaded_as(build("olmoe"))
    first = [last_token_distributions(loaded, [[3, last]])[0] for last in (5, 6)]
    assert not torch.equal(*first)
    (shorter,) = last_token_distributions(loaded, [[3, 5], [3, 5, 6, 7]])[0][:1]
    assert torch.allclose(shorter, first[0][0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("value", [-300.0, -20.5, -19.5, 0.0, 40.0])
def test_scores_that_vanish_in_a_float32_have_a_finite_logarithm(value):
    model = build("olmoe")
    logits = torch.tensor([[value, 1.0]])
    for calls, score in ((["sigmoid"], torch.sigmoid), (["softplus", "sqrt"], SCORES["deepseek_v4"])):
        scores = score(logits.double())
        found = log_distribution(logits, calls, model)
        assert found.isfinite().all()
        assert found.exp().numpy() == pytest.approx((scores / scores.sum()).numpy(), abs=1e-7)


def test_half_precision_logits_are_compared_in_float32():
    logits = torch.tensor([[3.0, -1.0, 0.5]], dtype=torch.bfloat16)
    found = log_distribution(logits, ["softmax"], build("olmoe"))
    assert found.dtype == torch.float32
    assert found.exp().sum().item() == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("calls", [[], ["softplus"], ["sqrt"], ["softplus", "softmax"]])
def test_a_router_that_makes_its_scores_in_another_way_is_refused(calls):
    with pytest.raises(UsageError, match="makes no scores of its logits by softmax, sigmoid"):
        log_distribution(torch.zeros(1, 4), calls, build("olmoe"))


@pytest.mark.skipif("deepseek_v4" not in SEEN, reason="this release has no DeepSeek-V4")
def test_layers_whose_experts_follow_from_the_tokens_id_are_named_and_no_others():
    model = build("deepseek_v4")
    assert fixed_layers(model, np.array([True, True])) == [0]
    assert fixed_layers(model, np.array([False, True])) == []
    assert fixed_layers(build("olmoe"), np.array([True, True])) == []
