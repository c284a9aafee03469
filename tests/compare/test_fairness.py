"""The fairness gate: every condition is the same, differs, or is unknown, and silence is never taken for the same."""

from dataclasses import replace

import pytest

from moe_cli.compare.compared_runs import TrainingData
from moe_cli.compare.fairness import check_fairness
from moe_cli.data.contamination import trained_goals
from moe_cli.records.training import PhaseRecord
from tests.builders import CLASSIFIER, KEYWORDS, column, evaluation, identity, imported, routers, training

MODE = "alternating_optimization"


def checks(columns, trainings):
    return {check.name: check for check in check_fairness(columns, trainings)}


def arms(*, evaluation_b=None, **training_b):
    second = column("baseline", "full_model_baseline", evaluation=evaluation_b or evaluation(training_mode="x"))
    return checks([column("selective"), second], [training(), training(**training_b)])


def test_two_equal_arms_are_the_same_in_everything():
    found = arms()
    assert {check.status for check in found.values()} == {"same"}
    assert {
        "items",
        "chat template",
        "judge of harm: revision",
        "training data",
        "batch order",
        "threads",
    } < found.keys()
    assert {"generation: batch size", "training: learning rate", "training: seed"} < found.keys()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("training data", {"batches_digest": "9" * 64}),
        ("batch order", {"schedule_digest": "9" * 64}),
        ("steps", {"num_steps": 55}),
        ("tokens", {"num_tokens": 1}),
        ("answer tokens", {"num_answer_tokens": 1}),
        ("experts dtype", {"experts_dtype": "bfloat16"}),
        ("threads", {"num_threads": 1}),
        ("base model", {"base": identity(fingerprint="9" * 64)}),
        ("training: learning rate", {"hyperparameters": {"learning_rate": 1e-4, "seed": 42}}),
        ("training: seed", {"hyperparameters": {"learning_rate": 5e-5, "seed": 43}}),
    ],
)
def test_every_condition_of_training_is_checked_alone(name, change):
    assert [check.name for check in arms(**change).values() if check.status != "same"] == [name]


def test_what_the_routers_were_trained_to_is_compared_among_the_arms_that_train_them():
    columns = [column("selective"), *(column(f"alternating_{n}", MODE, routers=routers()) for n in (1, 2))]
    others = [training(training_mode=MODE, routers=routers(**change)) for change in ({}, {"learning_rate": 1e-3})]
    found = checks(columns, [training(), *others])
    assert [check.values for check in found.values() if check.status != "same"] == [("-", "0.0001", "0.001")]
    assert found["routers: target"].values == ("-", "round", "round")
    assert not any(name.startswith("routers: ") for name in checks(columns[:2], [training(), others[0]]))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("items", {"items_digest": "9" * 64}),
        ("chat template", {"model": identity(chat_template="9" * 64)}),
        ("model settings", {"model": identity(settings="9" * 64)}),
        ("dtype", {"model": identity(dtype="bfloat16")}),
        ("generation: batch size", {"generation": {"max_new_tokens": 32, "batch_size": 8}}),
    ],
)
def test_every_condition_of_evaluation_is_checked_alone(name, change):
    found = arms(evaluation_b=evaluation(**change))
    assert [check.name for check in found.values() if check.status != "same"] == [name]


def test_another_judge_or_another_revision_of_it_differs():
    found = arms(evaluation_b=evaluation(judges=(KEYWORDS,)))
    for question in ("harm", "refusal"):
        judge = found[f"judge of {question}"]
        assert (judge.status, judge.values) == ("differs", (CLASSIFIER.name, KEYWORDS.name))
        assert found[f"judge of {question}: revision"].status == "differs"


def test_a_judge_that_decides_nothing_takes_no_part_in_fairness():
    beside = arms(evaluation_b=evaluation(judges=(CLASSIFIER, KEYWORDS)))
    assert {check.status for check in beside.values()} == {"same"}


def test_a_setting_that_one_run_does_not_tell_is_unknown():
    found = arms(hyperparameters={"learning_rate": 5e-5})
    assert (found["training: seed"].status, found["training: seed"].values) == ("unknown", ("42", "unknown"))


