"""Questions of lm-eval's tasks are paired where all runs answered them; else it is said why not."""

from dataclasses import replace

import pytest

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.codec import encode, encode_lines
from moe_cli.compare.compared_runs import read_sources
from moe_cli.compare.stage import compare
from moe_cli.compare.task_items import add_capability, unpaired_tasks_of
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError
from moe_cli.records import CapabilitySample, CapabilityScore
from tests.builders import answered, evaluation
from tests.compare.runs_on_disk import NO_RUNS

NUM = 30


def sample(task, number, correct, digest="d"):
    place = f"{task}/{number}"
    return CapabilitySample(
        task=task, id=place, cluster=place, digest=f"{digest}{number}", correct=correct, answer="blue"
    )


def score(task, metric="acc,none"):
    return CapabilityScore(
        task=task, version="1.0", metric=metric, num_fewshot=0, n=NUM, correct=None, score=0.5, stderr=None
    )


def questions(task, right, digest="d"):
    return [sample(task, number, number < right, digest) for number in range(NUM)]


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """Writes the evaluation of a model called `name`, found by that name."""
    monkeypatch.chdir(tmp_path)

    def write(name, samples, scores=None, *, expected="x"):
        directory = tmp_path / layout.EVALUATIONS / name / "default"
        items = [
            answered(f"benign/{n}", "compliance", kind="benign", suite="benign", expected=expected) for n in range(5)
        ]
        summary = evaluation(capability=tuple(scores or [score(task) for task in {one.task: 0 for one in samples}]))
        summary = replace(summary, model=replace(summary.model, name=name))
        with open_run(directory, "evaluation", MoeConfig(), resume=False) as writer:
            write_atomic(directory / layout.RECORDS, encode_lines(items))
            write_atomic(directory / layout.EVALUATION_SUMMARY, encode(summary))
            if samples:
                write_atomic(directory / layout.CAPABILITY, encode_lines(samples))
            Store(tmp_path / "registry").add(writer, base_fingerprint=None, model_name=name, device="cpu")
        return name

    return write


def differences(*words):
    sources = add_capability(read_sources(words, None, NO_RUNS))
    return {one.metric: one for one in compare([[source] for source in sources], 0.02).pairs[0].differences}, sources


def test_a_task_that_all_runs_measured_is_compared_question_by_question(evaluated):
    found, sources = differences(
        evaluated("a", questions("arc_easy", 20)),
        evaluated("b", questions("arc_easy", 12)),
        evaluated("c", questions("arc_easy", 1)),
    )
    arc = found["accuracy: arc_easy"]
    assert (arc.n, arc.only_a, arc.only_b) == (NUM, 8, 0)
    assert (arc.rate_a, arc.rate_b) == (20 / NUM, 12 / NUM)
    assert unpaired_tasks_of(sources) == ()


def test_accuracy_over_all_pools_expected_answers_and_the_questions_of_every_task(evaluated):
    found, _ = differences(
        evaluated("a", [*questions("arc_easy", 20), *questions("boolq", 5)]),
        evaluated("b", [*questions("arc_easy", 12), *questions("boolq", 5)]),
    )
    assert found["accuracy"].n == 5 + 2 * NUM
    assert found["accuracy"].primary
    assert not found["accuracy: boolq"].primary
    assert {"accuracy: arc_easy", "accuracy: boolq", "accuracy: benign"} <= set(found)


def test_a_task_that_a_run_has_not_measured_is_left_out_and_named(evaluated):
    found, sources = differences(evaluated("a", questions("arc_easy", 20)), evaluated("b", []))
    assert "accuracy: arc_easy" not in found
    assert found["accuracy"].n == 5
    assert unpaired_tasks_of(sources) == ("arc_easy is not compared: it was not measured for b.",)


def test_other_questions_under_the_same_name_are_refused(evaluated):
    words = evaluated("a", questions("arc_easy", 20)), evaluated("b", questions("arc_easy", 20, digest="other"))
    with pytest.raises(ArtifactError, match="30 of the 35 common ids hold another item"):
        differences(*words)


def test_a_task_that_is_measured_by_another_metric_is_left_out_and_named(evaluated):
    found, sources = differences(
        evaluated("a", questions("gsm8k", 20), [score("gsm8k", "exact_match,strict-match")]),
        evaluated("b", questions("gsm8k", 20), [score("gsm8k", "exact_match,flexible-extract")]),
    )
    assert "accuracy: gsm8k" not in found
    (said,) = unpaired_tasks_of(sources)
    assert "measured by exact_match,flexible-extract and by exact_match,strict-match" in said


def test_a_score_that_is_no_yes_or_no_is_named_and_a_group_is_not_as_its_tasks_are_compared(evaluated):
    graded = [sample("summaries", number, None) for number in range(NUM)]
    scores = [score("summaries", "rouge1,none"), score("group"), score("arc_easy")]
    found, sources = differences(
        evaluated("a", [*graded, *questions("arc_easy", 3)], scores),
        evaluated("b", [*graded, *questions("arc_easy", 3)], scores),
    )
    assert "accuracy: arc_easy" in found
    assert "accuracy: summaries" not in found
    (said,) = unpaired_tasks_of(sources)
    assert said == "summaries is not compared: rouge1,none is no yes or no for every question."


def test_questions_that_two_groups_share_count_once(evaluated):
    twice = [*questions("arc_easy", 20), *questions("arc_easy", 20)]
    found, _ = differences(evaluated("a", twice), evaluated("b", twice))
    assert found["accuracy: arc_easy"].n == NUM
