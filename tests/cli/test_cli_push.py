"""`moe push` at the command line: what a dry run prints, and that an error is two lines."""

from __future__ import annotations

import os

import orjson
import pytest
import torch

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.codec import encode
from moe_cli.config import MoeConfig
from moe_cli.experts import save_delta
from tests.builders import identity, training


@pytest.fixture
def small_run(tmp_path):
    """A complete selective run with the files that are sent, none of them of a real model."""
    run = tmp_path / "run"
    with open_run(run, "selective", MoeConfig(), resume=False) as writer:
        for name in ("model.safetensors", "config.json", "tokenizer.json", "README.md"):
            write_atomic(run / layout.FINAL_MODEL / name, b"{}")
        write_atomic(run / layout.METADATA, encode(training()))
        save_delta(run / layout.DELTA, {"layers.1.experts.3.down_proj": torch.zeros(2, 2)}, identity())
        writer.parents["prepare"] = "f" * 64
        Store(tmp_path / "registry").add(writer, base_fingerprint="a" * 64, model_name="tiny", device="cpu")
    return run


def test_a_dry_run_of_the_command_prints_one_document(moe, small_run):
    done = moe("push", small_run, "zorp/glim", "--dry-run", "--json")
    made = orjson.loads(done.out)
    assert (done.code, made["url"], made["private"], made["repository"]) == (0, None, True, "zorp/glim")
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {file["name"] for file in made["files"]}
    assert made["card"].startswith("---\n")


def test_a_dry_run_shows_files_and_page_and_what_to_run_next(moe, small_run):
    done = moe("push", small_run, "zorp/glim", "--dry-run", "--delta")
    assert done.code == 0 and "expert_delta.safetensors" in done.out and "# tiny, selective experts" in done.out
    assert done.out.splitlines()[-1].endswith("zorp/glim --delta")


def test_offline_is_exit_4_and_says_so(refused, small_run, monkeypatch):
    monkeypatch.setenv("ZORP_TOKEN", "hf_zorptheglim")
    done = refused("push", small_run, "zorp/glim", "--token-env", "ZORP_TOKEN")
    assert done.code == 4 and "the hub cannot be reached" in done.err and "hf_zorp" not in done.err


def test_settings_that_name_local_models_do_not_keep_it_from_the_hub(moe, small_run, monkeypatch):
    monkeypatch.setenv("MOE_MODEL__NAME", "tiny")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert moe("push", small_run, "zorp/glim", "--dry-run").code == 0
    assert "HF_HUB_OFFLINE" not in os.environ


def test_a_directory_without_a_run_is_exit_3(refused, tmp_path):
    assert refused("push", tmp_path, "zorp/glim").code == 3