def test_none_is_a_value_of_its_own():
    runs = [column("a"), column("b")]
    settings = [training(hyperparameters={"max_steps": value}) for value in (None, 10)]
    assert checks(runs, settings)["training: max steps"].status == "differs"
    assert checks(runs, [settings[0]] * 2)["training: max steps"].values == ("none", "none")


def test_a_trained_run_without_metadata_or_evaluation_is_unknown():
    found = checks([column("a"), column("b", evaluation=None)], [training(), None])
    assert {
        found[name].status for name in (*("items", "judge of harm", "training data", "threads", "base model"),)
    } == {"unknown"}


def test_a_difference_that_is_seen_counts_even_where_a_third_run_says_nothing():
    found = checks([column("a"), column("b"), column("c")], [training(), training(num_steps=1), None])
    assert (found["steps"].status, found["steps"].values) == ("differs", ("54", "1", "unknown"))


def test_a_bare_base_takes_no_part_in_the_checks_of_training():
    found = checks([column("base", "base"), column("a"), column("b")], [None, training(), training()])
    assert {check.status for check in found.values()} == {"same"}
    assert found["steps"].values == ("-", "54", "54")
    assert found["base model"].values == ("a" * 12,) * 3


def test_a_base_of_other_weights_than_the_arms_began_with_differs():
    other = column("base", "base", evaluation=evaluation(model=identity(fingerprint="9" * 64)))
    assert checks([other, column("a")], [None, training()])["base model"].status == "differs"


def test_one_trained_run_beside_the_base_has_nothing_to_check_in_training():
    found = checks([column("base", "base"), column("a")], [None, training()])
    assert not any(name.startswith("training") for name in found)
    assert found["items"].status == "same"


def test_the_revision_is_checked_where_any_model_has_one():
    assert "base revision" not in arms()
    hub = training(base=identity(revision="main"))
    columns = [column("a"), column("b")]
    assert checks(columns, [hub, hub])["base revision"].status == "same"
    assert checks(columns, [hub, training()])["base revision"].status == "unknown"
    other = training(base=identity(revision="v2"))
    assert checks(columns, [hub, other])["base revision"].values == ("main", "v2")


def test_every_hyperparameter_that_is_recorded_is_checked():
    settings = {"validation_batches": 2, "max_padding": 0.1, "max_length": 1024, "max_forward_tokens": None}
    for name, value in {"validation_batches": 0, "max_padding": 0.2, "max_length": 8, "max_forward_tokens": 9}.items():
        runs = [training(hyperparameters=settings), training(hyperparameters={**settings, name: value})]
        found = checks([column("a"), column("b")], runs)
        differing = [check.name for check in found.values() if check.status == "differs"]
        assert differing == [f"training: {name.replace('_', ' ')}"]


@pytest.mark.parametrize(("second", "status"), [(4, "same"), (2, "differs")])
def test_the_batches_of_a_step_are_compared_whatever_an_older_run_calls_them(second, status):
    settings = {"gradient_accumulation_steps": 4}, {"batches_per_step": second}
    runs = [training(hyperparameters=setting) for setting in settings]
    assert checks([column("a"), column("b")], runs)["training: batches per step"].status == status


def seeded(seeds_a, seeds_b, **changes_of_last):
    """Two arms, a run for every seed; the order of batches follows the seed."""
    trainings = [
        training(
            hyperparameters={"learning_rate": 5e-5, "seed": seed},
            schedule_digest=f"{seed:064d}",
            **(changes_of_last if place == len(seeds_a) + len(seeds_b) - 1 else {}),
        )
        for place, seed in enumerate((*seeds_a, *seeds_b))
    ]
    columns = [column(f"run {place}") for place in range(len(trainings))]
    found = check_fairness(columns, trainings, arm_sizes=[len(seeds_a), len(seeds_b)])
    return {check.name: check for check in found}


