"""The pickles of the original scripts: builtin types only, the same numbers as the tables, only when asked."""

from __future__ import annotations

import io
import pickle
import pickletools

import pytest
from pyarrow import parquet

from moe_cli.artifacts import Store
from moe_cli.codec import decode_lines
from moe_cli.prepare import stage
from moe_cli.records import TrainingExample

NAMES = ("batch_outputs_tiny.pkl", "risk_diff_tiny.pkl", "sft_dataset_tiny.pkl")


class NothingImported(pickle.Unpickler):
    """Refuses a pickle that names any class or function."""

    def find_class(self, module, name):
        raise AssertionError(f"the pickle imports {module}.{name}")


def loaded(path):
    data = path.read_bytes()
    assert next(pickletools.genops(data))[1] == 4
    return NothingImported(io.BytesIO(data)).load()


@pytest.fixture(scope="module")
def made(small_settings, tmp_path_factory):
    path = tmp_path_factory.mktemp("pickled")
    config = small_settings(path, prepare={"tiny_pairs": 12, "pickle": True})
    return stage.run(config, Store(path / "registry"), lambda _: None)


def test_they_hold_what_the_run_s_own_files_hold(made):
    outputs, risk, examples = (loaded(made.path / name) for name in NAMES)
    assert outputs == parquet.read_table(made.path / "batch_outputs_tiny.parquet").to_pylist()
    table = parquet.read_table(made.path / "risk_diff_tiny.parquet").to_pylist()
    pooled = {(row["layer"], row["expert"]): row for row in table if row["batch"] is None}
    assert len(risk) == len(pooled) == 64
    for row in risk:
        same = pooled[row["layer"], row["expert"]]
        assert row["risk_diff"] == pytest.approx(same["risk_diff"], abs=1e-12)
        assert row["selected"] is same["selected"]
    recorded = list(decode_lines(TrainingExample, made.path / "sft_dataset_tiny.jsonl"))
    assert [row["id"] for row in examples] == [example.id for example in recorded]
    assert examples[0]["messages"][-1] == {"role": "assistant", "content": recorded[0].messages[-1].content}


def test_the_counts_of_a_side_are_all_its_tokens(made):
    risk = loaded(made.path / NAMES[1])
    assert len({row["a1"] + row["d1"] for row in risk}) == len({row["a2"] + row["d2"] for row in risk}) == 1
    tokens = risk[0]["a1"] + risk[0]["d1"]
    top_k = made.summary.base.top_k
    assert sum(row["a1"] for row in risk if row["layer"] == 0) == top_k * tokens


def test_without_the_option_no_pickle_is_written(small_settings, tmp_path):
    config = small_settings(tmp_path, prepare={"tiny_pairs": 12})
    made = stage.run(config, Store(tmp_path / "registry"), lambda _: None)
    assert not list(made.path.glob("*.pkl"))
