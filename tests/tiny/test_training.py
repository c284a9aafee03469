"""The training script: repeatable, and honest about a model that misses its bars."""

from dataclasses import replace

import pytest
import torch

from tests.studies.tiny_training import BARS, Recipe, SuiteRate, main, train

SHORT = Recipe(num_conversations=96, num_epochs=1, batch_size=16, num_warmup_steps=2)
ONE_STEP = replace(SHORT, num_conversations=64, batch_size=64)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_training_twice_gives_the_same_weights_bit_for_bit(num_threads):
    torch.set_num_threads(num_threads)
    (first, _), (second, _) = train(ONE_STEP, lambda progress: None), train(ONE_STEP, lambda progress: None)
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_reports_every_step_and_lowers_the_loss():
    steps = []
    train(SHORT, steps.append)
    assert [progress.step for progress in steps] == list(range(1, 7)) and steps[0].num_steps == 6
    assert steps[-1].loss < steps[0].loss


def test_a_model_below_a_bar_is_not_written_unless_forced(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    monkeypatch.setattr("tests.studies.tiny_training.train", lambda recipe, notify: train(SHORT, notify))
    monkeypatch.setattr("tests.studies.tiny_training.ITEMS_PER_SUITE", 4)
    assert main(["--output", str(tmp_path / "model")]) == 1
    assert not (tmp_path / "model").exists()
    assert "misses the bar of benign" in capsys.readouterr().err
    assert main(["--output", str(tmp_path / "model"), "--force"]) == 0
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_a_suite_without_a_bar_always_passes():
    new_words = next(bar for bar in BARS if bar.suite == "attacked_new_words")
    assert SuiteRate(bar=new_words, k=0, n=10).passed
    assert not SuiteRate(bar=BARS[0], k=8, n=10).passed and SuiteRate(bar=BARS[0], k=9, n=10).passed
