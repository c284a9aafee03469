"""Words typed become settings, and nothing else changes."""

import os

import orjson
import pytest
import typer
from ruamel.yaml import YAML

from moe_cli.cli.app import app
from moe_cli.cli.options import field_of, setting_of
from moe_cli.config import MoeConfig

TREE = typer.main.get_command(app)
NAMES = ["moe prepare", "moe train selective", "moe train baseline", "moe evaluate", "moe compare"]
VALUES = {
    "placement": "sharded",
    "masking": "none",
    "map": "goal=objective",
    "method": "all",
    "answer_part": "spoken",
    "device": "cuda:1",
    "engine": "openai",
    "base_url": "http://localhost:8000/v1",
    "budget": "7%",
    "select_by": "q<0.05",
    "scores": "gradient",
    "threshold": "0.75",
    "benign_ratio": "0.75",
    "max_share": "0.75",
    "kind": "benign",
    "key_env": "A_KEY",
    "intervention": "zero",
    "tokens": "answer",
    "side": "safe",
    "budgets": "3%",
    "methods": "gradient",
    "scales": "0.75",
    "steer": "steer.json",
}
NEEDS = {
    "selection_file": {"prepare.method": "file"},
    "epochs": {"evaluate.temperature": "1.5"},
    "kind": {"evaluate.answers": "answers.csv"},
}
OF_NO_MODEL = {"answers", "kind"}  # the answers are there: no model is named as an argument
ARGUMENTS = {"moe evaluate": ["tiny"], "moe compare": ["a", "b"]}


def command_named(name):
    command = TREE
    for word in name.split()[1:]:
        command = command.commands[word]
    return command


def flat(tree, prefix=""):
    for key, value in tree.items():
        yield from flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def changes(before, after):
    before, after = dict(flat(before)), dict(flat(after))
    settings = [key for key in before if not key.startswith("data.")]  # what is recognised in the data
    return {key: after[key] for key in settings if before[key] != after[key]}


@pytest.mark.parametrize("name", NAMES)
def test_every_option_sets_the_setting_that_the_docs_name_and_no_other(moe, name):
    words = [*name.split()[1:], *ARGUMENTS.get(name, []), "--dry-run", "--json"]
    before = orjson.loads(moe(*words).out)
    options = {setting: option for option in command_named(name).params if (setting := setting_of(option.name))}
    assert len(options) >= 4
    for setting, option in options.items():
        word = setting.rpartition(".")[2]
        current = dict(flat(before))[setting]
        value = VALUES.get(word, "0.75" if isinstance(current, float) else "9")
        typed = [option.opts[0]] if option.is_flag else [option.opts[0], value]
        needed = NEEDS.get(word, {})
        named = ["evaluate", "--set", "model.name=tiny", *words[2:]] if word in OF_NO_MODEL else words
        done = moe(*named, *typed, *(word for key in needed for word in ("--set", f"{key}={needed[key]}")))
        assert set(changes(before, orjson.loads(done.out))) == {setting, *needed}, setting


def test_a_parameter_with_the_name_of_a_section_sets_nothing_but_what_it_says(moe):
    words = ["plan", "tiny", "--length", "8", "--ranks", "1", "--set", "model.dtype=bfloat16", "--json"]
    assert orjson.loads(moe(*words).out)["dtype"] == "bfloat16"
    sections = [name for name, value in MoeConfig() if not isinstance(value, (int, str, type(None)))]
    assert len(sections) == 10 and not any(map(setting_of, sections))


def test_the_help_of_an_option_is_the_meaning_and_the_default_of_its_setting():
    helps = {name: {option.name: option.help for option in command_named(name).params} for name in NAMES}
    assert (
        helps["moe train selective"]["train__num_epochs"]
        == "Passes over the batches; the alternating arm has those of its rounds (3)."
    )
    assert helps["moe train baseline"]["train__learning_rate"] == "Peak learning rate (5e-05)."
    assert helps["moe prepare"]["prepare__budget"].endswith("`5%`; `none` is the original rule (0.05).")
    assert helps["moe prepare"]["prepare__scores"].endswith("to use later. One of: gradient. Repeatable.")
    assert helps["moe prepare"]["model__device"].endswith(" else the CPU (auto).")
    assert helps["moe evaluate"]["evaluate__kind"].endswith(" say it. One of: harmful, benign.")
    assert "`asr\\[RUN]>0.1`" not in helps["moe compare"]["compare__fail_if"]  # nothing there is markup
    for option in (option for name in NAMES for option in command_named(name).params if setting_of(option.name)):
        meaning = field_of(setting_of(option.name)).description
        assert option.help.replace("\\[", "[").startswith(meaning[0].upper() + meaning[1:]), option.name


