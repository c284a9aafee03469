"""Defaults < file < environment < --set < flag; every problem of every source at once, with its place."""

import pytest

from moe_cli.config import MoeConfig, load_config, setting_names
from moe_cli.errors import UsageError


def resolved(file=None, environment=None, assignments=(), flags=None):
    return load_config(file=file, environment=environment or {}, assignments=assignments, flags=flags or {})


def refusal(**sources):
    with pytest.raises(UsageError) as found:
        resolved(**sources)
    return found.value.message


@pytest.fixture
def yaml(tmp_path):
    def write(text):
        file = tmp_path / "moe.yaml"
        file.write_text(text)
        return file

    return write


def test_each_source_wins_over_the_ones_before_it(yaml):
    sources = {
        "file": yaml("train: {num_epochs: 11}"),
        "environment": {"MOE_TRAIN__NUM_EPOCHS": "12"},
        "assignments": ["train.num_epochs=13"],
        "flags": {"train.num_epochs": 14},
    }
    seen = [resolved().train.num_epochs]
    seen += [resolved(**dict(list(sources.items())[:n])).train.num_epochs for n in range(1, 5)]
    assert seen == [3, 11, 12, 13, 14]


def test_a_later_source_changes_one_setting_and_leaves_its_neighbours(yaml):
    config = resolved(
        file=yaml("train: {num_epochs: 11, learning_rate: 1e-3}"), assignments=["train.num_epochs=1", "seed=7"]
    )
    assert (config.train.num_epochs, config.train.learning_rate, config.seed) == (1, 1e-3, 7)


def test_the_last_of_two_assignments_wins():
    assert resolved(assignments=["seed=1", "seed=2"]).seed == 2


def test_dotted_and_nested_keys_of_a_file_mean_the_same(yaml):
    assert resolved(file=yaml("train.num_epochs: 5")) == resolved(file=yaml("train:\n  num_epochs: 5"))


def test_every_setting_has_an_environment_variable_that_reaches_it():
    for name in setting_names():
        variable = "MOE_" + name.upper().replace(".", "__")
        assert f"{name}: " in refusal(environment={variable: '{"no": "such value"}'}), name


def test_variables_of_other_programs_are_left_alone():
    assert resolved(environment={"MOE_HOME": "x", "PATH": "y", "XMOE_TRAIN__SEED": "z"}) == MoeConfig()


def test_all_problems_of_all_sources_are_told_at_once_with_their_places(yaml):
    file = yaml("train: {num_epochs: 0}\nmodell: x")
    message = refusal(
        file=file,
        environment={"MOE_SEED": "-1"},
        assignments=["nonsense", "evaluate.limit=half"],
        flags={"prepare.safe_ratio": 2.0},
    )
    head, *lines = message.splitlines()
    assert head == "the configuration has 6 problems"
    for words in (
        "--set nonsense: write it as section.key=value",
        f"train.num_epochs: Input should be greater than or equal to 1, found 0 (from {file})",
        f"modell: unknown key, did you mean model? (from {file})",
        "(from the environment variable MOE_SEED)",
        "evaluate.limit: Input should be a valid integer, unable to parse string as an integer, found 'half' "
        "(from --set evaluate.limit)",
        "prepare.safe_ratio: Input should be less than or equal to 1, found 2.0 (from the command line)",
    ):
        assert sum(words in line for line in lines) == 1, words


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("train.lerning_rate", "train.learning_rate"),
        ("learning_rate", "train.learning_rate"),
        ("prepare.tresholt", "prepare.threshold"),
        ("model.nam", "model.name"),
        ("completely", None),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(typed, meant):
    message = refusal(assignments=[f"{typed}=1"])
    assert f"{typed}: unknown key" in message
    assert f", did you mean {meant}?" in message if meant else "did you mean" not in message


