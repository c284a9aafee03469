"""YAML without its traps, and a dump that loads to the same config."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_cli.config import MoeConfig, dump_yaml, load_config, setting_names
from moe_cli.errors import UsageError

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
HARD_WORDS = st.sampled_from(
    ["no", "yes", "null", "~", "2e-5", "010", "0x10", "1_000", "a: b", "# x", "- x", " x ", "'"]
)
NAMES = WORDS | HARD_WORDS
SHARES = st.floats(0, 1)


def loaded(tmp_path, text):
    file = tmp_path / "moe.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(file=file, environment={}, assignments=(), flags={})


def refusal(tmp_path, text):
    with pytest.raises(UsageError) as found:
        loaded(tmp_path, text)
    return found.value.message


@pytest.mark.parametrize("text", ["2e-5", "2.0e-5", "0.00002", "2E-5"])
def test_a_number_with_an_exponent_is_a_number(tmp_path, text):
    assert loaded(tmp_path, f"train: {{learning_rate: {text}}}").train.learning_rate == 2e-5


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "n", "12:30"])
def test_words_stay_words(tmp_path, word):
    assert loaded(tmp_path, f"model: {{name: {word}}}").model.name == word


def test_a_leading_zero_is_no_octal_number(tmp_path):
    assert loaded(tmp_path, "seed: 010").seed == 10


@pytest.mark.parametrize(
    "text", ["seed: 1\nseed: 2", "train:\n  num_epochs: 1\n  num_epochs: 2", "train: {}\ntrain: {}"]
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text):
    message = refusal(tmp_path, text)
    assert "is not valid YAML" in message and "duplicate key" in message


@pytest.mark.parametrize(
    "text", ["a: [1", "\tseed: 1", "seed: !!python/object:os.system x", b"seed: \xff", "--- 1\n--- 2", "a: *b"]
)
def test_what_is_no_yaml_is_refused_with_the_name_of_the_file(tmp_path, text):
    assert refusal(tmp_path, text).startswith(f"{tmp_path / 'moe.yaml'} is not valid YAML: ")


@pytest.mark.parametrize(("text", "kind"), [("- 1", "list"), ("word", "str"), ("3", "int")])
def test_a_file_that_holds_no_settings_says_what_it_holds(tmp_path, text, kind):
    assert f"holds a {kind}, not settings" in refusal(tmp_path, text)


@pytest.mark.parametrize("text", ["", "# nothing", "{}", "train: {}"])
def test_an_empty_file_sets_nothing(tmp_path, text):
    assert loaded(tmp_path, text) == MoeConfig()


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="there is no config file"):
        load_config(file=tmp_path / "none.yaml", environment={}, assignments=(), flags={})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tree=st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**32 - 1),
            "registry": st.none() | NAMES,
            "model": st.fixed_dictionaries(
                {}, optional={"name": NAMES, "revision": st.none() | NAMES, "gpu": st.sampled_from([None, "0", "0,1"])}
            ),
            "prepare": st.fixed_dictionaries(
                {},
                optional={
                    "pairs": st.none() | NAMES,
                    "safe_ratio": SHARES,
                    "budget": st.none() | st.floats(0, 1, exclude_min=True),
                    "keep_all": st.booleans(),
                },
            ),
            "train": st.fixed_dictionaries(
                {},
                optional={
                    "learning_rate": st.floats(0, 1e300, exclude_min=True),
                    "report_to": st.lists(NAMES, max_size=3),
                },
            ),
            "evaluate": st.fixed_dictionaries({}, optional={"items": st.lists(NAMES, max_size=3)}),
        },
    )
)
def test_the_dump_of_a_config_loads_to_the_same_config(tmp_path_factory, tree):
    config = MoeConfig.model_validate(tree)
    assert loaded(tmp_path_factory.mktemp("dump"), dump_yaml(config)) == config


def test_the_dump_holds_every_setting_in_its_order():
    def keys(tree, prefix=""):
        for key, value in tree.items():
            yield from keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]

    import io

    from ruamel.yaml import YAML

    tree = YAML(typ="safe", pure=True).load(io.StringIO(dump_yaml(MoeConfig())))
    assert list(keys(tree)) == list(setting_names())
