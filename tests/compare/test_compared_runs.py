"""A run is compared by evaluations of the weights it wrote, and by no other."""

import shutil
import sys

import pytest

from moe_cli.artifacts import layout
from moe_cli.cli.app import main
from moe_cli.compare.compared_runs import read_sources
from moe_cli.errors import ArtifactError
from tests.builders import identity
from tests.compare.runs_on_disk import NO_RUNS, evaluated, records, trained


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs; `b` also holds the newer evaluation of `a`, called `other`."""
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, "b", records(30), arm="selective")
    trained(tmp_path, "a", records(3))
    copied = tmp_path / "b" / layout.EVALUATIONS / "other"
    shutil.copytree(tmp_path / "a" / layout.EVALUATIONS / "default", copied)
    return tmp_path


def successes(source):
    return sum(record.attack_succeeded for record in source.records)


def test_a_newer_evaluation_of_other_weights_is_passed_over_where_another_fits(runs):
    (source,) = read_sources(["b"], None, NO_RUNS)
    assert successes(source) == 30
    assert [path.name for path in source.passed_over] == ["other"]
    assert read_sources(["a"], None, NO_RUNS)[0].passed_over == ()


@pytest.mark.parametrize(("word", "evaluation"), [("b", "other"), ("b/evaluations/other", None)])
def test_an_evaluation_of_other_weights_that_is_named_is_refused(runs, word, evaluation):
    with pytest.raises(ArtifactError, match="evaluation of other weights") as caught:
        read_sources([word], evaluation, NO_RUNS)
    assert caught.value.hint == "moe evaluate b"


def test_a_run_that_holds_evaluations_of_other_weights_alone_is_refused(runs):
    shutil.rmtree(runs / "b" / layout.EVALUATIONS / "default")
    with pytest.raises(ArtifactError, match="evaluation of other weights"):
        read_sources(["b"], None, NO_RUNS)


def test_the_evaluation_of_a_bare_model_is_no_evaluation_of_a_run(runs):
    evaluated(runs / "b" / layout.EVALUATIONS / "bare", records(1), model=identity())
    with pytest.raises(ArtifactError, match="evaluation of other weights"):
        read_sources(["b"], "bare", NO_RUNS)


def test_the_newest_evaluation_that_fits_is_taken(runs):
    changes = {"run": "b", "model": identity(fingerprint="b".ljust(64, "0"))}
    evaluated(runs / "b" / layout.EVALUATIONS / "again", records(7), **changes)
    assert successes(read_sources(["b"], None, NO_RUNS)[0]) == 7


def test_what_was_passed_over_is_said(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["moe", "compare", "a", "b"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    said = " ".join(capsys.readouterr().err.split())
    assert "other is an evaluation of other weights than its run wrote: left out" in said