def test_a_problem_is_not_blamed_on_a_key_that_only_begins_like_it(yaml):
    message = refusal(file=yaml("train: {max: 1}"), assignments=["train.max_share=9"])
    blamed = next(line for line in message.splitlines() if "train.max_share:" in line)
    assert "--set" in blamed and "moe.yaml" not in blamed


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["prepare.method=file"], "`file` and prepare.selection_file belong together"),
        (["prepare.selection_file=x.json"], "`file` and prepare.selection_file belong together"),
        (["prepare.method=random", "prepare.budget=none"], "set prepare.budget"),
        (["model.gpu=0", "model.device=cpu"], "model.device is `cpu`"),
        (["model.gpu=0", "model.device=mps"], "model.device is `mps`"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_plain_words(assignments, words):
    message = refusal(assignments=assignments)
    assert words in message
    assert "Value error" not in message and "{" not in message


@pytest.mark.parametrize("text", ["5%", "5 %", "0.05", " 5% "])
def test_a_budget_may_be_a_share_or_a_percentage(text):
    assert resolved(flags={"prepare.budget": text}).prepare.budget == 0.05
    assert resolved(assignments=[f"prepare.budget={text}"]).prepare.budget == 0.05


@pytest.mark.parametrize("text", ["none", "None", "NONE"])
def test_no_budget_is_none(text):
    assert resolved(flags={"prepare.budget": text}).prepare.budget is None


@pytest.mark.parametrize("text", ["0", "0%", "500%", "-5%", "x%", "nan", "nan%", "inf", "half", "1.5"])
def test_a_budget_that_is_no_share_is_refused(text):
    assert "prepare.budget: " in refusal(flags={"prepare.budget": text})


@pytest.mark.parametrize("name", ["train.learning_rate", "train.weight_decay", "compare.margin", "prepare.threshold"])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_no_setting_is_nan_or_infinite(name, number):
    assert name in refusal(assignments=[f"{name}=.{number}" if number != "-inf" else f"{name}=-.inf"])
    assert name in refusal(flags={name: float(number)})


@pytest.mark.parametrize("name", [n for n in setting_names() if isinstance(getattr(MoeConfig(), n, None), int)])
def test_numbers_too_large_for_the_files_are_refused(name):
    assert f"{name}: " in refusal(flags={name: 2**70})


def test_every_whole_number_has_an_upper_bound():
    names = [
        f"{section}.{key}"
        for section, found in MoeConfig().model_dump().items()
        if isinstance(found, dict)
        for key, value in found.items()
        if type(value) is int
    ]
    assert len(names) > 10
    for name in names:
        assert f"{name}: " in refusal(flags={name: 2**70}), name


@pytest.mark.parametrize("value", ["0", "0,1", "12,3"])
def test_cards_are_a_word_from_every_source(value, yaml):
    number = resolved(file=yaml(f"model: {{gpu: '{value}'}}")).model.gpu
    assert number == value
    assert resolved(assignments=[f"model.gpu={value}"]).model.gpu == value
    assert resolved(environment={"MOE_MODEL__GPU": value}).model.gpu == value


def test_one_card_may_be_a_bare_number_in_a_file(yaml):
    assert resolved(file=yaml("model: {gpu: 0}")).model.gpu == "0"


@pytest.mark.parametrize("value", ["", "0,", ",0", "a", "-1", "0 1"])
def test_cards_that_are_no_list_of_numbers_are_refused(value):
    assert "model.gpu" in refusal(flags={"model.gpu": value})


@pytest.mark.parametrize("device", ["cude", "cuda:", "cuda:x", "gpu", "CPU", "cpu:1", "mps:0"])
def test_a_device_that_is_none_is_refused_before_torch_is_asked(device):
    assert "model.device" in refusal(flags={"model.device": device})


def test_words_that_look_like_numbers_stay_words():
    config = resolved(assignments=["model.revision=0123", "evaluate.name=2024", "model.name=2024-01-01"])
    assert (config.model.revision, config.evaluate.name, config.model.name) == ("0123", "2024", "2024-01-01")


def test_lists_and_none_are_written_as_in_yaml():
    config = resolved(assignments=["evaluate.items=[a.jsonl, b.jsonl]", "train.max_share=null"])
    assert config.evaluate.items == ("a.jsonl", "b.jsonl")
    assert config.train.max_share is None


def test_a_value_may_hold_an_equals_sign():
    assert resolved(assignments=["model.name=a=b"]).model.name == "a=b"


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "a b"])
def test_the_name_of_an_evaluation_is_one_directory(name):
    assert "evaluate.name" in refusal(flags={"evaluate.name": name})


def test_a_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        MoeConfig().train.num_epochs = 4


@pytest.mark.parametrize(
    ("text", "trackers"),
    [
        ("tensorboard", ("tensorboard",)),
        ("tensorboard, wandb", ("tensorboard", "wandb")),
        ("[tensorboard, wandb]", ("tensorboard", "wandb")),
        ("none", ()),
        ("[]", ()),
        ("", ()),
        ("null", ()),
    ],
)
def test_trackers_are_a_word_or_several_in_every_source(yaml, text, trackers):
    assert resolved(file=yaml(f"train:\n  report_to: {text}")).train.report_to == trackers
    assert resolved(assignments=[f"train.report_to={text}"]).train.report_to == trackers
    assert resolved(environment={"MOE_TRAIN__REPORT_TO": text}).train.report_to == trackers
