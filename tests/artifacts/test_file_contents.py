"""A digest that fits says nothing of what is in a file: other content is an error that names it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from moe_cli.artifacts import FinishedRun, layout, open_run
from moe_cli.artifacts.examples import plain_forms_of
from moe_cli.artifacts.files import naming_file, sha256_of
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.prepare.routing_file import read_counts
from moe_cli.records import Manifest
from moe_cli.train import checkpoint, tensor_files

NAMES = ("layers", "top_k", "pair_ids", "clusters", "routed", "seen", "gates")


def test_what_a_library_finds_wrong_names_the_file_and_keeps_the_reason(tmp_path):
    with (
        pytest.raises(ArtifactError, match=r"x\.npy does not hold what it should: no such axis"),
        naming_file(tmp_path / "x.npy"),
    ):
        raise IndexError("no such axis\nmore")
    with pytest.raises(UsageError, match="as it was"), naming_file(tmp_path):
        raise UsageError("as it was", hint="")
    with pytest.raises(MemoryError), naming_file(tmp_path):
        raise MemoryError


@pytest.mark.parametrize(
    "arrays",
    [
        {name: np.zeros(()) for name in NAMES},
        {name: np.array(["a"]) for name in NAMES},
        {name: np.zeros((2, 2)) for name in NAMES},
        {"layers": np.arange(3)},
    ],
    ids=["scalars", "texts", "squares", "one"],
)
def test_counts_of_other_shapes_are_refused_by_name(tmp_path, arrays):
    file = tmp_path / "routing.npz"
    np.savez(file, **arrays)
    with pytest.raises(ArtifactError, match=r"routing\.npz"):
        read_counts(file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04]\x94."])
def test_counts_that_are_no_archive_are_refused_by_name(tmp_path, content):
    (tmp_path / "routing.npz").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"routing\.npz"):
        read_counts(tmp_path / "routing.npz")


def test_answers_without_their_columns_are_refused_by_name(tmp_path):
    name = layout.batch_outputs("tiny")
    pq.write_table(pa.table({"side": ["safe"], "other": [1]}), tmp_path / name)
    manifest = Manifest(
        schema_version=2,
        kind="prepare",
        id="prepare-20260101-000000-0badcafe",
        files={name: sha256_of(tmp_path / name)},
        parents={},
        base_fingerprint=None,
        model_name="tiny",
        config={},
        packages={},
        seed=1,
        device="cpu",
        started="",
        finished="",
    )
    with pytest.raises(ArtifactError, match=name):
        plain_forms_of(FinishedRun(tmp_path, manifest, ""), "tiny")


@pytest.mark.parametrize("tensors", [{}, {"cpu": torch.zeros(3)}, {"cpu": torch.zeros(3, dtype=torch.uint8)}])
def test_a_state_of_random_generators_that_is_none_is_refused_by_name(tmp_path, tensors):
    save_file(tensors, tmp_path / checkpoint.RANDOM)
    with pytest.raises(ArtifactError, match=checkpoint.RANDOM):
        tensor_files.load_random_state(tmp_path / checkpoint.RANDOM, 0)


def test_a_state_of_another_optimizer_is_refused_by_name(tmp_path):
    weight = torch.nn.Parameter(torch.zeros(2, 3))
    optimizer = torch.optim.AdamW([weight])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    for tensors in ({"other/exp_avg": torch.zeros(2, 3)}, {"weight/exp_avg": torch.zeros(7)}):
        save_file(tensors, tmp_path / checkpoint.OPTIMIZER)
        with pytest.raises(ArtifactError, match=checkpoint.OPTIMIZER):
            checkpoint.load_optimizer(tmp_path, {"weight": weight}, optimizer, schedule)


def test_a_run_inside_a_complete_run_is_refused_but_for_an_evaluation(tmp_path):
    with open_run(tmp_path / "run", "selective", MoeConfig(), resume=False) as writer:
        writer.finish(writer.manifest(base_fingerprint=None, model_name="tiny", device="cpu"))
    with (
        pytest.raises(ArtifactError, match="which is a complete run"),
        open_run(tmp_path / "run/deep/new", "prepare", MoeConfig(), resume=False),
    ):
        raise AssertionError("the block must not run")
    assert not (tmp_path / "run/deep").exists()
    with open_run(tmp_path / "run/evaluations/default", "evaluation", MoeConfig(), resume=False):
        pass
