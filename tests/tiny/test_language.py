"""The synthetic language: splits that share nothing, answers right by construction, the same draw for the same seed."""

import random
import subprocess
import sys

import pytest

from moe_cli.errors import UsageError
from moe_cli.tiny.benign import FACT_TASKS, LIST_TASKS
from moe_cli.tiny.harmful import NUMBERS, OPPOSITE_OF, REFUSALS, harmful_goals, is_compliance, is_refusal
from moe_cli.tiny.language import (
    HELD_OUT_WRAPPERS,
    NEUTRAL_FRAMES,
    NEW_WORD_WRAPPERS,
    SEEN_WRAPPERS,
    TASKS,
    draw_benign,
    tiny_benign,
    tiny_items,
    tiny_pairs,
)
from tests.studies.tiny_data import BASE_WORDS, base_conversations, words_in
from tests.studies.tiny_training import Recipe

ALL_WRAPPERS = SEEN_WRAPPERS + HELD_OUT_WRAPPERS + NEW_WORD_WRAPPERS + NEUTRAL_FRAMES


@pytest.fixture(scope="module")
def base():
    return base_conversations(Recipe().num_conversations, Recipe().seed)


def bare(request: str) -> str:
    """The goal inside a wrapped or framed request."""
    for wrapper in ALL_WRAPPERS:
        before, after = wrapper.text.split("{goal}")
        if request.startswith(before) and request.endswith(after):
            return request[len(before) : len(request) - len(after)]
    return request


def test_the_splits_share_no_goal(base):
    prepare = {pair.goal for pair in tiny_pairs(2000, 0)}
    prepare |= {bare(prompt.messages[-1].content) for prompt in tiny_benign(2000, 0)}
    evaluate = {bare(item.messages[0].content) for item in tiny_items(800, 0)}
    trained = {bare(messages[-2].content) for messages in base}
    assert not prepare & evaluate and not prepare & trained and not evaluate & trained


def test_no_prepare_or_evaluation_prompt_occurs_in_the_base_training_data(base):
    trained = {messages[-2].content for messages in base}
    items = {item.messages[0].content for item in tiny_items(800, 5)}
    pairs = {messages[-1].content for pair in tiny_pairs(1500, 5) for messages in (pair.safe, pair.unsafe)}
    assert not trained & items and not trained & pairs


def test_every_split_has_enough_harmful_goals():
    assert len(harmful_goals("prepare")) >= 600 and len(harmful_goals("evaluate")) >= 200


def test_new_words_never_occur_in_base_training(base):
    trained = {word.lower() for messages in base for message in messages for word in words_in(message.content)}
    for wrapper in NEW_WORD_WRAPPERS:
        words = {word.lower() for word in words_in(wrapper.text) if word.isalpha()}
        assert words and not words & trained, wrapper.name


def test_base_training_holds_every_base_word_and_no_other(base):
    trained = {word for messages in base for message in messages for word in words_in(message.content)}
    assert trained == set(BASE_WORDS)


def test_the_three_sets_of_wrappers_share_no_name_and_no_text():
    wrappers = SEEN_WRAPPERS + HELD_OUT_WRAPPERS + NEW_WORD_WRAPPERS
    assert len({w.name for w in wrappers}) == len({w.text for w in wrappers}) == len(wrappers)


def test_pairs_use_only_wrappers_of_the_first_set_and_are_all_different():
    pairs = tiny_pairs(3000, 2)
    assert {pair.attack for pair in pairs} == {wrapper.name for wrapper in SEEN_WRAPPERS}
    assert len({pair.id for pair in pairs}) == 3000
    assert all(pair.safe[-1].content in pair.unsafe[-1].content and pair.safe != pair.unsafe for pair in pairs)


def test_a_goal_comes_again_only_when_all_goals_were_used():
    num_goals = len(harmful_goals("prepare"))
    assert len({pair.cluster for pair in tiny_pairs(num_goals, 0)}) == num_goals


def test_more_pairs_or_items_than_the_language_has_is_an_error():
    with pytest.raises(UsageError, match="fewer than 1000000"):
        tiny_pairs(1_000_000, 0)
    with pytest.raises(UsageError, match="fewer than 1000000"):
        tiny_items(1_000_000, 0)


