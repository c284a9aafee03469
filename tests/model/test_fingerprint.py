"""A fingerprint is of names, shapes, dtypes and bytes, and of nothing else."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn

from moe_cli.model.tensors import digest_of_tensors, stored_tensors, weights_fingerprint
from tests.experts.families import olmoe


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).view(2, 3))
        self.register_buffer("kept", torch.ones(2))
        self.register_buffer("passing", torch.ones(2), persistent=False)


def test_the_digest_is_the_written_down_one():
    header = b"w\nfloat32\n[2]\n"
    data = torch.tensor([1.0, 2.0])
    expected = hashlib.sha256(len(header).to_bytes(8, "little") + header + data.numpy().tobytes()).hexdigest()
    assert digest_of_tensors([("w", data)]) == expected


def test_names_shapes_dtypes_and_bytes_all_count():
    data = torch.zeros(4)
    digests = {
        digest_of_tensors([("w", data)]),
        digest_of_tensors([("v", data)]),
        digest_of_tensors([("w", data.view(2, 2))]),
        digest_of_tensors([("w", data.view(torch.int32))]),
        digest_of_tensors([("w", torch.tensor([0.0, 0.0, 0.0, -0.0]))]),  # equal numbers, other bytes
    }
    assert len(digests) == 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool])
def test_every_dtype_has_a_digest(dtype):
    one, other = torch.zeros(3, dtype=dtype), torch.ones(3, dtype=dtype)
    assert digest_of_tensors([("w", one)]) != digest_of_tensors([("w", other)])


def test_scalars_empty_and_strided_tensors_have_one():
    assert digest_of_tensors([("w", torch.tensor(1.0))]) != digest_of_tensors([("w", torch.tensor(2.0))])
    assert digest_of_tensors([("w", torch.zeros(0, 3))]) != digest_of_tensors([("w", torch.zeros(3, 0))])
    strided = torch.arange(6.0).view(2, 3).T
    assert digest_of_tensors([("w", strided)]) == digest_of_tensors([("w", strided.contiguous())])


def test_one_weight_of_a_model_changes_its_fingerprint():
    model = olmoe()
    before = weights_fingerprint(model)
    assert weights_fingerprint(olmoe()) == before
    with torch.no_grad():
        model.model.layers[1].mlp.experts.down_proj[7, 31, 15] += 1e-3
    assert weights_fingerprint(model) != before


def test_persistent_buffers_count_and_others_do_not():
    assert [name for name, _ in stored_tensors(Small())] == ["kept", "weight"]
    one, other = Small(), Small()
    other.passing += 1
    assert weights_fingerprint(one) == weights_fingerprint(other)
    other.kept += 1
    assert weights_fingerprint(one) != weights_fingerprint(other)


def test_a_tied_weight_counts_once_under_its_first_name():
    model = Small()
    model.again = model.weight
    assert [name for name, _ in stored_tensors(model)] == ["again", "kept"]


def test_equal_but_untied_weights_count_twice():
    model = Small()
    model.again = nn.Parameter(model.weight.detach().clone())
    assert [name for name, _ in stored_tensors(model)] == ["again", "kept", "weight"]


def test_saving_and_loading_keeps_the_fingerprint(tmp_path):
    model = olmoe()
    model.save_pretrained(tmp_path)
    assert weights_fingerprint(type(model).from_pretrained(tmp_path)) == weights_fingerprint(model)


def test_a_model_without_storage_is_refused():
    with pytest.raises(ValueError, match="meta"):
        weights_fingerprint(Small().to("meta"))
