"""lm-eval's document as records: one metric, one filter, and outcomes only where all are yes or no."""

import pytest

from moe_cli.evaluate.capability_scores import chosen_metric, scores_of


def line(doc, values, *, filter="none", asked="2 + 2 ="):
    return {
        "doc_id": doc,
        "doc": {"question": asked},
        "target": "4",
        "arguments": [[asked, {"until": ["\n"]}]],
        "filtered_resps": ["4"],
        "filter": filter,
        **values,
    }


def document(metrics, results, lines):
    return {
        "results": {"sums": {"name": "sums", "alias": "sums", "sample_len": len(lines), **results}},
        "samples": {"sums": lines},
        "configs": {"sums": {"output_type": "generate_until", "metric_list": [{"metric": name} for name in metrics]}},
        "versions": {"sums": 3},
        "n-shot": {"sums": 5},
        "group_subtasks": {},
    }


@pytest.mark.parametrize(
    ("metrics", "keys", "chosen"),
    [
        (["acc", "acc_norm"], ["acc,none", "acc_norm,none"], "acc,none"),
        (["acc_norm", "acc"], ["acc_norm,none", "acc,none"], "acc,none"),
        (["f1", "exact_match"], ["f1,none", "exact_match,none"], "exact_match,none"),
        (["exact_match"], ["exact_match,strict-match", "exact_match,flexible-extract"], "exact_match,strict-match"),
        (["bleu_max", "rouge1_max"], ["rouge1_max,none", "bleu_max,none"], "bleu_max,none"),
    ],
)
def test_the_metric_is_exact_match_or_acc_else_the_first_listed_through_the_first_filter(metrics, keys, chosen):
    results = {part: 0.5 for key in keys for part in (key, key.replace(",", "_stderr,"))}
    assert chosen_metric(document(metrics, results, []), "sums") == chosen


def test_the_outcomes_are_those_of_the_chosen_filter():
    strict = [line(n, {"exact_match": float(n == 0)}, filter="strict-match") for n in range(4)]
    loose = [line(n, {"exact_match": 1.0}, filter="flexible-extract") for n in range(4)]
    both = {"exact_match,strict-match": 0.25, "exact_match,flexible-extract": 1.0}
    (score,), samples = scores_of(document(["exact_match"], both, [*loose, *strict]))
    assert [sample.correct for sample in samples] == [True, False, False, False]
    assert (score.correct.k, score.correct.n, score.num_fewshot, score.version) == (1, 4, 5, "3")
    assert score.stderr == pytest.approx(0.25)  # 1 of 4: s = sqrt(0.75 * 0.25 * 4 / 3) = 0.5; 0.5 / sqrt(4)


def test_a_graded_metric_keeps_its_score_and_has_no_outcomes():
    lines = [line(n, {"rouge1": value}) for n, value in enumerate([0.0, 1.0, 0.5])]
    (score,), samples = scores_of(document(["rouge1"], {"rouge1,none": 0.5}, lines))
    assert [sample.correct for sample in samples] == [None] * 3
    assert (score.correct, score.score, score.n) == (None, 0.5, 3)
    assert score.stderr == pytest.approx(0.5 / 3**0.5)


def test_a_score_that_is_no_share_of_its_outcomes_has_no_rate():
    lines = [line(n, {"acc": 1.0}) for n in range(3)]
    (score,), _ = scores_of(document(["acc"], {"acc,none": 0.4}, lines))
    assert (score.correct, score.stderr) == (None, None)


def test_other_words_before_a_question_make_it_another_question():
    def digests(asked):
        _, samples = scores_of(document(["acc"], {"acc,none": 1.0}, [line(0, {"acc": 1.0}, asked=asked)]))
        return [sample.digest for sample in samples]

    assert digests("2 + 2 =") == digests("2 + 2 =") != digests("1 + 1 = 2\n\n2 + 2 =")
