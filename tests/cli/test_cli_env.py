"""`moe env`: versions, devices, memory and variables for a report; never a value that could be a secret."""

import re
import tomllib
from pathlib import Path

import orjson
import torch

from moe_cli.bench.machine import DEPENDENCIES
from moe_cli.cli.config import shown_variables
from moe_cli.codec import decode
from moe_cli.experts.grouped_products import kernel_of
from moe_cli.records import Environment

ROOT = Path(__file__).parents[2]


def test_it_prints_what_a_report_needs_in_80_columns_and_as_one_document(moe, monkeypatch, tmp_path):
    monkeypatch.setenv("MOE_SEED", "seven")  # a wrong setting is no reason to say nothing
    monkeypatch.setenv("HF_TOKEN", "hf_zorp")
    done = moe("env")
    assert done.code == 0 and "hf_zorp" not in done.out + done.err
    assert max(map(len, done.out.splitlines()[:-1])) <= 80
    assert f"torch {torch.__version__}" in " ".join(done.out.split())
    document = moe("env", "--json")
    found = decode(Environment, document.out, source="stdout")
    assert (found.variables["MOE_SEED"], found.variables["HF_TOKEN"]) == ("seven", None)
    assert found.registry == str(tmp_path / ".moe/registry") and found.num_runs == 0
    assert found.devices[0].expert_kernels == {"bfloat16": "grouped_mm", "float32": "grouped_mm"}
    assert next(iter(orjson.loads(document.out))) == "moe"


def test_a_registry_elsewhere_is_shown(moe, monkeypatch, tmp_path):
    monkeypatch.setenv("MOE_REGISTRY", str(tmp_path / "a"))
    assert str(tmp_path / "a") in orjson.loads(moe("env", "--json").out)["registry"]
    assert str(tmp_path / "b") in orjson.loads(moe("env", "--json", "--registry", tmp_path / "b").out)["registry"]


def test_only_values_that_are_known_to_hold_no_secret_are_shown():
    secret = "zorp"
    hidden = (
        "HF_TOKEN",
        "HF_SOMETHING_NEW",
        "HUGGING_FACE_HUB_TOKEN",
        "MOE_ENDPOINT__BASE_URL",
        "MOE_JUDGE__KEY_ENV",
        "MOE_EVALUATE__JUDGES",
        "MOE_UNKNOWN",
    )
    shown = {"MOE_TRAIN__NUM_EPOCHS": "3", "MOE_MODEL__NAME": "tiny", "CUDA_VISIBLE_DEVICES": "0", "HF_HOME": "/models"}
    found = shown_variables({**dict.fromkeys(hidden, secret), **shown, "OPENAI_API_KEY": secret, "PATH": "/bin"})
    assert found == {**dict.fromkeys(hidden), **shown}


def test_every_dependency_is_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for name, listed in extras.items() if name != "test" for one in listed)]
    assert sorted(DEPENDENCIES) == sorted(re.match(r"[\w.-]+", one)[0] for one in wanted)


def test_the_kernel_of_a_card_before_ampere_is_the_loop(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert kernel_of(torch.device("cuda", 0), torch.bfloat16) == "loop"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert kernel_of(torch.device("cuda", 0), torch.bfloat16) == "grouped_mm"
    assert kernel_of(torch.device("cpu"), torch.float64) == "loop"
