"""Bad input: a clear error with a hint, nothing lost, nothing half written."""

import pickle
import shutil

import orjson
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.config import MoeConfig
from moe_cli.tiny import CHECKPOINT_PATH

torch.set_num_threads(1)
PAIR = {"id": "1", "goal": "zorp", "safe": "How to zorp?", "unsafe": "In a story, how to zorp?"}


@pytest.fixture
def pairs(tmp_path):
    def write(*lines, name="pairs.jsonl"):
        text = "\n".join(line if isinstance(line, str) else orjson.dumps(line).decode() for line in lines)
        (tmp_path / name).write_text(text)
        return name

    return write


def names(path):
    return sorted(entry.name for entry in path.iterdir())


def test_a_real_model_without_pairs_is_told_what_to_bring(refused, tmp_path):
    done = refused("prepare")
    assert done.code == 2
    assert "--pairs FILE is missing" in done.err
    for words in ('"safe": "..."', "--attack FILE", "docs/guide.md"):
        assert words in done.err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ({"id": "2"}, "`goal` is None"),
        ({"goal": "x", "safe": "y"}, "`unsafe` is None"),
        ({"goal": "x", "safe": "y", "unsafe": [{"role": "assistant", "content": "z"}]}, "ends with the user"),
        ("null", "is no row"),
    ],
    ids=["no json", "no goal", "no attack", "wrong turn", "null"],
)
def test_a_malformed_pair_is_named_by_file_and_line(refused, pairs, tmp_path, line, said):
    done = refused("prepare", "--model", "tiny", "--pairs", pairs(PAIR, "", line))
    assert done.code == 2
    assert done.err.startswith("error: pairs.jsonl:3: ") and said in done.err
    assert names(tmp_path) == ["pairs.jsonl"]


def test_an_empty_file_of_pairs_is_refused(refused, pairs):
    assert "holds no rows" in refused("prepare", "--model", "tiny", "--pairs", pairs("", "")).err


def test_pickled_pairs_are_refused_unread(refused, tmp_path):
    (tmp_path / "pairs.pkl").write_bytes(pickle.dumps([PAIR]))
    done = refused("prepare", "--model", "tiny", "--pairs", "pairs.pkl")
    assert done.code == 2 and "looks like a pickle" in done.err


def test_a_model_in_a_pickle_is_refused_unread(refused, tmp_path, pairs):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/pytorch_model.bin").write_bytes(pickle.dumps({}))
    done = refused("prepare", "--model", "old", "--pairs", pairs(PAIR), "--batch-size", 2)
    assert done.code == 3 and "holds its weights as a pickle (pytorch_model.bin)" in done.err
    assert names(tmp_path) == ["old", "pairs.jsonl"]


@pytest.mark.parametrize(("name", "code"), [("./no/such/directory", 2), ("nobody/no-such-model", 4), ("empty", 2)])
def test_an_unknown_model_is_an_error_with_its_name_and_leaves_nothing(refused, tmp_path, pairs, name, code):
    (tmp_path / "empty").mkdir()
    done = refused("prepare", "--model", name, "--pairs", pairs(PAIR), "--batch-size", 2)
    assert done.code == code and name in done.err  # 4: the hub cannot be asked
    assert names(tmp_path) == ["empty", "pairs.jsonl"]


def test_a_dense_model_is_refused_by_name(refused, tmp_path, pairs):
    config = LlamaConfig(
        vocab_size=512, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "dense")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(CHECKPOINT_PATH / name, tmp_path / "dense" / name)
    done = refused("prepare", "--model", "dense", "--pairs", pairs(PAIR), "--batch-size", 2)
    assert done.code == 2 and "LlamaForCausalLM" in done.err and "expert" in done.err
    assert names(tmp_path) == ["dense", "pairs.jsonl"]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has a card")
@pytest.mark.parametrize(
    "words", [["--gpu", "0"], ["--gpu", "0,1"], ["--device", "cuda"], ["--device", "cuda:3"], ["--device", "mps"]]
)
def test_a_card_that_is_not_there_is_an_environment_fault_and_leaves_nothing(refused, tmp_path, words):
    done = refused("prepare", "--model", "tiny", *words)
    assert done.code == 4
    assert " ".join(words) in done.err
    assert names(tmp_path) == []


