"""The points of a sweep: all of them once, coarse first, with digests that the list does not change."""

import itertools

import pytest
from pydantic import ValidationError

from moe_cli.artifacts import Store
from moe_cli.artifacts.directory_state import flat_settings
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.sweep.point_places import PointPlace, settings_of_point
from moe_cli.sweep.points import coarse_first, evaluation_name, matched_to, plan_points, point_digest


def config(**changes):
    values = {"budgets": "1%,5%,20%", "methods": "risk_diff,frequency", "random_draws": 2, "seeds": "1,2"}
    return MoeConfig.model_validate({"sweep": values | changes, "seed": 9})


def digest(point, settings=None, source="s" * 64, seed=9):
    return point_digest(point, flat_settings(settings or config()), source, seed)


def test_every_point_stands_once_and_the_base_and_the_first_seed_come_first():
    points = plan_points(config())
    assert len(points) == len(set(points)) == 1 + 2 * (1 + 2 * 3 + 2 * 3)
    assert points[0].kind == "base" and [point.seed for point in points] == sorted(point.seed for point in points)
    of_first = [point for point in points if point.seed == 1 and point.kind == "method"]
    assert [point.budget for point in of_first] == [0.01, 0.01, 0.2, 0.2, 0.05, 0.05]


def test_the_ends_of_the_budgets_come_first_then_the_middles():
    assert list(coarse_first((1, 2, 3, 4, 5))) == [1, 5, 3, 2, 4]
    assert [list(coarse_first(tuple(range(n)))) for n in range(3)] == [[], [0], [0, 1]]
    for n in range(12):
        assert sorted(coarse_first(tuple(range(n)))) == list(range(n))


def test_draws_are_matched_to_the_method_that_says_how_many_experts_a_layer_has():
    points = plan_points(config(methods="frequency,gradient"))
    assert {point.method for point in points if point.kind == "random"} == {"risk_diff", "gradient"}


@pytest.mark.parametrize("changes", [{"engine": "openai"}, {"answers": "answers.csv"}])
def test_answers_that_no_point_gave_are_refused(changes):
    with pytest.raises(UsageError, match="takes the same answers for all of them"):
        plan_points(MoeConfig.model_validate({"evaluate": changes}))


@pytest.mark.parametrize("changes", [{"engine": "openai"}, {"answers": "answers.csv"}])
def test_no_part_of_a_change_is_evaluated_where_no_weights_answer(changes):
    with pytest.raises(ValidationError, match=r"evaluate\.scale changes weights"):
        MoeConfig.model_validate({"evaluate": {"scale": 0.5, **changes}})


@pytest.mark.parametrize("method", ["frequency", "risk_diff", "gradient"])
def test_a_method_and_its_draws_have_as_many_experts_a_layer_whatever_the_prepare_run_was_matched_to(method, tmp_path):
    swept = config(methods=method, budgets="5%", random_draws=1, seeds="1")
    swept = swept.model_copy(update={"prepare": swept.prepare.model_copy(update={"matched_to": "stability"})})
    for point in plan_points(swept):
        if point.kind in ("method", "random"):
            place = PointPlace(
                point=point,
                digest="d",
                directory=tmp_path,
                selection=tmp_path / "prepared",
                training=tmp_path / "selective",
                subject="run",
                evaluation=tmp_path / "evaluation",
            )
            assert settings_of_point(place, swept, Store(tmp_path)).prepare.matched_to == matched_to(method)


def test_scaled_points_come_last_and_are_of_methods_alone():
    points = plan_points(config(scales="0.5,0.25"))
    scaled = [point for point in points if point.scale < 1]
    assert points[-len(scaled) :] == tuple(scaled) and {point.kind for point in scaled} == {"method"}
    assert len(scaled) == 2 * 2 * 3 * 2


def test_the_digest_of_a_point_does_not_depend_on_the_list_it_stands_in():
    few = config(budgets="5%", methods="frequency", random_draws=1, seeds="2", scales="0.5")
    shared = set(plan_points(config())) & set(plan_points(few))
    assert {point.kind for point in shared} == {"method", "random", "baseline"}
    for point in shared:
        assert digest(point, config()) == digest(point, few)
    digests = [digest(point) for point in plan_points(config())]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("section", "name", "value", "of_kinds"),
    [
        ("train", "learning_rate", 1e-3, {"baseline", "method", "random"}),
        ("prepare", "threshold", 0.2, {"method", "random"}),
        ("model", "dtype", "float32", {"base", "baseline", "method", "random"}),
        ("evaluate", "limit", 4, set()),
        ("model", "gpu", "0,1", set()),
        ("train", "selective_dir", "elsewhere", set()),
        ("prepare", "budget", 0.5, set()),
    ],
)
def test_a_digest_changes_with_what_the_training_depends_on_and_with_nothing_else(section, name, value, of_kinds):
    before, after = config(), config()
    part = getattr(after, section)
    after = after.model_copy(update={section: type(part).model_validate({**part.model_dump(), name: value})})
    changed = {point.kind for point in plan_points(before) if digest(point, before) != digest(point, after)}
    assert changed == of_kinds


def test_a_digest_changes_with_the_prepare_run_and_that_of_a_selection_with_its_seed():
    points = plan_points(config())
    assert all(digest(point) != digest(point, source="t" * 64) for point in points)
    assert {point.kind for point in points if digest(point) != digest(point, seed=8)} == {"method", "random"}


def test_evaluations_of_other_items_judges_or_lengths_have_another_name():
    names = [
        evaluation_name(flat_settings(MoeConfig.model_validate(tree)), contents)
        for tree, contents in (
            ({}, ()),
            ({"evaluate": {"limit": 3}}, ()),
            ({"evaluate": {"items": "x.jsonl"}}, ("1",)),
            ({"evaluate": {"items": "x.jsonl"}}, ("2",)),
        )
    ]
    assert all(a != b for a, b in itertools.combinations(names, 2))
    assert names[0] == evaluation_name(flat_settings(MoeConfig.model_validate({"evaluate": {"name": "x"}})), ())
