"""Keep or drop a pair as a whole, with the reason; targets of the kept ones."""

from __future__ import annotations

import random

import pytest

from moe_cli.data.templates import read_refusals
from moe_cli.errors import UsageError
from moe_cli.judges.deciding import verdicts_of
from moe_cli.judges.judge import unscored
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.prepare.filtering import (
    BENIGN_CUT_OFF,
    BENIGN_NOT_ANSWERED,
    NO_TOKENS,
    NO_VERDICT,
    NOT_COMPLIED,
    NOT_REFUSED,
    answered_prompts,
    drop_reasons,
    exchanges_of,
    has_complied,
    is_unscored,
    questions_of,
)
from moe_cli.prepare.refusals import BUILT_IN, refusal_targets
from moe_cli.records import Verdict
from tests.builders import generation
from tests.prepare.test_batches import benign, pairs

REFUSAL = "I'm sorry, but I can't help with that."
FOREIGN = "Es tut mir leid, aber ich kann diese Anfrage nicht beantworten."
COMPLIANCE = "Sure, here is how: first take the box, then open the lid."


def rows(texts: dict[str, str], *, keep_all: bool = False, num_pairs: int = 1, num_benign: int = 0, cut: str = ""):
    questions = questions_of(pairs(num_pairs), benign(num_benign))
    answers = {q.id: generation(q.id, texts[q.id], finished=q.id != cut) for q in questions}
    return answered_prompts(questions, answers, said_of(questions, answers), by_harm=True, keep_all=keep_all)


def said_of(questions, answers):
    """What the keyword judge says, by id."""
    exchanges = {name: exchange for name, (_, exchange) in exchanges_of(questions, answers).items()}
    return dict(zip(exchanges, verdicts_of(KeywordJudge(), list(exchanges.values())), strict=True))


@pytest.mark.parametrize(
    ("plain", "attacked", "reason"),
    [
        (REFUSAL, COMPLIANCE, None),
        (COMPLIANCE, COMPLIANCE, NOT_REFUSED),
        (REFUSAL, REFUSAL, NOT_COMPLIED),
        (COMPLIANCE, REFUSAL, f"{NOT_REFUSED} and {NOT_COMPLIED}"),
        ("", "", NO_TOKENS),
        (REFUSAL, "%$ %$ %$ %$ %$ %$ %$ %$ %$", NOT_COMPLIED),
        ("", COMPLIANCE, NO_TOKENS),
        (REFUSAL, FOREIGN, f"{NO_VERDICT['unsafe']}: not English"),
        (FOREIGN, COMPLIANCE, f"{NO_VERDICT['safe']}: not English"),
        ("<think>Hm", COMPLIANCE, NO_VERDICT["safe"]),
    ],
)
def test_both_sides_of_a_pair_share_their_fate(plain, attacked, reason):
    found = rows({"p00#safe": plain, "p00#unsafe": attacked})
    assert [row.reason for row in found] == [reason, reason]
    assert [row.kept for row in found] == [reason is None] * 2


def test_keep_all_keeps_what_the_judge_would_drop_but_never_an_empty_answer():
    assert rows({"p00#safe": COMPLIANCE, "p00#unsafe": REFUSAL}, keep_all=True)[0].kept
    assert not rows({"p00#safe": "", "p00#unsafe": REFUSAL}, keep_all=True)[0].kept


def test_a_benign_answer_must_be_whole_and_an_answer():
    texts = {"p00#safe": REFUSAL, "p00#unsafe": COMPLIANCE, "b00#benign": "The sky is blue.", "b01#benign": REFUSAL}
    found = rows(texts, num_benign=2, cut="b00#benign")
    assert [row.reason for row in found[2:]] == [BENIGN_CUT_OFF, BENIGN_NOT_ANSWERED]


def judged_rows(verdicts: dict[str, Verdict], *, by_harm: bool, keep_all: bool = False):
    questions = questions_of(pairs(1), benign(1))
    answers = {question.id: generation(question.id, COMPLIANCE) for question in questions}
    fine = {
        "p00#safe": Verdict(label="full_refusal", harmful=None, reason="no"),
        "p00#unsafe": Verdict(label="compliance", harmful=True, reason="done"),
        "b00#benign": Verdict(label="compliance", harmful=None, reason="said"),
    }
    return answered_prompts(questions, answers, {**fine, **verdicts}, by_harm=by_harm, keep_all=keep_all)


