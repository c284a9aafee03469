"""What the registry knows of and nobody shows is counted in the conclusion, by its kind and its seeds."""

import pytest

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.compare import stage
from moe_cli.compare.arms import copied_outcomes
from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.compare.conclusion import describe_unshown_runs, find_unshown_runs
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError
from moe_cli.records.comparison import Unshown
from tests.builders import column, evaluation, identity, training
from tests.compare.outcome_files import imported, written


@pytest.fixture
def registered(tmp_path):
    """`registered(name, kind, seed=1, **parents)`: the digest of a run in the registry, and the registry."""
    store = Store(tmp_path / "registry")

    def run(name, kind, *, seed=1, base=None, **parents):
        config = MoeConfig().model_copy(update={"seed": seed})
        with open_run(tmp_path / name, kind, config, resume=False) as writer:
            write_atomic(tmp_path / name / layout.METADATA, name.encode())
            writer.parents |= parents
            return store.add(writer, base_fingerprint=base, model_name="tiny", device="cpu").manifest_digest

    return run, store


def trained(name, digest, prepared, evaluated="none"):
    return ComparedRun(
        column=column(name),
        training=training(prepared=prepared),
        records=None,
        items=None,
        digests={"run": digest, "evaluation": evaluated},
    )


def test_other_evaluations_and_runs_are_counted_with_their_seeds(registered):
    run, store = registered
    prepared = run("prepared", "prepare")
    selected = run("selected", "prepare", prepare=prepared)
    runs = [run(f"sel_{seed}", "selective", seed=seed, prepare=prepared) for seed in range(1, 6)]
    run("other", "baseline", seed=9, prepare=selected)
    run("elsewhere", "selective", prepare=run("prepared_2", "prepare"))
    evaluations = [run(f"evaluation_{place}", "evaluation", run=runs[0]) for place in range(4)]
    run("of_another", "evaluation", run=runs[1])
    found = find_unshown_runs([trained("sel_1", runs[0], prepared, evaluations[0])], store)
    assert found == Unshown(evaluations=3, runs=5, seeds=(2, 3, 4, 5, 9))
    assert list(describe_unshown_runs(found)) == [
        "3 other evaluations of these weights and 5 other trained runs of this preparation (seeds 2-5 and 9) are not"
        " shown: where the best of several is shown, it looks better than it is."
    ]


def test_evaluations_of_a_bare_model_are_known_by_its_weights(registered):
    run, store = registered
    evaluations = [run(f"evaluation_{place}", "evaluation", base="a" * 64) for place in range(2)]
    run("other", "evaluation", base="b" * 64)
    shown = column("tiny", "base", evaluation=evaluation(model=identity(fingerprint="a" * 64)))
    source = ComparedRun(column=shown, training=None, records=None, items=None, digests={"evaluation": evaluations[0]})
    found = find_unshown_runs([source], store)
    assert (found.evaluations, found.runs) == (1, 0)
    assert next(describe_unshown_runs(found)).startswith("1 other evaluation of these weights is not shown")


def test_nothing_is_said_where_all_is_shown():
    assert (
        list(describe_unshown_runs(Unshown(evaluations=0, runs=0, seeds=()))) == list(describe_unshown_runs(None)) == []
    )


def table(tmp_path, **marks):
    rows = [["item", *marks], *([str(place), *row] for place, row in enumerate(zip(*marks.values(), strict=True)))]
    return written(tmp_path / "x.csv", rows)


@pytest.mark.parametrize(("changed", "named"), [(1, True), (2, False)])
def test_imported_columns_of_one_arm_that_hardly_differ_are_named(tmp_path, changed, named):
    first = "01" * 100
    second = "1" * changed + first[changed:] if changed == 1 else "10" + first[2:]
    path = table(tmp_path, full="1" * 200, s_1=first, s_2=second)
    said = " ".join(imported(path, words=("s_1", "s_2"), against=("full",)).conclusion)
    assert ("Warning: s_1 and s_2 differ in 1 of 200 items (0.5 %)" in said) == named


def test_an_imported_column_in_both_arms_is_refused(tmp_path):
    path = table(tmp_path, full="01" * 50, selective="11" * 50)
    with pytest.raises(ArtifactError, match=r"selective of .* stands in two arms"):
        stage.run(
            [str(path), "selective"], MoeConfig(), Store(tmp_path / "registry"), lambda _: None, against=["selective"]
        )


def test_imported_columns_of_two_arms_that_are_equal_are_named(tmp_path):
    path = table(tmp_path, full="01" * 50, selective="01" * 50)
    said = " ".join(imported(path).conclusion)
    assert "full and selective have the same outcome for each of 100 items: they may be one run." in said
    assert "Attack success of selective and full was not measured" in said


def test_runs_of_moe_are_no_copied_outcomes():
    source = ComparedRun(column=column("a"), training=None, records=None, items={}, digests={})
    assert copied_outcomes([[source], [source]]) == ()
