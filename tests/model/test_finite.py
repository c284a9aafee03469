"""NaN and infinity are found in every tensor of weights, whatever its dtype, and a base that holds one is refused."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from moe_cli.config import ModelConfig
from moe_cli.errors import NumericError
from moe_cli.model.final_model import write_final_model
from moe_cli.model.load import load_model
from moe_cli.model.tensors import refuse_not_finite
from moe_cli.tiny import CHECKPOINT_PATH

TINY = ModelConfig(name="tiny", device="cpu")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_among_many_is_found_and_its_tensor_named(dtype, value):
    if dtype == torch.float8_e4m3fn and not math.isnan(value):
        pytest.skip("it has no infinity")
    good = torch.linspace(-1, 1, 1000).to(dtype)
    refuse_not_finite([("a", good), ("ids", torch.arange(3)), ("none", torch.ones(0))], "it", hint="")
    for place in (0, 500, 999):
        bad = good.clone()
        bad[place] = value
        with pytest.raises(NumericError, match=r"^it holds NaN or infinity in b and 1 more tensors$"):
            refuse_not_finite([("a", good), ("b", bad), ("c", bad)], "it", hint="")


def test_the_largest_numbers_are_numbers():
    for dtype in DTYPES[:-1]:
        limits = torch.finfo(dtype)
        refuse_not_finite([("a", torch.tensor([limits.max, limits.min, limits.tiny], dtype=dtype))], "it", hint="")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_base_with_a_weight_that_is_no_number_is_refused_by_name(tmp_path, value):
    base = shutil.copytree(CHECKPOINT_PATH, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    name = next(name for name in weights if name.endswith("lm_head.weight") or "embed" in name)
    weights[name].view(-1)[7] = value
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NumericError, match=name):
        load_model(TINY.model_copy(update={"name": str(base)}))


def test_a_base_that_does_not_fit_into_the_dtype_it_is_opened_in_is_refused(tmp_path):
    base = shutil.copytree(CHECKPOINT_PATH, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = 1e6
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    load_model(TINY.model_copy(update={"name": str(base)}))
    with pytest.raises(NumericError, match="opened in float16"):
        load_model(TINY.model_copy(update={"name": str(base), "dtype": "float16"}))


@pytest.mark.parametrize("quantised", [False, True], ids=["the base's files", "as transformers writes"])
def test_no_final_model_is_written_with_a_weight_that_is_no_number(tmp_path, quantised):
    base = shutil.copytree(CHECKPOINT_PATH, tmp_path / "base")
    if quantised:  # so that its files are not taken as they are
        (base / "model.safetensors").rename(base / "other.safetensors")
        index = dict.fromkeys(load_file(base / "other.safetensors"), "other.safetensors")
        (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    loaded = load_model(TINY.model_copy(update={"name": str(base)}))
    if quantised:
        (base / "other.safetensors").unlink()
    with torch.no_grad():
        next(loaded.model.parameters()).view(-1)[3] = math.inf
    (tmp_path / "final").mkdir()
    with pytest.raises(NumericError, match="the final model, which was not written, holds NaN or infinity in"):
        write_final_model(loaded, base, tmp_path / "final")
    assert not list((tmp_path / "final").glob("*.safetensors"))