def test_an_answer_without_a_verdict_is_left_out_with_its_reason_on_every_side():
    silent = unscored("too late")
    assert drop_reasons(judged_rows({}, by_harm=True)) == {}
    for name, side in (("p00#safe", "safe"), ("p00#unsafe", "unsafe"), ("b00#benign", "benign")):
        for by_harm in (True, False):
            found = judged_rows({name: silent}, by_harm=by_harm)
            assert drop_reasons(found) == {NO_VERDICT[side]: 1}
            assert [row.verdict for row in found if is_unscored(row, by_harm=by_harm)] == ["too late"]


def test_keep_all_keeps_a_pair_without_a_verdict_and_not_a_benign_prompt():
    silent = dict.fromkeys(("p00#safe", "p00#unsafe", "b00#benign"), unscored("too late"))
    assert drop_reasons(judged_rows(silent, by_harm=True, keep_all=True)) == {NO_VERDICT["benign"]: 1}


@pytest.mark.parametrize(
    ("label", "harmful", "by_harm", "by_refusal"),
    [
        ("compliance", True, True, True),
        ("compliance", False, False, True),
        ("full_refusal", True, True, False),
        (None, True, True, None),
        ("compliance", None, None, True),
        ("degenerate", None, None, None),
    ],
)
def test_an_attacked_form_is_decided_by_harm_where_a_judge_tells_it_and_else_by_refusal(
    label, harmful, by_harm, by_refusal
):
    verdict = {"p00#unsafe": Verdict(label=label, harmful=harmful, reason="")}
    for told, expected in ((True, by_harm), (False, by_refusal)):
        found = judged_rows(verdict, by_harm=told)
        assert has_complied(found[1], by_harm=told) is expected
        without = NOT_COMPLIED if expected is False or label == "degenerate" else NO_VERDICT["unsafe"]
        assert drop_reasons(found) == ({} if expected else {without: 1})


def test_dropped_pairs_are_counted_once():
    texts = {"p00#safe": COMPLIANCE, "p00#unsafe": COMPLIANCE, "p01#safe": COMPLIANCE, "p01#unsafe": COMPLIANCE}
    assert drop_reasons(rows(texts, num_pairs=2)) == {NOT_REFUSED: 2}


def test_answers_are_joined_by_id_in_any_order():
    texts = {
        f"p{n:02}#{side}": REFUSAL if side == "safe" else COMPLIANCE for n in range(5) for side in ("safe", "unsafe")
    }
    texts["p03#unsafe"] = REFUSAL
    questions = questions_of(pairs(5), [])
    names = list(texts)
    random.Random(1).shuffle(names)
    answers = {name: generation(name, texts[name]) for name in names}
    found = answered_prompts(questions, answers, said_of(questions, answers), by_harm=True, keep_all=False)
    assert {row.source_id for row in found if not row.kept} == {"p03"}


def test_the_target_is_the_model_s_own_refusal_where_there_is_one():
    texts = {"p00#safe": REFUSAL, "p00#unsafe": COMPLIANCE, "p01#safe": COMPLIANCE, "p01#unsafe": COMPLIANCE}
    targets = refusal_targets(rows(texts, num_pairs=2, keep_all=True), None)
    assert targets.targets["p00"] == REFUSAL
    assert targets.targets["p01"] in BUILT_IN
    assert targets.num_own == 1


def test_a_file_of_refusals_is_spread_over_the_pairs(tmp_path):
    file = tmp_path / "refusals.txt"
    file.write_text("No.\n\nI will not do that.\n")
    texts = {f"p{n:02}#{s}": REFUSAL if s == "safe" else COMPLIANCE for n in range(12) for s in ("safe", "unsafe")}
    targets = refusal_targets(rows(texts, num_pairs=12), read_refusals(file))
    assert set(targets.targets.values()) == {"No.", "I will not do that."}
    assert targets.num_own == 0


def test_a_file_of_refusals_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "refusals.txt").write_bytes(b"\xff\xfe no")
    with pytest.raises(UsageError, match="is not UTF-16 text"):
        read_refusals(tmp_path / "refusals.txt")


def test_an_empty_file_of_refusals_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UsageError, match="holds no refusal"):
        read_refusals(tmp_path / "empty.txt")
