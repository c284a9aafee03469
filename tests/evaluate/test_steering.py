"""`moe evaluate --steer`: the router is steered while all is measured, and the result never stands for the model."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import orjson
import pytest
from pydantic import ValidationError
from rich.console import Console

from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.codec import decode_lines
from moe_cli.compare.compared_runs import read_sources
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.evaluate import stage
from moe_cli.evaluate.steering_file import read_steering
from moe_cli.model.interventions import steered
from moe_cli.model.load import load_model
from moe_cli.records import EvaluationRecord, Expert, Steering
from moe_cli.views.evaluated import evaluated_view
from tests.small_experiment import settings_of_small_experiment

EXPERTS = {"deactivate": [[layer, index] for layer in range(4) for index in range(5)], "activate": [[0, 9], [2, 11]]}


@pytest.fixture
def steer(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "experts.json"
    file.write_bytes(orjson.dumps(EXPERTS))
    return file


def evaluated(directory: Path, steer: Path | None = None, **evaluate):
    settings = {"tiny_items": 3, "max_new_tokens": 12, "steer": steer, **evaluate}
    config = settings_of_small_experiment(directory, evaluate=settings)
    return stage.run("tiny", config, Store(directory / "registry"), lambda _: None)


def answers(path: Path) -> list[str]:
    records = decode_lines(EvaluationRecord, finished_run(path, "evaluation").file(layout.RECORDS))
    return [record.answer for record in records]


def test_a_steered_evaluation_has_its_own_answers_identity_and_name(steer, tmp_path):
    plain, changed = evaluated(tmp_path), evaluated(tmp_path, steer)
    steering = read_steering(steer)
    assert changed.path.name == f"steered-{steering.digest[:8]}"
    assert changed.summary.steering == steering
    assert plain.summary.steering is None
    assert changed.summary.model.fingerprint != plain.summary.model.fingerprint
    assert answers(changed.path) != answers(plain.path)
    assert changed.summary.taken == {}  # nothing of the other evaluation, and of its journals
    loaded = load_model(MoeConfig.model_validate({"model": {"name": "tiny"}}).model)
    with steered(loaded, steering) as expected:
        assert expected.identity.fingerprint == changed.summary.model.fingerprint
    assert loaded.identity.fingerprint == plain.summary.model.fingerprint
    again = evaluated(tmp_path, steer, name="again")
    assert again.path.name == "again"
    assert answers(again.path) == answers(changed.path)
    assert again.summary.taken["generate"] == changed.path.name


def test_what_was_steered_is_said(steer, tmp_path):
    console = Console(file=StringIO(), width=80)
    console.print(evaluated_view(evaluated(tmp_path, steer).summary))
    assert "router steered to 2 experts and away from 20" in " ".join(console.file.getvalue().split())


def test_compare_takes_a_steered_evaluation_only_where_it_is_named(steer, tmp_path):
    store = Store(tmp_path / "registry")
    changed = evaluated(tmp_path, steer)
    with pytest.raises(ArtifactError, match="no evaluation of a model of that name"):
        read_sources(["tiny"], None, store)
    plain = evaluated(tmp_path)
    newest = evaluated(tmp_path, steer, name="newest")
    (of_model,) = read_sources(["tiny"], None, store)
    assert of_model.column.evaluation.name == plain.path.name
    assert newest.path.name in {path.name for path in of_model.passed_over}
    named, by_name = read_sources([str(changed.path)], None, store)[0], read_sources(["tiny"], "newest", store)[0]
    assert named.column.name == f"tiny steered {read_steering(steer).digest[:8]}"
    assert by_name.column.evaluation.name == "newest"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "holds no JSON object"),
        (b"{}", "names no expert"),
        (b'{"activat": [[0, 1]]}', "'activat' is no key of a steering file.*activate"),
        (b'{"activate": [[0, 1]], "deactivate": [[0, 1]]}', "expert 1 of layer 0 stands twice"),
        (b'{"activate": [[0, 1], [0, 1]]}', "stands twice"),
        (b'{"activate": [[0, 1.5]]}', r"activate: \[0, 1.5\] is no"),
        (b'{"activate": [[0, true]]}', "is no .layer, expert."),
        (b'{"activate": [[-1, 0]]}', "is no .layer, expert."),
        (b'{"activate": 3}', "activate is no list"),
        (b'{"activate": [[0, 1]], "epsilon": 0}', "epsilon is 0, not a number above 0"),
        (b'{"activate": [[0, 1]], "epsilon": "big"}', "epsilon is 'big'"),
        (b'{"activate": [[0, 1]], "activate": [[0, 2]]}', "activate"),
        (b"not json", "experts.json"),
    ],
)
def test_a_file_that_says_something_else_is_refused_by_name(steer, content, message):
    steer.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_steering(steer)


def test_a_missing_file_a_directory_and_an_unknown_expert_are_refused(steer, tmp_path):
    for wrong in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError):
            read_steering(wrong)
    steer.write_bytes(b'{"activate": [[0, 99]]}')
    with pytest.raises(UsageError, match="no expert 99 in layer 0"):
        evaluated(tmp_path, steer)


def test_epsilon_is_that_of_the_paper_where_none_is_given(steer):
    assert read_steering(steer).epsilon == 0.01
    steer.write_bytes(b'{"deactivate": [[1, 2]], "epsilon": 3}')
    assert read_steering(steer) == Steering(activate=(), deactivate=(Expert(layer=1, index=2),), epsilon=3.0)


@pytest.mark.parametrize("other", [{"restore_router": True}, {"engine": "openai"}, {"answers": ["a.json"]}])
def test_what_steering_cannot_be_beside_is_refused(steer, other):
    with pytest.raises(ValidationError, match=r"evaluate\.steer"):
        MoeConfig.model_validate({"evaluate": {"steer": str(steer), **other}})
