"""A comparison on a terminal and as Markdown: nothing foreign breaks a line, a table or the terminal."""

import re
import unicodedata
from dataclasses import replace

import pytest
from rich.cells import cell_len

from moe_cli.records import ComparedArm, Comparison, CountRatio, Flip, FlipText, Rate, RestoredRouter, ThresholdCheck
from moe_cli.views.compared import compared_markdown, compared_view
from moe_cli.views.compared_columns import side_by_side
from moe_cli.views.console import stdout_console
from tests.builders import CLASSIFIER, KEYWORDS, arms_of, column, difference, evaluation, imported, pair
from tests.builders import comparison as of_columns
from tests.compare.scenarios import seeds

HOSTILE = {
    "escapes": "\x1b[2J\x1b]0;x\x07\x9b31m",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "link": "[click](javascript:alert(1)) https://x.example www.x.example",
    "table": "a | b || c\n| --- |",
    "heading": "\n# New\n```\ncode",
    "reading order": "\u202eabc\u2066",
    "emphasis": "**bold** _it_ ~~no~~ `x` $x$",
    "backslash": "x\\| y \\",
    "long": "x" * 300,
}
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def flip(item="attacked/1", **changes):
    values = {"metric": "attack success", "suite": "attacked", "direction": "worse", "share_a": 0.0, "share_b": 1.0}
    return Flip(item=item, **(values | changes))


def comparison(text="selective", **changes):
    columns = (column("baseline"), column(text, path=text))
    differences = (
        difference("attack success", "better", 0.45, 0.12),
        difference("over-refusal", "inconclusive", 0.02, 0.05, unpaired=3, lowest=-0.2, highest=0.3),
        difference(f"attack success: {text}", "worse", 0.1, 0.2, primary=False),
    )
    found = replace(pair(*differences, b=text), flips=(flip(text, suite=text), flip("x", direction="better")))
    check = ThresholdCheck(
        expression=f"asr[{text}]>0.1",
        metric="attack success",
        subject=text,
        evidence="possibly",
        value=0.2,
        lower=None,
        upper=None,
        n=7,
        failed=True,
    )
    values = {
        "columns": columns,
        "arms": arms_of(columns),
        "fairness": (),
        "pairs": (found,),
        "margin": 0.02,
        "confidence": 0.95,
        "thresholds": (check,),
        "conclusion": (f"{text} is safer.",),
    }
    return Comparison(**(values | changes))


