"""An evaluation on a terminal: who judged, how far they agree, what moved, and what was not measured."""

from dataclasses import replace
from io import StringIO

from rich.console import Console

from moe_cli.records import (
    Agreement,
    CapabilityScore,
    Estimate,
    GroupDrift,
    LayerDrift,
    PromptDrift,
    PromptLayerDrift,
    Rate,
    RestoredRouter,
    RoutingDrift,
    SuiteSummary,
)
from moe_cli.views.compared import compared_view
from moe_cli.views.compared_columns import side_by_side
from moe_cli.views.evaluated import evaluated_view
from tests.builders import CLASSIFIER, KEYWORDS, column, evaluation
from tests.builders import comparison as of_columns
from tests.compare.test_compared_views import comparison

HALF = Rate(k=5, n=10, unscored=0, rate=0.5, lower=0.2, upper=0.8, lowest=0.5, highest=0.5)
AGREED = Agreement(
    question="harm",
    a="classifier",
    b="keywords",
    n=20,
    both_yes=8,
    only_a=1,
    only_b=2,
    both_no=9,
    agreement=0.85,
    kappa=0.7,
    lower=0.4,
    upper=0.9,
)


UNCHANGED = RestoredRouter(
    changed_params=0,
    attack_success=None,
    attack_success_tuned=None,
    n=0,
    only_tuned=0,
    only_restored=0,
    clusters_tuned=0,
    clusters_restored=0,
)


def estimate(value):
    return Estimate(value=value, lower=value / 2, upper=2 * value, n=30)


def layer(number, js):
    return LayerDrift(
        layer=number,
        kl=estimate(js),
        js=estimate(js),
        overlap=estimate(0.4),
        on_selected_base=0.1,
        on_selected_tuned=0.2,
        entropy_base=0.9,
        entropy_tuned=0.8,
    )


def routing(*layers):
    return RoutingDrift(
        layers=layers,
        js=estimate(0.002),
        overlap=estimate(0.4),
        on_selected_base=0.1,
        on_selected_tuned=0.2,
        num_selected=3,
        num_tokens=500,
        is_unbiased=True,
    )


def at_prompts(*kl, unread=None):
    known = [value for value in kl if value is not None]
    layers = (PromptLayerDrift(layer=n, kl=None if value is None else estimate(value)) for n, value in enumerate(kl))
    mean = estimate(sum(known) / len(known)) if known else None
    return PromptDrift(layers=tuple(layers), kl=mean, num_prompts=40, unread=unread)


def group(name, num_changed, relative_l2):
    return GroupDrift(group=name, num_params=1000, num_changed=num_changed, relative_l2=relative_l2, largest=0.1)


def shown(view, width=80):
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(view)
    return console.file.getvalue()


def test_every_judge_says_what_it_decides_and_what_it_is():
    text = " ".join(shown(evaluated_view(evaluation(judges=(KEYWORDS, CLASSIFIER)))).split())
    assert "judge: classifier (somebody/classifier), decides harm and refusal" in text
    assert (
        "judge: keywords, decides nothing here, as published right in 0.80 to 0.88 of cases against human labels, but"
        " agreeing with a GPT-4 judge in 0.55 (kappa 0.17) of 519 answers to attacks; a smoke" in text
    )


def test_judges_that_tell_different_things_each_decide_theirs():
    harm = replace(CLASSIFIER, name="harm only", questions=("harm",))
    text = " ".join(shown(evaluated_view(evaluation(judges=(KEYWORDS, harm)))).split())
    assert "judge: keywords, decides refusal" in text
    assert "judge: harm only (somebody/classifier), decides harm" in text


def test_agreement_has_its_n_and_interval_and_no_number_where_kappa_is_undefined():
    undefined = replace(AGREED, question="refusal", kappa=None, lower=None, upper=None)
    counted = {"harmful": (0, 24), "benign": (0, 10)}
    rows = shown(evaluated_view(evaluation(agreement=(AGREED, undefined), unscored=counted))).splitlines()
    assert [cell.strip() for cell in next(row for row in rows if "harm " in row).split("│")][1:-1] == [
        *("harm", "classifier, keywords", "85.0 %", "0.70 [0.40, 0.90]", "20 of 24")
    ]
    of_refusals = next(row for row in rows if "│ refusal" in row)
    assert [cell.strip() for cell in of_refusals.split("│")][-3:-1] == ["-", "20 of 34"]


def coloured(view):
    console = Console(file=StringIO(), width=80, color_system="standard", force_terminal=True, no_color=False)
    console.print(view)
    return console.file.getvalue()


