"""Drawing a token: the model's own distribution, the same number everywhere, the nucleus of the library."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import TopPLogitsWarper

from moe_cli.config import ModelConfig
from moe_cli.errors import NumericError
from moe_cli.model.decoding import FiniteLogits, SampledToken, answer_rows, sample_token, seed_of, uniform_of
from moe_cli.model.engines import greedy
from moe_cli.model.load import load_model

LOGITS_V = torch.tensor([0.3, 2.0, -1.0, 1.9, 0.0])
GRID = 10_000


def frequencies(temperature: float, top_p: float) -> torch.Tensor:
    """How often each token is drawn when the deciding number is each of GRID equal steps in [0, 1)."""
    uniform_B = torch.arange(GRID, dtype=torch.float64) / GRID
    drawn_B = sample_token(LOGITS_V.expand(GRID, -1), uniform_B, temperature, top_p)
    return torch.bincount(drawn_B, minlength=len(LOGITS_V)) / GRID


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_are_drawn_as_often_as_the_model_says(temperature):
    expected_V = (LOGITS_V / temperature).softmax(-1)
    torch.testing.assert_close(frequencies(temperature, 1.0), expected_V, rtol=0, atol=2 / GRID)


@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.75, 0.9, 0.999, 1.0])
def test_the_nucleus_is_the_library_s_and_shares_the_rest(top_p):
    warped_V = TopPLogitsWarper(top_p)(None, LOGITS_V[None])[0] if top_p < 1 else LOGITS_V
    torch.testing.assert_close(frequencies(1.0, top_p), warped_V.softmax(-1), rtol=0, atol=2 / GRID)


def test_the_likeliest_token_can_always_be_drawn_and_none_beyond_the_last():
    ends_B = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    assert sample_token(LOGITS_V.expand(2, -1), ends_B, 1.0, 1e-9).tolist() == [1, 1]
    assert sample_token(LOGITS_V.expand(2, -1), ends_B, 1.0, 1.0).tolist() == [1, 2]


def test_the_number_is_known_from_seed_prompt_and_place_alone():
    assert uniform_of(42, "p1#safe", 3) == 0.271176198675635
    numbers = {uniform_of(seed, name, place) for seed in (1, 2) for name in ("a", "b") for place in range(50)}
    assert len(numbers) == 200
    assert 0 <= min(numbers) < max(numbers) < 1
    assert abs(sum(numbers) / 200 - 0.5) < 0.06  # three standard errors of 200 uniform numbers


def test_seeds_for_other_engines_fit_31_bits_and_differ():
    seeds = {seed_of(1, str(number)) for number in range(100)}
    assert len(seeds) == 100
    assert max(seeds) < 2**31


def test_a_row_keeps_only_the_token_that_is_drawn():
    scores_BV = SampledToken(("a", "b"), 4, seed=1, temperature=1.0, top_p=1.0)(
        torch.zeros(2, 6, dtype=torch.long), LOGITS_V.expand(2, -1)
    )
    assert scores_BV.isfinite().sum(-1).tolist() == [1, 1]
    drawn = [
        sample_token(LOGITS_V[None], torch.tensor([uniform_of(1, name, 2)], dtype=torch.float64), 1.0, 1.0)
        for name in "ab"
    ]
    assert scores_BV.argmax(-1).tolist() == [int(token) for token in drawn]


def test_forbidden_tokens_pass_while_one_is_left():
    scores_BV = LOGITS_V.expand(2, -1).clone()
    scores_BV[1, :4] = -torch.inf
    assert FiniteLogits(("a", "b"))(torch.zeros(2, 6, dtype=torch.long), scores_BV) is scores_BV


@pytest.mark.parametrize("bad", [[torch.nan] * 5, [0.0, 1.0, torch.nan, 0.0, 0.0], [-torch.inf] * 5, [torch.inf] * 5])
def test_a_row_without_a_likeliest_token_is_an_error_that_names_its_prompt(bad):
    scores_BV = torch.stack([LOGITS_V, torch.tensor(bad)])
    with pytest.raises(NumericError, match="not finite for 1 of 2 prompts answered together, the first of them b"):
        FiniteLogits(("a", "b"))(torch.zeros(2, 6, dtype=torch.long), scores_BV)


@pytest.mark.parametrize("sampling", [{}, {"decoding": "sampling", "temperature": 1.0, "seed": 7}])
def test_a_model_that_gives_nan_answers_nothing(sampling):
    loaded = load_model(ModelConfig(name="tiny", device="cpu"))
    with torch.no_grad():
        loaded.model.get_output_embeddings().weight.fill_(torch.nan)
    settings = replace(greedy(max_new_tokens=3, batch_size=2), **sampling)
    with pytest.raises(NumericError, match="not finite for 2 of 2 prompts"):
        answer_rows(loaded, {"a": (5, 6), "b": (7,)}, settings)
