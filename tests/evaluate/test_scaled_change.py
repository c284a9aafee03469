"""An evaluation of a part of what a selective run changed: other weights, told apart from the run's own."""

from __future__ import annotations

import pytest

from moe_cli.artifacts import Store
from moe_cli.compare.compared_runs import read_sources
from moe_cli.errors import UsageError
from moe_cli.evaluate import stage
from moe_cli.evaluate.target import load_target, resolve_target
from moe_cli.prepare import stage as prepare
from moe_cli.train import stage as train


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_settings):
    """A selective run with its settings and registry."""
    directory = tmp_path_factory.mktemp("scaled")
    config = small_settings(directory, train={"prepared": directory / "prepared"})
    store = Store(directory / "registry")
    prepare.run(config, store, lambda _: None)
    return train.run("selective", config, store, lambda _: None).path, config, store


def evaluated(trained, scale, name):
    run, config, store = trained
    settings = config.evaluate.model_copy(update={"scale": scale, "name": name})
    return stage.run(str(run), config.model_copy(update={"evaluate": settings}), store, lambda _: None).summary


def test_a_part_of_the_change_drifts_less_and_has_a_fingerprint_of_its_own(trained):
    whole, half = evaluated(trained, 1.0, "whole"), evaluated(trained, 0.5, "half")
    assert 0 < half.drift.kl_mean.value < whole.drift.kl_mean.value
    prints = {whole.model.fingerprint, half.model.fingerprint, whole.base.fingerprint}
    assert len(prints) == 3 and half.base == whole.base
    moved = {group.group: group.relative_l2 for group in whole.weight_drift}
    for group in half.weight_drift:
        assert group.relative_l2 == pytest.approx(moved[group.group] / 2, rel=1e-3)
    assert not half.taken.keys() & {"generate", "drift", "weights"}  # nothing of other weights


def test_a_comparison_never_takes_it_for_the_run(trained):
    run, _, store = trained
    evaluated(trained, 1.0, "own")
    evaluated(trained, 0.25, "quarter")
    (source,) = read_sources([str(run)], None, store)
    assert source.column.evaluation.name == "own"
    assert "quarter" in {path.name for path in source.passed_over}


def test_what_has_no_delta_cannot_be_scaled(trained, tmp_path):
    _, config, store = trained
    target = resolve_target("tiny", config.model, store)
    with pytest.raises(UsageError, match=r"evaluate\.scale is 0\.5"):
        evaluated(("tiny", config, store), 0.5, "bare")
    assert load_target(target).identity.name == "tiny"