def test_a_second_judge_without_a_verdict_stands_with_none_of_all_answers_and_is_marked():
    silent = replace(AGREED, n=0, agreement=None, kappa=None, lower=None, upper=None)
    view = evaluated_view(evaluation(agreement=(silent,), unscored={"harmful": (0, 24)}))
    assert "│ 0 of 24" in " ".join(shown(view).split())
    assert "\x1b[31m0 of 24\x1b[0m" in coloured(view)
    whole = replace(AGREED, n=24)
    assert "\x1b[31m" not in coloured(evaluated_view(evaluation(agreement=(whole,), unscored={"harmful": (0, 24)})))


def test_degenerate_answers_are_none_of_those_that_two_judges_were_asked_about():
    suite = SuiteSummary(
        suite="attacked",
        kind="harmful",
        n=24,
        attack_success=HALF,
        over_refusal=None,
        full_refusal=None,
        partial_refusal=None,
        accuracy=None,
        degenerate=replace(HALF, k=4, n=24),
        cut_off=HALF,
        mean_answer_tokens=3.0,
    )
    text = shown(evaluated_view(evaluation(agreement=(AGREED,), unscored={"harmful": (0, 24)}, suites=(suite,))))
    assert "20 of 20" in text


def test_answers_without_a_verdict_are_counted_by_kind_and_marked_where_they_are_too_many():
    counts = {"harmful": (92, 800), "benign": (0, 400)}
    few = evaluated_view(evaluation(unscored=counts, max_unscored=0.2))
    assert "no verdict: 92 of 800 harmful, 0 of 400 benign (allowed 20.0 %)" in shown(few)
    assert "\x1b[31m" not in coloured(few)
    many = evaluated_view(evaluation(unscored=counts))
    assert "\x1b[31mno verdict: 92 of 800 harmful, 0 of 400 benign (more than the allowed 2.0 %)" in coloured(many)
    assert "no verdict" not in shown(evaluated_view(evaluation(unscored={"harmful": (0, 800)})))


def test_what_nobody_asked_for_of_a_trained_model_says_how_to_ask():
    trained = " ".join(shown(evaluated_view(evaluation(training_mode="selective_experts"))).split())
    assert (
        "capability: not measured (--capability TASK); router restoration: not measured (--restore-router)" in trained
    )
    assert "not measured" not in shown(evaluated_view(evaluation()))
    asked = evaluation(training_mode="selective_experts", restored_router=UNCHANGED)
    assert "restoration: not measured" not in shown(evaluated_view(asked))


def test_of_many_layers_those_that_moved_most_are_shown_and_the_others_counted():
    layers = [layer(number, 0.001 * (number + 1)) for number in range(20)]
    text = shown(evaluated_view(evaluation(routing_drift=routing(*layers))))
    assert "the 16 of 20 layers that moved most" in text
    numbers = [line.split("│")[1].strip() for line in text.splitlines() if "->" in line]
    assert numbers == [*(str(number) for number in range(4, 20)), "mean"]


def test_a_drift_that_counts_noise_is_said_to_and_stands_beside_no_other():
    ours = evaluation(routing_drift=routing(layer(0, 0.002)))
    earlier = evaluation(routing_drift=replace(ours.routing_drift, is_unbiased=False))
    words = "counts noise as drift: evaluated by an earlier moe"
    assert words in shown(evaluated_view(earlier)) and words not in shown(evaluated_view(ours))
    columns = [column("a", evaluation=ours), column("b", evaluation=earlier)]
    (row,) = [row.cells for row in side_by_side(of_columns(columns)).rows if "JS" in row.cells[0]]
    assert [cell.strip() for cell in row] == ["routing drift JS", "2.000e-3 nats", "-"]


def test_a_bare_model_and_missing_texts_are_no_drift_of_zero():
    assert "drift: - (a bare model has no base" in shown(evaluated_view(evaluation(base=None)))
    assert "drift on text, routing drift: - (no texts)" in shown(evaluated_view(evaluation()))


def test_the_drift_at_harmful_prompts_has_a_row_for_the_layers_that_moved_most_and_names_those_without_a_choice():
    kl = (None, *(0.001 * number for number in range(1, 19)))
    text = shown(evaluated_view(evaluation(prompt_drift=at_prompts(*kl))))
    assert "Router drift at the last token of harmful prompts (n 40 prompts)" in " ".join(text.split())
    rows = [line for line in text.splitlines() if "[" in line and "│" in line and "KL" not in line]
    numbers = [line.split("│")[1].strip() for line in rows]
    assert numbers == [*(str(number) for number in range(3, 19)), "mean"]
    assert "18.00 [9.00, 36.00]" in rows[-2]
    assert "the 16 of 18 layers that moved most" in text
    assert "layers 0: no router chooses the experts there" in text


