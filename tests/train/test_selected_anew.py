"""Experts selected anew between rounds on the model as trained so far, and what is left when that fails."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from safetensors.torch import load_file

from moe_cli.artifacts import finished_run, layout
from moe_cli.codec import decode
from moe_cli.config import ModelConfig
from moe_cli.errors import StoppedError, UsageError
from moe_cli.experts import apply_delta, save_delta
from moe_cli.model.load import load_model
from moe_cli.prepare.round_selection import SELECTORS, RoundSelector, round_selector
from moe_cli.records import Notice, RoundSelection, TrainingSummary
from moe_cli.train import checkpoint
from moe_cli.train import stage as train
from moe_cli.views.trained import trained_view
from tests.resume_everywhere import NUM_BATCHES, ask_to_stop_after, differences, train_to_the_end
from tests.train.alternating_runs import settings_of

BORDER, LAST_STEP = 2 * NUM_BATCHES, 4 * NUM_BATCHES
GENTLE = {"learning_rate": 1e-4}  # so that the model still complies inside attacks after a round


def to_the_end(experiments, config, *, resume=False):
    return train_to_the_end(
        "alternating",
        config,
        experiments.store,
        lambda _: None,
        last_step=LAST_STEP,
        resume=resume,
        reselect=round_selector(config.alternating.reselect),
    )


def shown(path) -> str:
    text = StringIO()
    Console(file=text, width=160).print(trained_view(summary_of(path)))
    return text.getvalue()


def summary_of(path) -> TrainingSummary:
    return decode(TrainingSummary, (path / layout.METADATA).read_bytes(), source="metadata")


@pytest.mark.parametrize("way", sorted(SELECTORS))
def test_a_round_trains_what_a_plain_model_with_these_weights_selects_and_resumes_bit_for_bit(
    experiments, selection, tmp_path, way
):
    """The model in training, with its slices and masters, selects as a checkpoint that was merged and loaded."""
    whole = to_the_end(experiments, settings_of(experiments, f"anew-{way}", train_settings=GENTLE, reselect=way))
    config = settings_of(experiments, f"anew-{way}-stopped", train_settings=GENTLE, reselect=way)
    with pytest.raises(StoppedError):
        train.run(
            "alternating",
            config,
            experiments.store,
            lambda event: ask_to_stop_after(BORDER, event),
            reselect=round_selector(way),
        )
    saved = load_file(config.alternating.output_dir / f"checkpoint-{BORDER}" / checkpoint.PARAMETERS)
    loaded = load_model(ModelConfig(name="tiny", device="cpu", threads=1))
    save_delta(tmp_path / "delta", saved, loaded.identity)
    apply_delta(loaded.model, tmp_path / "delta")
    prepared = finished_run(experiments.directory / "prepared", "prepare")
    expected = SELECTORS[way].select(loaded, prepared, selection.union, lambda _: None)
    (phase,) = [phase for phase in summary_of(whole).phases if phase.selected is not None]
    assert (phase.phase, phase.round, phase.selected_by) == ("experts", 2, way)
    assert (phase.selected, phase.num_selecting_pairs) == (expected.batches, expected.num_pairs)
    proof = summary_of(whole).proof
    assert proof.requested == proof.in_optimizer == proof.with_gradient == len(load_file(whole / layout.DELTA))
    assert tuple(differences(whole, to_the_end(experiments, config, resume=True))) == ()
    assert f"by {way}, {expected.num_pairs} pairs" in shown(whole)


@pytest.fixture(scope="module")
def untouched(experiments):
    """The run whose experts are those of the prepare run in all rounds."""
    return to_the_end(experiments, settings_of(experiments, "none-anew"))


class FailingSelector(RoundSelector):
    """Refuses, or is gone, when it selects."""

    def __init__(self, error: Exception) -> None:
        def select(*_: object) -> RoundSelection:
            raise error

        super().__init__(refuse=lambda _: None, select=select)


@pytest.mark.parametrize("error", [UsageError("too few", hint="go on"), RuntimeError("gone")], ids=["few", "gone"])
def test_what_was_trained_before_a_selection_that_fails_is_saved_and_goes_on_without_it(experiments, untouched, error):
    """Whatever the interval between checkpoints: selecting may take long, and may refuse."""
    rarely = {"checkpoint_every": 1000}
    name = f"fails-{type(error).__name__}"
    config = settings_of(experiments, name, train_settings=rarely, reselect="answers")
    with pytest.raises(type(error)):
        train.run("alternating", config, experiments.store, lambda _: None, reselect=FailingSelector(error))
    assert [path.name for path in config.alternating.output_dir.glob("checkpoint-*")] == [f"checkpoint-{BORDER}"]
    without = settings_of(experiments, name, train_settings=rarely, reselect="none")
    resumed = to_the_end(experiments, without, resume=True)
    assert tuple(differences(untouched, resumed)) == ()


def test_a_round_for_whose_experts_the_budget_has_no_room_says_that_it_trains_none(experiments):
    def select(*_: object) -> RoundSelection:
        return RoundSelection(batches=((),) * NUM_BATCHES, num_pairs=6, num_left_out=2)

    config, talk = settings_of(experiments, "no-room", reselect="gradient"), []
    selector = RoundSelector(refuse=lambda _: None, select=select)
    path = train.run("alternating", config, experiments.store, talk.append, reselect=selector).path
    (warning,) = [event.text for event in talk if isinstance(event, Notice) and "no expert" in event.text]
    assert "no room for the 2 that are" in warning
    assert "round 2 by gradient, 6 pairs: 0 experts, without 2 for which the budget has no room" in shown(path)