@pytest.fixture
def draw(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")

    def run(renderable):
        stdout_console().print(renderable)
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_the_words_behind_a_flip_reach_the_terminal_harmless(draw, text):
    words = FlipText(pair=text, flip=flip(text), prompt=text, answer_a=text, answer_b=None)
    out = draw(compared_view(comparison(text), [words]))
    assert max(map(cell_len, out.split("\n"))) <= 80
    assert not [c for c in out if c != "\n" and unicodedata.category(c) in UNSAFE]
    assert "  after: -" in out


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_foreign_text_stays_text_in_markdown(text):
    page = compared_markdown(comparison(text))
    assert not [c for c in page if c != "\n" and unicodedata.category(c) in UNSAFE]
    assert not re.search(r"(?<!\\)(\\\\)*[<`*_~$]", page.replace("\n| --- |", ""))
    assert not re.search(r"https?:|www\.|(?<!\\)\]\(", page)
    plain = compared_markdown(comparison())
    assert [line[:2] for line in page.splitlines() if line.startswith("#")] == [
        line[:2] for line in plain.splitlines() if line.startswith("#")
    ]
    assert list(map(cells, page.splitlines())) == list(map(cells, plain.splitlines()))


def cells(line):
    """How many cells a line of a table has: bars without a backslash before them."""
    return len(re.findall(r"(?<!\\)(?:\\\\)*\|", line))


def test_what_is_exploratory_stands_below_a_line_that_says_so(draw):
    lines = [line.strip() for line in draw(compared_view(comparison())).splitlines()]
    line = lines.index("exploratory")
    assert any(text.startswith("over-refusal") for text in lines[:line])
    assert lines[line + 1] == "attack success" and lines[line + 2].startswith("selective")
    section = compared_markdown(comparison()).partition("## selective (B)")[2].partition("###")[0]
    names = [row.split(" | ")[0] for row in section.splitlines() if row.startswith("| ")]
    assert names == [
        *("| measure", "| ---", "| attack success", "| over-refusal", "| exploratory", "| attack success: selective")
    ]


def test_items_without_a_score_are_counted_with_what_they_could_change(draw):
    said = " ".join(draw(compared_view(comparison())).split())
    assert "over-refusal: 3 items left out; counted either way, the difference is between -20.0 and +30.0" in said
    page = compared_markdown(comparison())
    assert "| -20.0 to +30.0 |" in page and "either way" in page
    of_all = (pair(difference("attack success", "better", 0.45, 0.12)),)
    assert "either way" not in compared_markdown(comparison(pairs=of_all))


def test_an_inconclusive_verdict_says_what_would_be_found(draw):
    assert "(10)" in draw(compared_view(comparison()))
    assert "| inconclusive (10) |" in compared_markdown(comparison())


RATIOS = (
    CountRatio(value=38.0, lower=5.0, upper=280.0),
    CountRatio(value=0.02, lower=0.01, upper=0.2),
    CountRatio(value=1.0, lower=0.1, upper=16.0),
)


@pytest.mark.parametrize(("ratio", "shown"), list(zip(RATIOS, ("x38", "x50", "x?"), strict=True)))
def test_rare_harm_within_the_margin_has_its_ratio_in_the_tables(draw, ratio, shown):
    found = comparison(pairs=(pair(difference("attack success", "within margin", 0.0, 0.01, ratio=ratio)),))
    assert shown in draw(compared_view(found)) and f"| within margin, {shown} |" in compared_markdown(found)


def test_the_confidence_of_the_record_is_the_one_in_the_head(draw):
    found = comparison(confidence=0.9)
    assert "B - A [90 %]" in draw(compared_view(found))
    assert r"| B − A, points \[90 %\] |" in compared_markdown(found)


def test_outcomes_that_were_made_elsewhere_have_one_measure_and_no_cost(draw):
    columns = (imported("full", unanswered=77, rate=0.07), imported("selective"))
    found = comparison(columns=columns, arms=arms_of(columns), pairs=(), thresholds=())
    out = draw(compared_view(found))
    assert "7.0 % (100 items, 77 of them unanswered)" in out
    assert "trainable" not in out and "over-refusal" not in out


def test_rates_of_several_runs_have_the_count_of_each_and_a_pointer_to_the_interval(draw):
    scored = [
        Rate(k=k, n=40, unscored=0, rate=k / 40, lower=0.0, upper=1.0, lowest=k / 40, highest=k / 40) for k in (4, 6)
    ]
    columns = tuple(
        column(f"sel_{k}", evaluation=evaluation(attack_success=rate)) for k, rate in enumerate(scored, start=1)
    )
    found = comparison(columns=columns, arms=(ComparedArm(name="sel", runs=("sel_1", "sel_2")),), pairs=())
    for said in (draw(compared_view(found)), compared_markdown(found)):
        assert "12.5 % (4/40, 6/40)" in said
        assert "the count of each run; the interval of a difference" in " ".join(said.split())


def test_imported_rates_of_several_runs_count_unanswered_questions_as_wrong_and_leave_unscored_attacks_out(draw):
    for metric, counts in (("accuracy", "7/100"), ("attack success", "7/23")):
        columns = tuple(
            imported(name, metric=metric, unanswered=77, lowest=0.07, highest=0.84) for name in ("s_1", "s_2")
        )
        found = comparison(columns=columns, arms=(ComparedArm(name="s", runs=("s_1", "s_2")),), pairs=())
        assert f"({counts}, {counts})" in draw(compared_view(found))


def test_the_overlap_with_the_training_goals_says_what_was_not_looked_for(draw):
    columns = (column("base", "base"), column("selective", goals_trained_on=(0, 60)))
    page = compared_markdown(comparison(columns=columns, arms=arms_of(columns), pairs=()))
    assert "| goals trained on | - | 0 of 60 by words; paraphrases are not looked for |" in page
    unknown = (column("base", "base"), column("selective"))
    assert "goals trained on |" not in compared_markdown(comparison(columns=unknown, arms=arms_of(unknown), pairs=()))


def test_the_final_model_has_its_step_and_held_out_loss_beside_the_loss_of_the_training(draw):
    columns = (column("baseline"), column("selective", final_step=36, held_out_loss=1.93, delta_bytes=300_000))
    found = comparison(columns=columns, arms=arms_of(columns), pairs=())
    rows = {
        line.split("│")[1].strip(): line.split("│")[2:4]
        for line in draw(compared_view(found)).splitlines()
        if "│" in line
    }
    shown = {title: [cell.strip() for cell in cells] for title, cells in rows.items()}
    assert shown["final model"] == ["step 54 of 54", "step 36 of 54"]
    assert shown["held-out loss"] == ["-", "1.9300"]
    assert shown["last epoch's loss"] == ["0.1000 (training)"] * 2
    assert shown["expert_delta"] == ["-", "300.0 kB"]
    assert "| final model | step 54 of 54 | step 36 of 54 |" in compared_markdown(found)


def test_a_p_of_several_runs_is_below_0_001_in_both_forms_and_whole_in_the_record(draw):
    several = difference("accuracy", "better", 0.1, 0.4, p_mcnemar=None, p_value=8e-14, p_adjusted=8e-14, seeds=seeds())
    found = comparison(pairs=(pair(several),))
    assert "<0.001" in draw(compared_view(found)) and "8e-14" not in draw(compared_view(found))
    assert r"| \<0.001 | \<0.001 |" in compared_markdown(found)
    assert found.pairs[0].differences[0].p_adjusted == 8e-14


def test_the_lowest_and_highest_run_of_each_arm_stand_below_the_differences(draw):
    found = comparison(pairs=(pair(difference("accuracy", "better", 0.1, 0.4, p_adjusted=0.004, seeds=seeds(2, 2))),))
    line = "accuracy, runs from lowest to highest: baseline 10.0 to 30.0 %, selective 10.0 to 30.0 %"
    assert line in " ".join(draw(compared_view(found)).split()) and line in compared_markdown(found)
    assert "p of exchanging runs 1, at least 0.33" in " ".join(draw(compared_view(found)).split())
    assert "<0.33" in draw(compared_view(found))


def test_items_that_share_goals_stand_with_both_counts_and_those_that_do_not_with_one(draw):
    shared = difference("attack success", "better", 0.4, 0.1, n=12800, clusters=1200)
    alone = difference("accuracy", "better", 0.4, 0.1, n=300, clusters=300)
    found = comparison(pairs=(pair(shared, alone),))
    lines = draw(compared_view(found)).splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("attack success  12800"))
    assert lines[place + 1].split() == ["(1200)"]
    assert lines[place + 2].startswith("accuracy") and "(" not in lines[place + 2].split("[")[0]
    assert "in brackets their worth in goals of one size" in " ".join(" ".join(lines).split())
    page = compared_markdown(found)
    uneven = replace(shared, effective_clusters=32.34)
    assert "| attack success | 12800 (32.3) |" in compared_markdown(comparison(pairs=(pair(uneven),)))
    assert "| attack success | 12800 (1200) |" in page and "| accuracy | 300 |" in page