def test_arms_with_the_same_seeds_in_any_order_are_alike_in_what_a_seed_decides():
    found = seeded((1, 2, 3), (3, 1, 2))
    assert {check.status for check in found.values()} == {"same"}
    assert found["training: seed"].values == ("1", "2", "3", "3", "1", "2")


@pytest.mark.parametrize("seeds", [(1, 2, 4), (1, 1, 2), (1, 2)])
def test_arms_with_other_seeds_differ_in_seed_and_order_of_batches(seeds):
    found = seeded((1, 2, 3), seeds)
    assert {name for name, check in found.items() if check.status == "differs"} == {"training: seed", "batch order"}


def test_what_no_seed_decides_must_be_the_same_in_every_single_run():
    assert seeded((1, 2), (1, 2), experts_dtype="bfloat16")["experts dtype"].status == "differs"


def test_two_seeds_of_arms_that_are_one_run_each_differ():
    runs = [training(hyperparameters={"seed": seed}) for seed in (1, 2)]
    found = check_fairness([column("a"), column("b")], runs, arm_sizes=[1, 1])
    assert {check.name for check in found if check.status == "differs"} == {"training: seed"}


DATA = TrainingData(
    goals=trained_goals(()),
    target_lengths=(20, 30, 40, 90),
    num_refusals=12,
    distinct_refusals=5,
)


def data_checks(first, second, goals=((0, 93), (0, 93))):
    columns = [column(name, goals_trained_on=shared) for name, shared in zip("ab", goals, strict=True)]
    found = check_fairness(columns, [training(), training()], [first, second])
    return {check.name: check for check in found}


def test_what_the_training_examples_hold_is_shown_for_every_run():
    found = data_checks(DATA, DATA, goals=((50, 93), (50, 93)))
    assert found["goals trained on"].values == ("50 of 93 by words", "50 of 93 by words")
    assert found["target lengths"].values[0] == "median 30 (20-40), longest 90 characters"
    assert found["distinct refusals"].values[0] == "5 in 12"
    assert {check.status for check in found.values()} == {"same"}


@pytest.mark.parametrize(
    ("name", "change"),
    [("target lengths", {"target_lengths": (20, 30, 40, 91)}), ("distinct refusals", {"distinct_refusals": 1})],
)
def test_other_targets_differ(name, change):
    found = data_checks(DATA, replace(DATA, **change))
    assert [check.name for check in found.values() if check.status == "differs"] == [name]


def test_examples_that_cannot_be_found_are_unknown():
    found = data_checks(DATA, None, goals=((0, 93), None))
    assert [found[name].status for name in ("goals trained on", "target lengths", "distinct refusals")] == [
        "unknown"
    ] * 3


def test_goals_trained_on_are_checked_for_a_single_trained_run_too():
    columns = [column("base", "base"), column("a", goals_trained_on=(5, 93))]
    found = {check.name: check for check in check_fairness(columns, [None, training()], [None, DATA])}
    assert found["goals trained on"].values == ("-", "5 of 93 by words")


def test_imported_outcomes_have_no_conditions_to_check():
    assert check_fairness([imported("a"), imported("b")], [None, None]) == ()


def test_experts_selected_anew_in_another_way_by_a_resumed_run_are_a_difference():
    """Its settings say only how it ended; its phases say how every round's experts were selected."""
    ways = {"one": (None, None), "two": ("answers", None)}
    of_arms = [
        training(
            training_mode=MODE,
            routers=routers(),
            phases=tuple(
                PhaseRecord(
                    phase="experts",
                    round=number,
                    first_step=number,
                    last_step=number,
                    locked_digest="0" * 64,
                    consistency_before=None,
                    consistency_after=None,
                    num_tokens=0,
                    seconds=0.0,
                    selected=None if way is None else (),
                    selected_by=way,
                )
                for number, way in enumerate((None, *found), start=1)
            ),
        )
        for found in ways.values()
    ]
    found = checks([column(name, MODE, routers=routers()) for name in ways], of_arms)
    assert found["routers: reselect"].values == ("none", "answers, none")
    assert found["routers: reselect"].status == "differs"