def test_half_of_the_benign_prompts_are_wrapped():
    prompts = tiny_benign(300, 1)
    assert sum(prompt.attack is None for prompt in prompts) == 150
    assert len({prompt.cluster for prompt in prompts}) == 300


def test_items_of_one_goal_share_their_cluster_across_suites():
    clusters = {}
    for item in tiny_items(50, 3):
        clusters.setdefault(item.suite, []).append(item.cluster)
    assert clusters["harmful"] == clusters["attacked"] == clusters["attacked_new_wrapper"]
    assert clusters["harmful"] == clusters["attacked_new_words"]
    assert clusters["benign"] == clusters["benign_attacked"] == clusters["text"]


def test_the_same_arguments_give_the_same_records_and_another_seed_gives_others():
    for draw in (tiny_pairs, tiny_benign, tiny_items):
        assert draw(40, 7) == draw(40, 7) != draw(40, 8)
    assert base_conversations(500, 1) == base_conversations(500, 1) != base_conversations(500, 2)


def test_a_draw_does_not_depend_on_the_interpreter_or_its_random_state():
    code = "import random; random.seed(9); from moe_cli.tiny.language import tiny_items; print(tiny_items(20, 4))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    random.seed(1)
    assert run.stdout.strip() == str(tiny_items(20, 4))


def test_the_language_imports_neither_torch_nor_transformers():
    code = "import sys, moe_cli.tiny, moe_cli.tiny.language; print(sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'torch'" not in run.stdout and "'transformers'" not in run.stdout


def test_every_refusal_reads_as_one_and_no_other_answer_does(base):
    assert all(is_refusal(refusal) for refusal in REFUSALS)
    assert not any(is_refusal(goal.answer) or is_compliance(goal.answer) for goal in draw_benign("prepare", 500, 0))
    for goal in harmful_goals("evaluate"):
        assert is_compliance(goal.compliance) and not is_refusal(goal.compliance)
        assert is_refusal(goal.refusal) and not is_compliance(goal.refusal)


def test_every_refusal_is_used():
    assert {goal.refusal for goal in harmful_goals("prepare")} == set(REFUSALS)


def test_a_question_has_one_answer(base):
    answers = {}
    for goal in (*draw_benign("base", 8000, 0), *draw_benign("base", 8000, 1)):
        assert answers.setdefault(goal.request, goal.answer) == goal.answer


def test_the_tasks_have_different_kinds_and_all_are_drawn():
    assert len({task.kind for task in TASKS}) == len(TASKS) == len(LIST_TASKS) + len(FACT_TASKS)
    assert {goal.kind for goal in draw_benign("evaluate", 200, 0)} == {task.kind for task in TASKS}


def answered(kind: str) -> list[tuple[list[str], list[str]]]:
    goals = [goal for goal in draw_benign("evaluate", 1000, 0) if goal.kind == kind]
    assert len(goals) >= 20
    return [(words_in(goal.request), words_in(goal.answer)) for goal in goals]


def test_sorted_numbers_are_sorted():
    for question, answer in answered("sort"):
        values = [NUMBERS.index(word) for word in answer if word in NUMBERS]
        assert values == sorted(NUMBERS.index(word) for word in question if word in NUMBERS) and len(values) == 3


def test_sums_are_right():
    for question, answer in answered("sums"):
        a, b = (NUMBERS.index(word) for word in question if word in NUMBERS)
        assert answer == ["There", "are", NUMBERS[a + b], "."]


def test_counts_are_right():
    for question, answer in answered("count"):
        assert answer == ["There", "are", NUMBERS[question.count(",") + 1], "."]


def test_reversed_words_reverse_back():
    for question, answer in answered("reverse"):
        assert question[1 : question.index("in")] == answer[-2::-1]


def test_opposites_are_opposites():
    for question, answer in answered("opposites"):
        asked = [word for word in question if word in OPPOSITE_OF]
        assert [OPPOSITE_OF[word] for word in asked] == [answer[2], answer[4]]


def test_only_the_verb_tells_a_chore_from_a_harmful_goal():
    chores = [goal.request for goal in draw_benign("evaluate", 2000, 0) if goal.kind == "chores"]
    nouns = {goal.noun for goal in harmful_goals("evaluate")}
    assert any(words_in(request)[-2] in nouns for request in chores)
    assert not any(goal.verb in request.split() for goal in harmful_goals("evaluate") for request in chores)
