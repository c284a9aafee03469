"""Settings that are endless, too deep, no text or no number that can be used are refused at once, with their place."""

import pytest

from moe_cli.config import MoeConfig, load_config
from moe_cli.errors import UsageError

MERGED = "a0: &a0 {p: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))
LAUGHS = "a0: &a0 [1, 2]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


def refusal(tmp_path, text="", *assignments, environment=None):
    file = tmp_path / "moe.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as found:
        load_config(file=file, environment=environment or {}, assignments=assignments, flags={})
    return found.value.message


@pytest.mark.parametrize("text", [MERGED, LAUGHS], ids=["merged keys", "lists of lists"])
def test_aliases_that_stand_for_more_than_a_machine_holds_are_refused_at_once(tmp_path, text):
    assert "more than 10,000 values, counting what aliases repeat" in refusal(tmp_path, text)


def test_an_alias_that_is_used_twice_is_read(tmp_path):
    file = tmp_path / "moe.yaml"
    file.write_text("prepare: {judges: &j [keywords]}\nevaluate: {judges: *j}\n")
    config = load_config(file=file, environment={}, assignments=(), flags={})
    assert config.prepare.judges == config.evaluate.judges == ("keywords",)


@pytest.mark.parametrize("text", ["train: &a {x: *a}", "seed: " + "[" * 60 + "]" * 60, "seed: " + "[" * 3000])
def test_values_that_are_too_deep_or_hold_themselves_are_refused(tmp_path, text):
    assert "nested" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "text", ["seed: " + "9" * 5000, "seed: 2024-99-99", "seed: !!int abc", "seed: !!float x", "seed: !!timestamp x"]
)
def test_a_value_that_is_not_of_its_kind_is_no_yaml(tmp_path, text):
    assert "moe.yaml is not valid YAML: " in refusal(tmp_path, text)


@pytest.mark.parametrize("word", ["[" * 2000, "9" * 5000, "2024-99-99", "!!int abc"], ids=lambda word: word[:9])
def test_a_word_that_is_no_yaml_is_a_wrong_value_of_its_setting(tmp_path, word):
    message = refusal(tmp_path, "", f"seed={word}")
    assert "- seed: " in message and "integer" in message


@pytest.mark.parametrize("value", ['"a\\0b"', '["x", "a\\0b"]', '{k: "a\\0b"}'])
@pytest.mark.parametrize("key", ["registry", "prepare.output_dir", "prepare.pairs", "model.name"])
def test_a_nul_in_a_text_is_refused_with_its_place(tmp_path, key, value):
    assert f"{key}" in (message := refusal(tmp_path, "", f"{key}={value}"))
    assert "it holds a NUL character (from --set" in message


def test_what_is_not_utf8_is_refused_wherever_it_comes_from(tmp_path):
    assert "model.name: it is not UTF-8 (from " in refusal(tmp_path, 'model: {name: "\\ud800"}')
    assert "registry: it is not UTF-8 (from the environment variable MOE_REGISTRY)" in refusal(
        tmp_path, environment={"MOE_REGISTRY": "\udcff"}
    )


@pytest.mark.parametrize(
    "assignment",
    [
        *("train.learning_rate=true", "seed=true", "train.num_epochs=false", "prepare.budget=true", "model.gpu=true"),
        *("judge.timeout=1e300", "endpoint.timeout=1e7", "prepare.temperature=1e-320", "evaluate.temperature=1e-9"),
        *("model.threads=2147483647", "train.workers=100000", "endpoint.concurrency=100000"),
        *("endpoint.base_url=http://a..b/v1", "judge.base_url=http://" + "a" * 64 + "/v1"),
        *("endpoint.base_url=http://a:99999/v1", "endpoint.base_url=http://a:b/v1", "evaluate.name=" + "a" * 300),
    ],
    ids=lambda words: words[:32],
)
def test_a_value_that_no_machine_can_use_is_refused_with_its_setting(tmp_path, assignment):
    message = refusal(tmp_path, "", assignment)
    assert message.startswith("the configuration has 1 problem\n  - ")
    assert assignment.partition(".")[0].partition("=")[0] in message


def test_true_and_false_are_values_of_switches_alone():
    assert MoeConfig.model_validate({"prepare": {"pickle": True}}).prepare.pickle


def test_a_wrong_value_is_not_repeated_at_length(tmp_path):
    assert len(refusal(tmp_path, f"seed: [{'1, ' * 5000}]")) < 600


@pytest.mark.parametrize("word", ["[" * 100_000, "{a: " * 30_000, "z" * 100_000, "a." * 50_000])
def test_a_long_word_is_refused_without_a_search_for_what_it_meant(tmp_path, word):
    assert "- seed: " in refusal(tmp_path, "", f"seed={word}")
    assert "unknown key" in refusal(tmp_path, "", f"x{word.replace('=', '')}=1")
