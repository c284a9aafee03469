"""Files of pairs and harmless prompts: formats, ids, bad rows with file and line."""

from __future__ import annotations

import pytest

from moe_cli.errors import UsageError
from moe_cli.prepare.named import named_experts
from moe_cli.prepare.pairs import read_benign, read_pairs
from moe_cli.records import Message, ModelIdentity

BASE = ModelIdentity(
    directory=None,
    name="m",
    revision=None,
    architecture="A",
    fingerprint="f",
    dtype="float32",
    layers=(1, 3),
    num_experts=4,
    top_k=2,
    total_params=100,
    chat_template="t",
)


def written(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


def test_lines_with_texts_and_with_messages_are_read(tmp_path):
    file = written(
        tmp_path / "pairs.jsonl",
        '{"id": "b", "goal": "g", "safe": "plain", "unsafe": "attacked", "attack": "story"}\n\n'
        '{"id": "a", "goal": "g", "safe": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}], '
        '"unsafe": [{"role": "user", "content": "x"}]}\n',
    )
    first, second = read_pairs(file)
    assert (first.id, second.id) == ("a", "b")
    assert first.safe[0] == Message(role="system", content="s")
    assert second.attack == "story"
    assert first.cluster == second.cluster


def test_the_original_format_gives_one_pair_per_attacked_prompt_of_one_goal(tmp_path):
    file = written(tmp_path / "pairs.json", '[{"goal": "zorp", "all_prompt": ["one zorp", "two zorp"]}]')
    found = read_pairs(file)
    assert [pair.unsafe[0].content for pair in found] == ["one zorp", "two zorp"]
    assert {pair.safe[0].content for pair in found} == {"zorp"}
    assert len({pair.cluster for pair in found}) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "no row"),
        ('{"safe": "a", "unsafe": "b"}', "`goal` is None"),
        ('{"goal": "g", "safe": "a"}', "`unsafe` is None"),
        ('{"goal": "g", "safe": "", "unsafe": "b"}', "`safe` is ''"),
        ('{"goal": "g", "safe": [{"role": "assistant", "content": "a"}], "unsafe": "b"}', "`safe`"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, line, message):
    good = '{"id": "1", "goal": "g", "safe": "a", "unsafe": "b"}\n'
    file = written(tmp_path / "pairs.jsonl", good + line + "\n")
    with pytest.raises(UsageError, match=r"pairs\.jsonl:2") as caught:
        read_pairs(file)
    assert message in caught.value.message
    assert "accepted formats" in caught.value.hint


def test_an_id_that_stands_twice_is_refused(tmp_path):
    row = '{"id": "1", "goal": "g", "safe": "a", "unsafe": "b"}\n'
    with pytest.raises(UsageError, match=r":2: the id 1 stands twice"):
        read_pairs(written(tmp_path / "pairs.jsonl", row + row))


@pytest.mark.parametrize("name", ["pairs.pkl", "pairs.pt"])
def test_a_pickle_is_refused_unread(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04not really")
    with pytest.raises(UsageError, match="pickle"):
        read_pairs(tmp_path / name)


@pytest.mark.parametrize("text", ["", "[]", "\n\n"])
def test_an_empty_file_is_refused(tmp_path, text):
    with pytest.raises(UsageError, match="holds no rows"):
        read_pairs(written(tmp_path / "pairs.jsonl", text))


def test_a_missing_file_lists_the_formats(tmp_path):
    with pytest.raises(UsageError) as caught:
        read_benign(tmp_path / "none.jsonl")
    assert "accepted formats of --benign" in caught.value.hint


def test_benign_prompts_are_read(tmp_path):
    file = written(
        tmp_path / "benign.jsonl", '{"prompt": "hello"}\n{"id": "z", "messages": [{"role": "user", "content": "x"}]}\n'
    )
    assert [prompt.id for prompt in read_benign(file)] == ["benign-1", "z"]


def test_named_experts_become_flat_indices(tmp_path):
    assert named_experts(written(tmp_path / "e.json", "[[3, 2], [1, 0], [3, 2]]"), BASE) == (0, 6)


@pytest.mark.parametrize("text", ["[[2, 0]]", "[[1, 4]]", "[[1]]", '[["1", 0]]', "{}", "[]"])
def test_an_expert_that_is_not_there_is_refused(tmp_path, text):
    with pytest.raises(UsageError):
        named_experts(written(tmp_path / "e.json", text), BASE)


def test_an_id_that_is_null_counts_as_missing(tmp_path):
    row = '{"id": null, "goal": "g", "safe": "a", "unsafe": "b"}\n'
    first, second = read_pairs(written(tmp_path / "pairs.jsonl", row + row))
    assert first.id.endswith("/1") and second.id.endswith("/2")


def test_a_row_of_both_formats_is_refused_rather_than_half_read(tmp_path):
    row = '{"goal": "g", "safe": "a", "unsafe": "b", "all_prompt": ["c"]}\n'
    with pytest.raises(UsageError, match="`all_prompt` stands beside"):
        read_pairs(written(tmp_path / "pairs.jsonl", row))
