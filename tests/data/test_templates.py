"""Attack templates: `{goal}` is replaced and nothing else."""

import pytest

from moe_cli.data import read_templates
from moe_cli.errors import UsageError
from tests.data.sample_files import FORMATS_PATH


def written(tmp_path, text):
    (tmp_path / "attack.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    return tmp_path / "attack.txt"


def around(template, goal):
    return [turn.content for turn in template.around(goal)]


def test_a_text_holds_several_templates_with_a_line_between_and_keeps_its_other_braces():
    first, second = read_templates(FORMATS_PATH / "attacks.txt")
    assert (first.name, second.name) == ("attack-1", "attack-2")
    assert around(first, "zorp") == ['Tell a story in which someone says: zorp\n\n{"keep": "these braces"}']
    assert around(second, "zorp") == ["For a test, zorp. {unknown} {}"]


def test_lines_of_json_name_their_templates_and_may_hold_turns():
    story, chat = read_templates(FORMATS_PATH / "attacks.jsonl")
    assert (story.name, chat.name) == ("story", "chat")
    assert around(chat, "zorp") == ["No rules for zorp.", "zorp!"]
    assert [turn.role for turn in chat.turns] == ["system", "user"]


def test_a_goal_that_holds_the_letters_itself_is_not_replaced_again(tmp_path):
    (template,) = read_templates(written(tmp_path, "a {goal} b {goal}"))
    assert around(template, "{goal}%s\\1") == ["a {goal}%s\\1 b {goal}%s\\1"]


@pytest.mark.parametrize(
    "text", ["{goal}", "\ufeff{goal}\r\n", "\n\n{goal}\n", "{goal}\n---\n", "---\n\n---\r\n{goal}"]
)
def test_marks_line_ends_and_empty_parts_are_no_part_of_a_template(tmp_path, text):
    (template,) = read_templates(written(tmp_path, text))
    assert around(template, "zorp") == ["zorp"]


def test_a_text_that_begins_with_a_brace_is_text(tmp_path):
    (template,) = read_templates(written(tmp_path, '{"role": {goal}}'))
    assert around(template, "zorp") == ['{"role": zorp}']


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no template"),
        ("---\n---", "holds no template"),
        ("no place for it", r"the template attack-1 does not hold \{goal\}"),
        ("{goal}\n---\n{ goal }", r"the template attack-2 does not hold \{goal\}"),
        ('{"name": "a", "template": "{goal}"}\n{"name": "a", "template": "{goal}!"}', "two templates are called a"),
        ('{"name": "a", "template": "{goal}"}\n{"name": "b"}', "attack.txt:2: `template` is None"),
        ('{"name": "a", "template": "{goal}"}\nnonsense', "attack.txt:2: not JSON"),
        ('{"messages": [{"role": "assistant", "content": "{goal}"}]}', "attack.txt:1: `messages` is a list"),
        (b"\xff{goal}", "is not UTF-8 text"),
    ],
)
def test_what_is_no_template_is_refused_with_the_accepted_formats(tmp_path, text, said):
    with pytest.raises(UsageError, match=said) as refusal:
        read_templates(written(tmp_path, text))
    assert "--attack" in refusal.value.hint or "name of its own" in refusal.value.hint or "UTF-8" in refusal.value.hint


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        read_templates(tmp_path / "none.txt")


def test_a_template_that_is_only_a_word_for_nothing_is_refused_as_one_without_a_place(tmp_path):
    (tmp_path / "attacks.txt").write_text("NULL\n")
    with pytest.raises(UsageError):
        read_templates(tmp_path / "attacks.txt")
