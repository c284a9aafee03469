"""The fairness gate: every condition is the same, differs, or is unknown, and silence is never taken for the same."""

import pytest

from moe_cli.compare.fairness import fairness_checks
from tests.compare.comparison_records import CLASSIFIER, KEYWORDS, column, evaluation, identity, training


def checks(columns, trainings):
    return {check.name: check for check in fairness_checks(columns, trainings)}


def arms(*, evaluation_b=None, **training_b):
    second = column("baseline", "full_model_baseline", evaluation=evaluation_b or evaluation(training_mode="x"))
    return checks([column("selective"), second], [training(), training(**training_b)])


def test_two_equal_arms_are_the_same_in_everything():
    found = arms()
    assert {check.status for check in found.values()} == {"same"}
    assert {"items", "chat template", "judge revision", "training data", "batch order", "threads"} < found.keys()
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


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("items", {"items_digest": "9" * 64}),
        ("chat template", {"model": identity(chat_template="9" * 64)}),
        ("dtype", {"model": identity(dtype="bfloat16")}),
        ("generation: batch size", {"generation": {"max_new_tokens": 32, "batch_size": 8}}),
    ],
)
def test_every_condition_of_evaluation_is_checked_alone(name, change):
    found = arms(evaluation_b=evaluation(**change))
    assert [check.name for check in found.values() if check.status != "same"] == [name]


def test_another_judge_or_another_revision_of_it_differs():
    found = arms(evaluation_b=evaluation(judge=KEYWORDS))
    assert (found["judge"].status, found["judge"].values) == ("differs", (CLASSIFIER.name, KEYWORDS.name))
    assert found["judge revision"].status == "differs"


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
    assert {found[name].status for name in ("items", "judge", "training data", "threads", "base model")} == {"unknown"}


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
