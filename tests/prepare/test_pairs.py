"""Entries become pairs and harmless prompts: joined by id, wrapped by templates, each id once."""

from __future__ import annotations

import pytest

from moe_cli.data import Template, of_kind, read_source
from moe_cli.data.turns import prompt_of_turns
from moe_cli.errors import UsageError
from moe_cli.prepare.pairs import Attacks, benign_of_entries, pairs_of_entries, refuse_goals_alone, wrapped_share
from moe_cli.prepare.selection_file import read_named_experts
from moe_cli.records import Message
from tests.builders import identity

BASE = identity(layers=(1, 3), num_experts=4)
TEMPLATES = tuple(Template(f"t{number}", prompt_of_turns(f"{number}: {{goal}}!")) for number in range(4))


def written(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


def paired(tmp_path, *texts, attacks=Attacks()):
    files = [written(tmp_path / f"{number}.jsonl", text) for number, text in enumerate(texts)]
    return pairs_of_entries([of_kind(read_source(str(file)), "harmful") for file in files], attacks)


def pairs(tmp_path, *texts, attacks=Attacks()):
    found = paired(tmp_path, *texts, attacks=attacks)
    assert found.faults == [] and found.alone == {}
    return found.pairs


def faults(tmp_path, *texts, attacks=Attacks()):
    return [str(f).replace(f"{tmp_path}/", "") for f in paired(tmp_path, *texts, attacks=attacks).faults]


def test_texts_and_turns_become_pairs_of_one_cluster(tmp_path):
    found = pairs(
        tmp_path,
        '{"id": "b", "goal": "g", "safe": "plain", "unsafe": "attacked", "attack": "story"}\n\n'
        '{"id": "a", "goal": "g", "safe": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}], '
        '"unsafe": [{"role": "user", "content": "x"}]}\n',
    )
    assert found["a"].safe[0] == Message(role="system", content="s")
    assert found["b"].attack == "story"
    assert found["a"].cluster == found["b"].cluster


def test_every_attacked_prompt_of_a_goal_makes_a_pair_with_the_goal_itself(tmp_path):
    found = list(pairs(tmp_path, '[{"goal": "zorp", "all_prompt": ["one zorp", "two zorp"]}]').values())
    assert [pair.unsafe[0].content for pair in found] == ["one zorp", "two zorp"]
    assert {pair.safe[0].content for pair in found} == {"zorp"}
    assert len({pair.cluster for pair in found}) == 1


def test_rows_without_an_id_are_numbered_per_goal_over_all_files(tmp_path):
    row = '{"id": null, "goal": "g", "safe": "a", "unsafe": "b"}\n'
    found = pairs(
        tmp_path, row + row.replace("b", "d"), '{"goal": "g", "all_prompt": "c"}', '{"goal": "h", "all_prompt": "d"}'
    )
    assert [name.partition("/")[2] for name in found] == ["1", "2", "3", "1"]


PLAIN = '{"id": "1", "goal": "g", "safe": "a"}\n{"id": 2, "goal": "h", "safe": "b"}\n'


def test_sides_in_two_files_are_joined_by_id_in_any_order(tmp_path):
    attacked = '{"id": "2", "unsafe": "y", "attack": "story"}\n{"id": 1, "goal": "g", "unsafe": "x"}\n'
    found = pairs(tmp_path, PLAIN, attacked)
    assert [(p.id, p.goal, p.safe[0].content, p.unsafe[0].content, p.attack) for p in found.values()] == [
        ("1", "g", "a", "x", None),
        ("2", "h", "b", "y", "story"),
    ]
    assert pairs(tmp_path, attacked, PLAIN) == found
    assert pairs(tmp_path, PLAIN + attacked) == found


def test_goals_of_a_benchmark_are_joined_by_id_too(tmp_path):
    found = pairs(tmp_path, '{"id": "1", "goal": "g", "target": "t"}', '{"id": "1", "unsafe": "x"}')
    assert (found["1"].goal, found["1"].safe[0].content, found["1"].unsafe[0].content) == ("g", "g", "x")


@pytest.mark.parametrize(
    ("attacked", "said"),
    [
        ('{"id": "1", "unsafe": "x"}', ["0.jsonl:2: `unsafe` is None, and no other row with the id 2 has it"]),
        (
            '{"id": "1", "unsafe": "x"}\n{"id": "2", "unsafe": "y"}\n{"id": "3", "unsafe": "z"}',
            ["1.jsonl:3: `safe` is None, and no other row with the id 3 has it"],
        ),
        (
            '{"id": "1", "unsafe": "x"}\n{"id": "2", "unsafe": "y", "goal": "other"}',
            ["1.jsonl:2: the id 2 has another goal at 0.jsonl:2"],
        ),
        (
            '{"id": "1", "unsafe": "x"}\n{"id": "2", "unsafe": "y"}\n{"goal": "z", "unsafe": "z"}',
            ["1.jsonl:3: `safe` is None"],
        ),
    ],
)
def test_a_half_that_finds_no_other_is_a_bad_row(tmp_path, attacked, said):
    assert faults(tmp_path, PLAIN, attacked) == said


def test_two_halves_without_a_goal_are_a_bad_row(tmp_path):
    assert faults(tmp_path, '{"id": "1", "safe": "a"}', '{"id": "1", "unsafe": "b"}') == [
        "0.jsonl:1: `goal` is None, not a text"
    ]


def test_rows_of_one_id_that_say_different_things_are_told_apart(tmp_path):
    row = '{"id": "1", "goal": "g", "safe": "a", "unsafe": "b"}\n'
    found = pairs(
        tmp_path,
        row + row.replace('"a"', '"z"') + row.replace('"g"', '"h"'),
        '{"id": "1~2", "goal": "i", "all_prompt": "j"}',
    )
    assert [(name, pair.id, pair.safe[0].content, pair.goal) for name, pair in found.items()] == [
        ("1", "1", "a", "g"),
        ("1~2", "1~2", "z", "g"),
        ("1~3", "1~3", "a", "h"),
        ("1~2/0", "1~2/0", "i", "i"),
    ]


def test_several_attacked_halves_of_one_plain_half_are_a_pair_each(tmp_path):
    attacked = '{"id": "1", "unsafe": "x"}\n{"id": "2", "unsafe": "y"}\n{"id": "2", "unsafe": "z"}'
    found = pairs(tmp_path, PLAIN, attacked)
    assert [(name, pair.goal, pair.unsafe[0].content) for name, pair in found.items()] == [
        ("1", "g", "x"),
        ("2", "h", "y"),
        ("2~2", "h", "z"),
    ]


def test_an_id_that_stands_for_several_goals_joins_only_by_the_goal(tmp_path):
    plain = '{"id": "1", "goal": "g", "safe": "a"}\n{"id": "1", "goal": "h", "safe": "b"}\n'
    found = paired(tmp_path, plain, '{"id": "1", "goal": "h", "unsafe": "y"}\n{"id": "1", "unsafe": "x"}')
    assert [(pair.goal, pair.unsafe[0].content) for pair in found.pairs.values()] == [("h", "y")]
    assert [fault.reason for fault in found.faults] == ["the id 1 stands for 2 goals, and it joins none of them"]


def test_harmbench_behaviours_are_joined_with_their_test_cases(tmp_path):
    behaviours = "Behavior,BehaviorID,ContextString\nzorp the glim,zorp_glim,\nflomp it,flomp_hesk,A hesk.\n"
    cases = '{"zorp_glim": ["Pretend: zorp.", "A story: zorp."], "flomp_hesk": ["Flomp, please."]}'
    found = pairs(tmp_path, behaviours, cases)
    assert [(name, pair.goal, pair.unsafe[0].content) for name, pair in found.items()] == [
        ("zorp_glim", "zorp the glim", "Pretend: zorp."),
        ("zorp_glim~2", "zorp the glim", "A story: zorp."),
        ("flomp_hesk", "A hesk.\n\n---\n\nflomp it", "Flomp, please."),
    ]


def test_a_row_of_both_formats_is_refused_rather_than_half_read(tmp_path):
    text = '{"goal": "g", "safe": "a", "unsafe": "b", "all_prompt": ["c"]}\n{"goal": "g", "safe": "a", "unsafe": "b"}'
    (fault,) = read_source(str(written(tmp_path / "both.jsonl", text))).faults
    assert fault.reason.startswith("`all_prompt` stands beside")


GOALS = '{"id": "1", "goal": "zorp {goal} {x}"}\n{"goal": "flomp"}\n'


def test_a_goal_and_a_template_make_a_pair_and_the_goal_is_the_cluster(tmp_path):
    found = pairs(tmp_path, GOALS, attacks=Attacks(TEMPLATES))
    assert len(found) == 8 and len({pair.cluster for pair in found.values()}) == 2
    assert found["1/t2"].unsafe[0].content == "2: zorp {goal} {x}!"
    assert (found["1/t2"].attack, found["1/t2"].safe[0].content) == ("t2", "zorp {goal} {x}")


def test_templates_are_drawn_by_the_seed_and_by_nothing_else(tmp_path):
    goals = [f'{{"id": "{number}", "goal": "goal {number}"}}' for number in range(40)]
    draw = Attacks(TEMPLATES, per_goal=2, seed=1)
    whole = pairs(tmp_path, "\n".join(goals), attacks=draw)
    part = pairs(tmp_path, "\n".join(reversed(goals[10:30])), attacks=draw)
    assert len(whole) == 80
    assert part == {name: pair for name, pair in whole.items() if name in part} and len(part) == 40
    assert set(pairs(tmp_path, "\n".join(goals), attacks=Attacks(TEMPLATES, 2, seed=2))) != set(whole)
    assert {pair.attack for pair in whole.values()} == {template.name for template in TEMPLATES}


def test_only_goals_without_an_attacked_prompt_are_wrapped(tmp_path):
    complete = '{"id": "1", "goal": "g", "safe": "a", "unsafe": "b"}\n{"id": "2", "goal": "h", "safe": "c"}\n'
    found = paired(tmp_path, complete, attacks=Attacks(TEMPLATES[:1]))
    assert (sorted(found.pairs), found.num_wrapped) == (["1", "2/t0"], 1)
    assert found.pairs["2/t0"].safe[0].content == "c"


def test_goals_that_nothing_attacks_are_refused_with_a_way_out(tmp_path):
    found = paired(tmp_path, GOALS)
    assert found.faults == []
    with pytest.raises(UsageError, match="holds goals without attacked prompts") as refusal:
        refuse_goals_alone(found)
    assert "--attack FILE" in refusal.value.hint


def test_a_conversation_is_no_goal_that_a_template_can_wrap(tmp_path):
    turns = (
        '[{"role": "user", "content": "s"}, {"role": "assistant", "content": "t"}, {"role": "user", "content": "zorp"}]'
    )
    text = f'{{"messages": {turns}}}\n{{"prompt": "flomp"}}'
    found = paired(tmp_path, text, attacks=Attacks(TEMPLATES))
    assert [fault.reason for fault in found.faults] == ["a conversation has no goal that a template wraps"]
    assert len(found.pairs) == 4


def benign(tmp_path, *texts):
    files = [written(tmp_path / f"{number}.jsonl", text) for number, text in enumerate(texts)]
    return benign_of_entries([read_source(str(file)) for file in files])


def test_benign_prompts_are_in_order_of_id_and_those_without_are_numbered(tmp_path):
    found, repeated = benign(
        tmp_path, '{"prompt": "hello"}\n{"id": "z", "messages": [{"role": "user", "content": "x"}]}', '{"prompt": "y"}'
    )
    assert ([prompt.id for prompt in found], repeated) == (["benign-1", "benign-3", "z"], set())


def test_benign_prompts_of_one_id_are_told_apart_and_equal_ones_are_one(tmp_path):
    text = '{"id": "1", "prompt": "a"}\n{"id": 1, "prompt": "b"}\n{"id": "7", "prompt": "a"}'
    found, repeated = benign(tmp_path, text)
    assert [(prompt.id, prompt.messages[0].content) for prompt in found] == [("1", "a"), ("1~2", "b")]
    assert [place.number for place in repeated] == [3]


def test_a_share_of_the_plain_benign_prompts_is_wrapped_by_the_seed(tmp_path):
    turns = '{"id": "long", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}'
    known = '{"id": "known", "prompt": "x", "attack": "story"}'
    lines = [f'{{"id": "b{number:02}", "prompt": "word {number}"}}' for number in range(20)]
    prompts, _ = benign(tmp_path, "\n".join([turns, known, *lines]))
    attacks = Attacks(TEMPLATES, seed=3)
    found = wrapped_share(prompts, 0.25, attacks)
    wrapped = [prompt for prompt in found if prompt.attack and prompt.id != "known"]
    assert (len(found), len(wrapped)) == (22, 5)
    for prompt in wrapped:
        number = int(prompt.cluster.removeprefix("b"))
        assert prompt.id == f"{prompt.cluster}/{prompt.attack}"
        assert prompt.messages[0].content == f"{prompt.attack.removeprefix('t')}: word {number}!"
    assert wrapped_share(prompts[::-1], 0.25, attacks) == found
    assert wrapped_share(prompts, 0.25, Attacks(TEMPLATES, seed=4)) != found
    assert wrapped_share(prompts, 0.0, Attacks()) == tuple(prompts)
    for prompt in found:
        if prompt.cluster in ("known", "long"):  # its plain form is not known; a conversation is not wrapped
            assert prompt.other_form is None
        elif prompt.attack:
            assert prompt.other_form[0].content == f"word {int(prompt.cluster.removeprefix('b'))}"
        else:
            assert prompt.other_form[0].content.endswith(f": {prompt.messages[0].content}!")
    beside = [prompt.other_form[0].content[0] for prompt in wrapped_share(prompts, 0.0, attacks) if prompt.other_form]
    assert beside == [*"01230123012301230123"]  # the templates in turn


def test_a_pair_brings_a_harmless_prompt_in_both_forms(tmp_path):
    row = '{"id": "g", "goal": "zorp", "safe": "zorp?", "unsafe": "story: zorp", "system": "s", %s}'
    both = '"benign": "flomp?", "benign_attacked": "story: flomp"'
    (pair,) = pairs(tmp_path, row % both).values()
    assert [turn.content for turn in pair.benign] == ["s", "flomp?"]
    assert [turn.content for turn in pair.benign_attacked] == ["s", "story: flomp"]
    alone = written(tmp_path / "alone.jsonl", row % '"benign_attacked": "story: flomp"')
    (fault,) = read_source(str(alone)).faults
    assert fault.reason == "`benign_attacked` stands without `benign`, its plain form"
    (label,) = pairs(tmp_path, row % '"benign": false').values()
    assert (label.benign, label.benign_attacked) == (None, None)


def test_named_experts_become_flat_indices(tmp_path):
    assert read_named_experts(written(tmp_path / "e.json", "[[3, 2], [1, 0], [3, 2]]"), BASE).indices == (0, 6)


@pytest.mark.parametrize("text", ["[[2, 0]]", "[[1, 4]]", "[[1]]", '[["1", 0]]', "{}", "[]"])
def test_an_expert_that_is_not_there_is_refused(tmp_path, text):
    with pytest.raises(UsageError):
        read_named_experts(written(tmp_path / "e.json", text), BASE)