def test_the_exact_p_says_what_it_takes_for_granted(draw):
    said = " ".join(draw(compared_view(comparison())).split())
    assert "exact McNemar p, if answers were independent: attack success 0.001" in said
    assert "| exact McNemar p, if answers were independent |" in compared_markdown(comparison())


def test_the_base_has_a_column_only_where_it_is_neither_of_the_two(draw):
    runs = (column("tiny", "base"), column("baseline"), column("selective"))
    one = difference("accuracy", "better", 0.4, 0.1)
    pairs = (pair(one, a="tiny", b="selective"), pair(one, a="baseline", b="selective"))
    found = comparison(columns=runs, arms=arms_of(runs), pairs=pairs)
    heads = [line.split()[:3] for line in draw(compared_view(found)).splitlines() if line.startswith("measure  ")]
    assert heads[0] == ["measure", "n", "A"] and ["measure", "n", "base"] in heads
    assert len(re.findall(r"\| n \(goals\) \| base, % \|", compared_markdown(found))) == 1


def test_a_pair_without_a_base_is_as_wide_as_the_terminal_at_most_with_every_number_whole(draw):
    runs = (column("tiny", "base"), column("baseline"), column("selective"))
    wide = difference("accuracy", "inconclusive", 1.0, 0.0, n=12800, clusters=1200, difference=-0.58, lower=-0.63)
    pairs = (pair(wide, a="tiny", b="selective"), pair(wide, a="baseline", b="selective"))
    out = draw(compared_view(comparison(columns=runs, arms=arms_of(runs), pairs=pairs)))
    lines = [line for line in out.splitlines() if line.startswith("accuracy")]
    assert [line.split()[1:] for line in lines] == [
        [*("12800", *base, "100.0", "0.0", "-58.0", "[-63.0,"), lines[0].split()[6], "0.003", "inconclusive"]
        for base in ((), ("100.0",))
    ]


