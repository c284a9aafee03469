"""Which runs are compared: one arm per word, or two arms of several runs, each with a name of its own."""

import pytest

from moe_cli.compare.arms import group_runs, name_arms, regroup_sources
from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.errors import ArtifactError, UsageError
from tests.builders import column, evaluation, identity, training


def source(name, mode="selective_experts", weights=None):
    trained = mode != "base"
    return ComparedRun(
        column=column(name, mode, evaluation=evaluation(model=identity(fingerprint=weights or name))),
        training=training(trained_fingerprint=weights or name) if trained else None,
        records=None,
        items=None,
        digests={},
    )


def names(*groups):
    return [arm.name for arm in name_arms([[source(name) for name in group] for group in groups])]


def test_every_word_is_an_arm_and_the_base_comes_first():
    assert group_runs(["a", "b", "c"], (), None) == (("a",), ("b",), ("c",))
    assert group_runs(["a", "b"], (), "tiny") == (("tiny",), ("a",), ("b",))


def test_with_vs_there_are_two_arms_and_the_other_side_comes_first():
    assert group_runs(["s1", "s2"], ["b1", "b2"], "tiny") == (("tiny",), ("b1", "b2"), ("s1", "s2"))


@pytest.mark.parametrize(("words", "against"), [([], []), (["a"], []), ([], ["a", "b"])])
def test_fewer_than_two_arms_are_refused(words, against):
    with pytest.raises(UsageError):
        group_runs(words, against, None)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ((["base_1", "base_2"], ["sel_1", "sel_2", "sel_3"]), ["base", "sel"]),
        ((["tiny"], ["out (1)", "out (2)"]), ["tiny", "out"]),
        (
            (["out/seed-1", "out/seed-2"], ["out/seed-3", "out/seed-4"]),
            ["out/seed-1 + out/seed-2", "out/seed-3 + out/seed-4"],
        ),
        ((["sel"], ["sel_1", "sel_2"]), ["sel", "sel_1 + sel_2"]),
        ((["a", "b"], ["c", "d"]), ["a + b", "c + d"]),
    ],
)
def test_an_arm_is_named_by_what_its_runs_begin_with_unless_another_is(groups, expected):
    assert names(*groups) == expected


def test_the_same_weights_twice_are_no_second_seed():
    with pytest.raises(ArtifactError, match="a and b are the same weights"):
        regroup_sources((("x",), ("a", "b")), [source("x"), source("a", weights="w"), source("b", weights="w")], None)
    regroup_sources((("a",), ("b",)), [source("a", weights="w"), source("b", weights="w")], None)


def test_an_untrained_model_has_no_seeds():
    with pytest.raises(ArtifactError, match="tiny was not trained"):
        regroup_sources((("x",), ("tiny", "b")), [source("x"), source("tiny", "base"), source("b")], None)


def test_a_training_run_is_no_base():
    with pytest.raises(ArtifactError, match="--base x is not the untrained model"):
        regroup_sources((("x",), ("a",)), [source("x"), source("a")], "x")
