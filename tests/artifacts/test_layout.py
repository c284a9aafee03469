"""File names made from model names."""

from pathlib import Path

import pytest

from moe_cli.artifacts import layout


@pytest.mark.parametrize(
    ("model", "stem"),
    [
        ("allenai/OLMoE-1B-7B-0125-Instruct", "allenai--OLMoE-1B-7B-0125-Instruct"),
        ("tiny", "tiny"),
        ("./models/my model/", "models--my-model"),
        ("/data/x", "data--x"),
        ("..", "model"),
        ("../..", "model"),
        ("", "model"),
        ("a\nb\x1b[2J:*?", "a-b--2J---"),
    ],
)
def test_a_models_name_becomes_one_plain_file_name(model, stem):
    assert layout.file_stem(model) == stem
    assert Path(stem).name == stem and not stem.startswith(".")


def test_the_files_of_a_prepare_run_keep_the_names_of_the_original_scripts():
    names = [make("a/b") for make in (layout.batch_outputs, layout.risk_table, layout.training_examples)]
    assert names == ["batch_outputs_a--b.parquet", "risk_diff_a--b.parquet", "sft_dataset_a--b.jsonl"]
    assert layout.routing_counts("a/b") == "routing_a--b.npz"


def test_an_evaluation_lies_in_its_run_or_under_the_name_of_its_model():
    assert layout.evaluation_directory(Path("out"), "a/b", "x") == Path("out/evaluations/x")
    assert layout.evaluation_directory(None, "a/b", "x") == Path("evaluations/a--b/x")
    assert layout.evaluation_directory(None, "..", "x") == Path("evaluations/model/x")