def test_a_dry_run_prints_the_settings_where_they_are_asked_for_and_does_nothing(moe, tmp_path):
    done = moe("train", "selective", "--model", "tiny", "--set", "seed=7", "--dry-run")
    settings = YAML(typ="safe", pure=True).load(done.out)
    assert (settings["seed"], settings["model"]["name"]) == (7, "tiny")
    assert (done.code, done.err, list(tmp_path.iterdir())) == (0, "", [])
    for words in (("prepare", "--model", "tiny"), ("evaluate", "tiny")):
        brief, verbose = moe(*words, "--dry-run"), moe(*words, "--dry-run", "--verbose")
        assert (brief.code, brief.err, list(tmp_path.iterdir())) == (0, "", [])
        assert "learning_rate" not in brief.out and "learning_rate" in verbose.out


def test_an_option_that_is_not_typed_leaves_the_file_its_say(moe, tmp_path):
    text = "evaluate: {items: [a.jsonl], limit: 3}\nprepare: {keep_all: true}\nmodel: {gpu: 1, threads: 2}\nseed: 5"
    (tmp_path / "moe.yaml").write_text(text)
    for name in NAMES:
        words = [*name.split()[1:], *ARGUMENTS.get(name, []), "--config", "moe.yaml", "--dry-run", "--json"]
        found = dict(flat(orjson.loads(moe(*words).out)))
        assert (found["evaluate.items"], found["evaluate.limit"], found["prepare.keep_all"]) == (["a.jsonl"], 3, True)
        assert (found["model.gpu"], found["seed"], found["model.threads"]) == ("1", 5, 2)


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["prepare", "--limit", "3", "--limit=4"], "--limit"),
        (["prepare", "--model", "tiny", "-m", "tiny"], "--model-name"),
        (["train", "baseline", "--config", "a", "--config", "b"], "--config"),
        (["compare", "a", "b", "--margin", "0.1", "--margin", "0.1"], "--margin"),
        (["runs", "list", "--registry", "a", "--registry", "b"], "--registry"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_option_of_one_value_that_is_typed_twice_is_refused_and_not_the_last_one_taken(refused, argv, name):
    done = refused(*argv)
    assert done.code == 2 and f"{name} is typed 2 times, and it takes one value" in done.err


def test_words_behind_an_option_that_is_typed_twice_are_completed_all_the_same():
    words = ["--limit", "3", "--limit", "4"]
    completed = TREE.commands["prepare"].make_context("prepare", words, resilient_parsing=True)
    assert completed.params["prepare__limit"] == 4


def test_options_of_several_values_and_switches_may_be_typed_several_times(moe):
    argv = ("--set", "train.num_epochs=2", "--set", "seed=3", "--json", "--json")
    assert (shown := orjson.loads(moe("config", "show", *argv).out))["seed"] == 3
    assert shown["train"]["num_epochs"] == 2


def test_underscore_spellings_of_the_original_scripts_are_accepted(moe):
    words = "train baseline --model_name tiny --output_dir my_out --num_epochs=2 --learning_rate 1e-4 --dry_run --json"
    settings = orjson.loads(moe(*words.split(), "--set=train.max_length=64").out)
    assert settings["model"]["name"] == "tiny"
    train = settings["train"]
    assert (train["baseline_dir"], train["num_epochs"], train["learning_rate"]) == ("my_out", 2, 1e-4)
    assert train["max_length"] == 64


@pytest.mark.parametrize("given", ["3", "1,0", ""])
def test_cards_that_are_not_those_of_the_environment_are_refused(moe, monkeypatch, given):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    refused = moe("prepare", "--gpu", "0,1", "--model", "tiny", "--dry-run")
    assert refused.code == 2 and f"CUDA_VISIBLE_DEVICES={given}" in refused.err
    assert os.environ["CUDA_VISIBLE_DEVICES"] == given


def test_cards_are_chosen_in_the_environment_before_torch_is_imported(moe):
    moe("prepare", "--gpu", "1,2", "--model", "tiny", "--dry-run")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"


@pytest.mark.parametrize(
    ("model", "data", "offline"),
    [
        ("tiny", (), True),
        ("model", (), True),
        ("run", (), False),
        ("owner/name", (), False),
        ("tiny", ("model",), True),
        ("tiny", ("model#train",), True),
        ("tiny", ("model", "owner/data@1a2b3c4"), False),
    ],
)
def test_the_libraries_stay_offline_exactly_where_model_and_data_are_local(
    moe, monkeypatch, tmp_path, model, data, offline
):
    for place in ("model/config.json", "run/manifest.json"):  # the base of a training run may lie on a hub
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).touch()
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    words = [word for words in data for word in ("--pairs", words)]
    monkeypatch.setattr("moe_cli.cli.prepare._show_dry_run", lambda session: None)  # the data is not looked at
    moe("prepare", "--model", model, *words, "--dry-run")
    assert {name: os.environ.get(name) for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")} == dict.fromkeys(
        ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"), "1" if offline else None
    )


def test_the_schema_is_one_json_document_and_knows_every_section(moe):
    schema = orjson.loads(moe("config", "schema").out)
    assert set(schema["properties"]) == set(MoeConfig.model_fields)
