"""`moe bench`: one document, with keys that two versions can be compared by."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from moe_cli.bench import stage
from moe_cli.bench.arm_rows import Failure
from moe_cli.records import BENCHMARK_SCHEMA_VERSION, BenchmarkRow
from moe_cli.views.benchmark_tables import bench_markdown, bench_view
from moe_cli.views.console import stdout_console
from tests.bench.small_benchmark import BATCH, CONFIG, SHAPE, small_plan
from tests.cli.conftest import moe, refused

__all__ = ["moe", "refused"]

torch.set_num_threads(1)

SMALL = [word for name, size in (SHAPE | BATCH).items() for word in (f"--{name.replace('_', '-')}", size)]
SHORT = ["--arms", "selective,full_grouped_mm", "--shares", "0,1", "--repeats", "1", "--no-memory", "--threads", "1"]

SPREAD = {"median", "lower", "upper", "least", "most", "n"}
ROW = {
    "name", "selected", "status", "note", "seconds", "time", "tokens_per_second", "to_full", "to_floor", "bytes",
    "peak_memory_bytes", "peak_memory_of", "experts_dtype",
}  # fmt: skip
KEYS = {
    "": {
        "schema_version", "moe", "measured", "plan", "seed", "machine", "model", "placement", "num_rounds",
        "tokens_per_step", "experts_dtype", "faster_floor", "rows", "ratios", "shares",
    },
    "plan": {
        "preset", "model", "shape", "dtype", "rows", "length", "selected", "arms", "shares", "lora_rank",
        "forward_tokens",
        "checkpointing", "repeats", "memory",
    },
    "plan.shape": {
        "family", "hidden", "width", "layers", "experts", "top_k", "vocabulary", "heads", "kv_heads", "head_dim",
    },
    "machine": {
        "device", "device_name", "device_memory_bytes", "processor", "num_cores", "num_threads", "python", "packages",
    },
    "model": {"architecture", "total_params", "expert_params", "layers", "num_experts", "top_k", "dtype"},
    "rows.0": ROW,
    "rows.0.time": SPREAD,
    "rows.0.bytes": {
        *("trained_params", "gradients", "moments", "masters", "step_counters"),
        *("saved_for_backward", "saved_by_loss"),
    },
    "ratios.0": {"row", "reference", "ratio"},
    "shares.0": {"selected", "row", "share_of_parameters", "to_full"},
}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return stage.run(CONFIG, small_plan(shares="0,1,8"), lambda record: None)


def at(document, path):
    for step in filter(None, path.split(".")):
        document = document[int(step) if step.isdecimal() else step]
    return document


def test_json_is_one_document_with_the_keys_of_this_schema_version(moe, tmp_path):
    done = moe("bench", *SMALL, *SHORT, "--json", "-o", "kept/bench.json")
    assert done.code == 0
    document = json.loads(done.out)
    assert document["schema_version"] == BENCHMARK_SCHEMA_VERSION == 1
    assert {path: set(at(document, path)) for path in KEYS} == KEYS
    assert json.loads((tmp_path / "kept" / "bench.json").read_text()) == document
    assert done.err.splitlines()[-1] == "wrote kept/bench.json; next: moe train --help"


def test_markdown_prints_the_tables_alone(moe):
    done = moe("bench", *SMALL, *SHORT, "--markdown")
    lines = done.out.splitlines()
    assert done.code == 0
    tables = [line for line in lines if line.startswith("|")]
    assert {len(table.split(" | ")) for table in tables if table.startswith("| selective ")} == {7, 5, 2}
    assert all(line.endswith(" |") for line in tables)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "olmo"], "there is no preset 'olmo'"),
        (["--json", "--markdown"], "both print the result"),
        (["-o", "."], ". is no regular file"),
        (["--model", "tiny", "--layers", "2"], "--layers makes a random model"),
        (["--hidden", "12"], "--hidden 12 is no multiple of 8"),
        (["--repeats", "0"], "repeats"),
    ],
)
def test_words_that_make_no_benchmark_are_refused(refused, words, said):
    done = refused("bench", *words)
    assert done.code == 2
    assert said in done.err


def test_the_tables_fit_80_columns_and_name_every_row(made, capsys):
    stdout_console().print(bench_view(made))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for name in ("forward (library)", "floor (moe)", "selective 8", "full grouped_mm", "zeroed gradients", "LoRA"):
        assert any(line.split("  ")[0].strip() == name for line in lines), name


def test_a_row_without_figures_shows_why_and_no_zero(made, capsys):
    fault = Failure("out of memory", "needs 110.7 GB without activations, 22.0 GB are available")
    empty = {field.name: None for field in dataclasses.fields(BenchmarkRow)}
    row = BenchmarkRow(**empty | {"name": "full_eager", "status": fault.status, "note": fault.note, "seconds": ()})
    record = dataclasses.replace(made, rows=(*made.rows[:1], row), ratios=(), shares=())
    stdout_console().print(bench_view(record))
    shown = capsys.readouterr().out
    assert "full eager: out of memory: needs 110.7 GB" in shown.replace("\n", " ")
    lines = [line for line in bench_markdown(record).splitlines() if line.startswith("| full eager")]
    assert lines == [
        "| full eager | out of memory | - | - | - | - | - |",
        "| full eager | - | - | - | - |",
    ]
