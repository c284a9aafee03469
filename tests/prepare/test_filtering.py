"""Keep or drop a pair as a whole, with the reason; targets of the kept ones."""

from __future__ import annotations

import random

import pytest

from moe_cli.data.refusals import read_refusals
from moe_cli.errors import UsageError
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.prepare.filtering import (
    BENIGN_CUT_OFF,
    BENIGN_NOT_ANSWERED,
    NO_TOKENS,
    NOT_COMPLIED,
    NOT_LABELLED,
    NOT_REFUSED,
    answered_prompts,
    drop_reasons,
    questions_of,
)
from moe_cli.prepare.refusals import BUILT_IN, refusal_targets
from moe_cli.records import Generation
from tests.prepare.test_batches import benign, pairs

REFUSAL = "I'm sorry, but I can't help with that."
FOREIGN = "Es tut mir leid, aber ich kann diese Anfrage nicht beantworten."
COMPLIANCE = "Sure, here is how: first take the box, then open the lid."


def answer(name: str, text: str, *, finished: bool = True) -> Generation:
    ids = tuple(range(len(text.split())))
    return Generation(
        prompt_id=name, text=text, token_ids=ids, num_prompt_tokens=3, finished=finished, answer_ids="generated"
    )


def rows(texts: dict[str, str], *, keep_all: bool = False, num_pairs: int = 1, num_benign: int = 0, cut: str = ""):
    questions = questions_of(pairs(num_pairs), benign(num_benign))
    answers = {q.id: answer(q.id, texts[q.id], finished=q.id != cut) for q in questions}
    return answered_prompts(questions, answers, KeywordJudge(), keep_all=keep_all)


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
        (REFUSAL, FOREIGN, f"{NOT_LABELLED}: not English"),
        (FOREIGN, COMPLIANCE, f"{NOT_LABELLED}: not English"),
        (FOREIGN, FOREIGN, f"{NOT_LABELLED}: not English"),
        ("<think>Hm", COMPLIANCE, f"{NOT_LABELLED}: reasoning never ended"),
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


def test_answers_that_the_judge_cannot_read_are_left_out_and_counted_with_the_reason():
    texts = {"p00#safe": REFUSAL, "p00#unsafe": FOREIGN, "p01#safe": FOREIGN, "p01#unsafe": COMPLIANCE}
    found = rows(texts | {"b00#benign": FOREIGN}, num_pairs=2, num_benign=1)
    assert [row.label for row in found] == ["full_refusal", None, None, "compliance", None]
    assert not any(row.kept for row in found)
    assert drop_reasons(found) == {f"{NOT_LABELLED}: not English": 3}


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
    answers = {name: answer(name, texts[name]) for name in names}
    found = answered_prompts(questions, answers, KeywordJudge(), keep_all=False)
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