def test_every_judge_stands_once_with_the_runs_that_it_decides_in(draw):
    first, second = (
        column("baseline", evaluation=evaluation(judges=(KEYWORDS,))),
        column("selective", evaluation=evaluation(judges=(KEYWORDS, CLASSIFIER))),
    )
    found = comparison(columns=(first, second), arms=arms_of((first, second)), pairs=())
    said = " ".join(draw(compared_view(found)).split())
    assert "judge: keywords, decides harm and refusal (in baseline); nothing here (in selective)" in said
    assert "judge: classifier (somebody/classifier), decides harm and refusal (in selective)" in said
    assert said.count("judge: ") == 2
    page = compared_markdown(found)
    assert "| keywords | harm and refusal (in baseline); nothing here (in selective) |" in page


def test_a_judge_of_another_revision_is_another_judge(draw):
    runs = tuple(
        column(name, evaluation=evaluation(judges=(replace(CLASSIFIER, revision=letter * 64),)))
        for name, letter in (("baseline", "1"), ("selective", "2"))
    )
    said = " ".join(draw(compared_view(comparison(columns=runs, arms=arms_of(runs), pairs=()))).split())
    assert "decides harm and refusal (in baseline) judge:" in said and "refusal (in selective)" in said


def test_what_has_no_verdict_is_counted_for_every_run(draw):
    runs = (
        column("baseline", evaluation=evaluation(unscored={"harmful": (92, 800), "benign": (0, 400)})),
        column("selective", evaluation=evaluation(unscored={"harmful": (0, 800), "benign": (0, 400)})),
    )
    found = comparison(columns=runs, arms=arms_of(runs), pairs=())
    said = " ".join(draw(compared_view(found)).split())
    assert "no verdict in baseline: 92 of 800 harmful, 0 of 400 benign (more than the allowed 2.0 %)" in said
    assert "no verdict in selective" not in said
    page = compared_markdown(found)
    assert "| baseline | 92 / 800 | 0 / 400 | 2.0 % | more than allowed |" in page
    assert "| selective | 0 / 800 | 0 / 400 | 2.0 % | within |" in page


def test_each_column_says_which_evaluation_it_shows_and_how_often_an_item_was_answered(draw):
    runs = (
        column("baseline", evaluation=evaluation(name="default", epochs=1)),
        column("selective", evaluation=evaluation(name="second", epochs=4)),
    )
    page = compared_markdown(comparison(columns=runs, arms=arms_of(runs), pairs=()))
    assert "| evaluation | default | second |" in page and "| answers per item | 1 | 4 |" in page
    once = compared_markdown(comparison(columns=runs[:1], arms=arms_of(runs[:1]), pairs=()))
    assert "answers per item" not in once


def test_a_restored_router_has_its_counts_and_the_goals_that_changed(draw):
    rate = Rate(k=30, n=200, unscored=0, rate=0.15, lower=0.1, upper=0.2, lowest=0.15, highest=0.15)
    restored = RestoredRouter(
        changed_params=64,
        attack_success=rate,
        attack_success_tuned=rate,
        n=190,
        only_tuned=2,
        only_restored=8,
        clusters_tuned=1,
        clusters_restored=7,
    )
    runs = (
        column("baseline", evaluation=evaluation(restored_router=restored)),
        column("selective", evaluation=evaluation(restored_router=replace(restored, changed_params=0))),
    )
    page = compared_markdown(comparison(columns=runs, arms=arms_of(runs), pairs=()))
    assert r"| ASR, base router | 15.0 % (30/200) \[10.0, 20.0\] | router unchanged |" in page
    assert "| goals more, fewer | 7, 1 (n 190) | - |" in page


def test_nothing_that_flipped_is_said_to_be_nothing(draw):
    quiet = comparison(pairs=(pair(difference("accuracy", "within margin", 0.5, 0.5)),))
    assert "no item flipped" in draw(compared_view(quiet))
    assert "no item flipped." in compared_markdown(quiet)


def test_a_run_that_was_not_evaluated_has_no_rates(draw):
    columns = (column("baseline", evaluation=evaluation()), column("selective", evaluation=None))
    out = draw(compared_view(comparison(columns=columns, arms=arms_of(columns), pairs=())))
    line = next(line for line in out.splitlines() if "over-refusal" in line)
    assert line.split("│")[3].strip() == "-"


def test_how_experts_were_selected_stands_in_the_table_where_it_differs(draw):
    columns = [column("a", selection="risk_diff"), column("b", selection="random"), column("c", masking="none")]
    shown = side_by_side(of_columns(columns[:2]))
    assert ("  selection", "risk_diff", "random") in [row.cells for row in shown.rows]
    masked = side_by_side(of_columns([columns[0], columns[2]]))
    assert ("  selection", "risk_diff", "masking none") in [row.cells for row in masked.rows]
    assert "  selection" not in [row.cells[0] for row in side_by_side(of_columns([columns[0], columns[0]])).rows]