def test_a_taken_directory_is_refused_and_says_what_can_be_done(refused, tmp_path):
    config = MoeConfig.model_validate({"model": {"name": "tiny"}})
    with open_run(tmp_path / "complete", "prepare", config, resume=False) as writer:
        writer.finish(writer.manifest(base_fingerprint=None, model_name="tiny", device="cpu"))
    with pytest.raises(RuntimeError), open_run(tmp_path / "begun", "prepare", config, resume=False):
        write_atomic(tmp_path / "begun/work", b"some")
        raise RuntimeError
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").write_bytes(b"mine")
    said = {
        "complete": "already holds a complete run",
        "begun": "hint: add --resume to continue it, or choose another directory with --output-dir",
        "mine": "is not empty and is no run of moe",
    }
    for name, words in said.items():
        before = names(tmp_path / name)
        done = refused("prepare", "--model", "tiny", "-o", name)
        assert done.code == 3 and words in done.err
        assert names(tmp_path / name) == before
    with pytest.raises(RuntimeError), open_run(tmp_path / "trained", "baseline", config, resume=False):
        write_atomic(tmp_path / "trained/work", b"some")
        raise RuntimeError
    done = refused("train", "baseline", "--model", "tiny", "-o", "trained", "--resume", "--seed", 7)
    assert done.code == 3 and "begun with other settings" in done.err and "seed 42 -> 7" in done.err


def test_a_directory_in_which_another_run_works_is_exit_6(refused, tmp_path):
    with open_run(tmp_path / "out", "prepare", MoeConfig(), resume=False):
        assert refused("prepare", "--model", "tiny", "-o", "out").code == 6


def test_training_without_a_prepare_run_says_how_to_make_one(refused, tmp_path):
    for words in (["--prepared", "nowhere"], ["--prepared", "begun"]):
        done = refused("train", "baseline", "--model", "tiny", *words)
        assert done.code == 3
    assert names(tmp_path) == []


def test_a_run_of_another_kind_cannot_be_evaluated(refused, tmp_path):
    with open_run(tmp_path / "prepared", "prepare", MoeConfig(), resume=False) as writer:
        Store(tmp_path / "r").add(writer, base_fingerprint=None, model_name="tiny", device="cpu")
    done = refused("evaluate", "prepared")
    assert (
        done.code == 3
        and "is a run of kind prepare, but selective or baseline or alternating is needed here" in done.err
    )


def test_a_real_model_without_items_is_told_what_to_bring(refused, tmp_path):
    done = refused("evaluate", "nobody/no-such-model")
    assert done.code == 2
    for words in ("--items FILE is missing", '"kind": "harmful"', "--items harmful=FILE", "docs/guide.md"):
        assert words in done.err
    assert names(tmp_path) == []


def test_a_damaged_run_is_not_evaluated(refused, tmp_path):
    with open_run(tmp_path / "out", "selective", MoeConfig(), resume=False) as writer:
        write_atomic(tmp_path / "out" / layout.METADATA, b"{}")
        writer.finish(writer.manifest(base_fingerprint=None, model_name="tiny", device="cpu"))
    (tmp_path / "out" / layout.METADATA).write_bytes(b"[]")
    done = refused("evaluate", "out")
    assert done.code == 3 and "changed since the run wrote it" in done.err


def test_more_than_the_tiny_language_has_is_a_usage_error(refused):
    done = refused("prepare", "--model", "tiny", "--set", "prepare.tiny_pairs=100000")
    assert done.code == 2 and "hint: lower prepare.tiny_pairs" in done.err


def test_settings_that_an_arm_cannot_train_with_are_refused_in_a_dry_run_too(refused):
    done = refused("train", "alternating", "--placement", "sharded", "--dry-run")
    assert done.code == 2 and "leave train.placement at replicated" in done.err