def test_no_drift_at_harmful_prompts_says_why():
    suite = SuiteSummary(
        suite="attacked", kind="harmful", n=10, attack_success=HALF, over_refusal=None, full_refusal=None,
        partial_refusal=None, accuracy=None, degenerate=HALF, cut_off=HALF, mean_answer_tokens=None,
    )  # fmt: skip
    start = "router drift at harmful prompts: - ("
    assert f"{start}no harmful prompt)" in shown(evaluated_view(evaluation()))
    assert f"{start}not measured by the version that" in shown(evaluated_view(evaluation(suites=(suite,))))
    unread = at_prompts(None, None, unread="A has no router module")
    assert f"{start}A has no router module)" in shown(evaluated_view(evaluation(prompt_drift=unread)))
    text = shown(evaluated_view(evaluation(prompt_drift=at_prompts(None, None))))
    assert "layers 0, 1: no router chooses the experts there" in text
    assert ["│", "mean", "│", "-", "│"] in [line.split() for line in text.splitlines()]


def test_the_arms_stand_side_by_side_with_the_drift_at_harmful_prompts():
    columns = [
        column("baseline", evaluation=evaluation(prompt_drift=at_prompts(0.01, 0.03))),
        column("selective", evaluation=evaluation(prompt_drift=None)),
    ]
    text = shown(compared_view(replace(comparison(), columns=columns)), width=120)
    [row] = [line for line in text.splitlines() if "router KL, harmful" in line]
    assert [cell.strip() for cell in row.split("│")][2:4] == ["20.000e-3 nats", "-"]
    without = [column(name, evaluation=evaluation()) for name in ("baseline", "selective")]
    assert "router KL" not in shown(compared_view(replace(comparison(), columns=without)), width=120)


def test_weights_that_did_not_change_are_unchanged_in_words_beside_those_that_did():
    moved = (group("selected experts", 1000, 0.03), group("router", 0, 0.0))
    columns = [
        column("baseline", evaluation=evaluation(weight_drift=moved)),
        column("selective", evaluation=evaluation(weight_drift=(group("router", 7, 0.01),))),
    ]
    text = shown(compared_view(replace(comparison(), columns=columns)), width=120)
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if "weights:" in line}
    assert [cell.strip() for cell in rows["weights: router"].split("│")][2:4] == ["unchanged", "0.01"]
    assert [cell.strip() for cell in rows["weights: selected experts"].split("│")][2:4] == ["0.03", "-"]


def test_a_router_that_did_not_change_is_said_and_one_that_did_has_both_rates():
    same = shown(evaluated_view(evaluation(restored_router=UNCHANGED, weight_drift=())))
    assert "router unchanged, so the repair is not in the router" in same
    changed = replace(
        UNCHANGED,
        changed_params=12,
        attack_success=HALF,
        attack_success_tuned=HALF,
        n=10,
        only_restored=4,
        only_tuned=1,
        clusters_restored=3,
        clusters_tuned=2,
    )
    text = " ".join(shown(evaluated_view(evaluation(restored_router=changed))).split())
    assert "attack success 50.0 % (5/10) [20.0, 80.0], as trained 50.0 % (5/10)" in text
    assert "of the 10 answers that were scored both times, 4 succeed only with the base's router, 1 only as" in text
    assert "3 goals have more successes with the base's router, 2 as trained" in text


def test_capability_has_metric_shots_error_and_count():
    score = CapabilityScore(
        task="arc", version="1", metric="acc,none", num_fewshot=5, n=10, correct=HALF, score=0.5, stderr=0.16
    )
    text = shown(evaluated_view(evaluation(capability=(score,))))
    assert "acc,none" in text
    assert "0.5000 +- 0.1600" in text
    assert "50.0 % (5/10)" in text


def test_what_an_earlier_evaluation_had_is_said():
    assert "generate: taken from the evaluation default" in shown(
        evaluated_view(evaluation(taken={"generate": "default"}))
    )


def test_the_overlap_with_the_training_goals_is_told_with_what_was_not_looked_for():
    text = " ".join(shown(evaluated_view(evaluation(goals_trained_on=(0, 60)))).split())
    assert "0 of the 60 that are evaluated, by words; paraphrases are not looked for" in text
