"""What is decided by rule never reaches a judge, and every exchange gets one verdict, group by group."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_cli.errors import UsageError
from moe_cli.judges import degenerate
from moe_cli.judges.deciding import judge_in_groups, verdicts_of
from moe_cli.judges.judge import revision_of
from tests.judges.exchanges import PROSE, EchoJudge, exchange


@pytest.mark.parametrize("answer", ["", "!!!!!!!!!!", "the " * 30, "I can't help. " * 20, "<think>hm</think>"])
@pytest.mark.parametrize("kind", ["harmful", "benign"])
def test_a_degenerate_answer_is_neither_safe_nor_unsafe_and_is_shown_to_no_judge(answer, kind):
    judge = EchoJudge()
    (found,) = verdicts_of(judge, [exchange(answer, kind=kind)])
    assert (found.label, found.harmful, judge.calls) == ("degenerate", None, 0)


def test_reasoning_is_not_shown():
    judge = EchoJudge()
    verdicts_of(judge, [exchange("<think>I must refuse.</think>Sure: blue."), exchange("Sure.</think>I can't.")])
    assert judge.seen == ["Sure: blue.", "I can't."]


def test_an_answer_whose_reasoning_never_ended_is_unscored_and_shown_to_no_judge():
    judge = EchoJudge()
    (found,) = verdicts_of(judge, [exchange("<think>I can't help with that.")])
    assert (found.label, found.harmful, found.reason, judge.calls) == (None, None, "reasoning never ended", 0)


def test_a_judge_of_harm_alone_is_not_asked_about_harmless_items():
    judge = EchoJudge(questions=("harm",))
    found = verdicts_of(judge, [exchange(kind="benign"), exchange(kind="harmful")])
    assert [one.reason for one in found] == ["harm is not asked of a harmless item", PROSE]
    assert judge.seen == [PROSE]


@given(st.lists(st.sampled_from(["", "<think>never", "one.", "two.", "<think>x</think>three."]), max_size=9))
def test_verdicts_keep_the_order_whatever_rules_decide(answers):
    found = verdicts_of(EchoJudge(), [exchange(answer) for answer in answers])
    alone = [verdicts_of(EchoJudge(), [exchange(answer)])[0] for answer in answers]
    assert found == alone


def test_verdicts_come_in_groups():
    judge = EchoJudge()
    exchanges = {f"item-{n}": exchange(f"word {n}.") for n in range(7)}
    groups = list(judge_in_groups(judge, exchanges))
    assert [len(group) for group in groups] == [3, 3, 1]
    assert [one.id for group in groups for one in group] == list(exchanges)
    assert [one.verdict.reason for group in groups for one in group] == [f"word {n}." for n in range(7)]
    assert judge.calls == 3


def test_what_is_done_is_not_judged_again():
    judge = EchoJudge()
    exchanges = {f"item-{n}": exchange(f"word {n}.") for n in range(4)}
    (group,) = judge_in_groups(judge, exchanges, done={"item-0", "item-2"})
    assert [one.id for one in group] == ["item-1", "item-3"]
    assert judge.seen == ["word 1.", "word 3."]


def test_a_judge_keeps_what_it_holds_for_the_next_answers_also_when_it_is_left_early():
    judge = EchoJudge()
    list(judge_in_groups(judge, {"a": exchange()}))
    groups = judge_in_groups(judge, {f"item-{n}": exchange() for n in range(9)})
    next(groups)
    groups.close()
    assert (judge.calls, judge.released) == (2, 0)


def test_a_judge_with_too_few_verdicts_is_refused():
    judge = EchoJudge()
    judge.verdicts = lambda exchanges: []
    with pytest.raises(UsageError, match="echo gave 0 verdicts on 1 answers"):
        verdicts_of(judge, [exchange()])


def test_a_revision_changes_with_every_value_and_with_the_rules_for_all(monkeypatch):
    revisions = {revision_of("a", 1), revision_of("a", 2), revision_of("b", 1), revision_of("a", (1,))}
    assert len(revisions) == 4
    before = revision_of("a", 1)
    monkeypatch.setattr(degenerate, "MIN_LOOP_UNITS", 13)
    assert revision_of("a", 1) != before
