"""JSON and JSON Lines of records; errors name file and line."""

import pytest

from moe_cli.codec import decode, decode_lines, encode_lines, encode_list, parse_json
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.records import BenignPrompt, Message, Progress

TURNS = (Message(role="user", content="Hi"), Message(role="assistant", content="line\u2028break\n\x85"))


def test_lines_are_read_back_equal_even_with_line_breaks_of_unicode(tmp_path):
    file = tmp_path / "turns.jsonl"
    file.write_bytes(encode_lines(TURNS))
    assert tuple(decode_lines(Message, file)) == TURNS


@pytest.mark.parametrize("line", ["{", '{"role": "user"}', '{"role": "user", "content": "x", "more": 1}', "[]", "null"])
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line):
    file = tmp_path / "turns.jsonl"
    file.write_bytes(encode_lines(TURNS) + line.encode() + b"\n" + encode_lines(TURNS))
    with pytest.raises(ArtifactError) as refusal:
        list(decode_lines(Message, file))
    assert refusal.value.message.startswith(f"{file}:3: Message: ")


def test_lines_before_a_bad_one_are_still_given(tmp_path):
    file = tmp_path / "turns.jsonl"
    file.write_bytes(encode_lines(TURNS) + b"{")
    lines = decode_lines(Message, file)
    assert (next(lines), next(lines)) == TURNS


def test_an_error_in_a_nested_field_names_the_field():
    data = b'{"id": "1", "cluster": "c", "messages": [{"role": "king", "content": "x"}], "attack": null}'
    with pytest.raises(ArtifactError, match=r"messages\.0\.role"):
        decode(BenignPrompt, data, source="x.json")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"nonsense", b'{"task": "a"} {"task": "b"}'])
def test_what_is_no_json_is_an_artifact_error_with_a_hint(data):
    with pytest.raises(ArtifactError, match=r"^here\.json: ") as refusal:
        decode(Progress, data, source="here.json")
    assert refusal.value.hint


def test_a_list_of_records_is_one_json_document():
    data = encode_list(TURNS)
    assert decode(tuple[Message, ...], data, source="memory") == TURNS
    assert decode(tuple[Message, ...], encode_list(()), source="memory") == ()


def test_foreign_json_that_cannot_be_read_is_an_error_of_the_type_asked_for():
    with pytest.raises(UsageError, match=r"^pairs\.json: not JSON"):
        parse_json("{", source="pairs.json", hint="write JSON", error_type=UsageError)
    assert parse_json('{"a": [1]}', source="x", hint="") == {"a": [1]}
