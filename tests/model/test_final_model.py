"""A final model is its base with other weights: names, files, dtypes and everything else are the base's."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from moe_cli.config import ModelConfig
from moe_cli.errors import ArtifactError, EnvironmentFaultError
from moe_cli.model.directory import base_directory, license_of
from moe_cli.model.final_model import write_final_model
from moe_cli.model.load import LoadedModel, load_model
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.tiny import CHECKPOINT_PATH
from tests.experts.checkpoints import layout_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEMPLATE = "additional_chat_templates/zorp.jinja"
INDEX = "model.safetensors.index.json"


def opened(directory: Path, dtype: str = "auto") -> LoadedModel:
    return load_model(ModelConfig(name=str(directory), device="cpu", dtype=dtype))


def trained(loaded: LoadedModel) -> LoadedModel:
    """The model with every weight that is loaded changed, as a baseline changes them."""
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(0.25)
    return loaded


def final_of(loaded: LoadedModel, base: Path, directory: Path) -> Path:
    directory.mkdir()
    write_final_model(loaded, base, directory)
    return directory


def sharded(base: Path, num_files: int = 3) -> Path:
    """The same checkpoint in several files, in no order that a library would choose."""
    tensors = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    names = sorted(tensors, key=lambda name: name[::-1])
    shards = {f"model-{n + 1:05}-of-{num_files:05}.safetensors": names[n::num_files] for n in range(num_files)}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, base / file, metadata={"format": "pt"})
    total = sum(tensor.nbytes for tensor in tensors.values())
    weight_map = {name: file for file, part in shards.items() for name in part}
    (base / INDEX).write_text(json.dumps({"metadata": {"total_size": total, "by": "a"}, "weight_map": weight_map}))
    return base


@pytest.fixture
def base(tmp_path):
    """A copy of the tiny checkpoint with what else a base holds beside it."""
    base = tmp_path / "base"
    shutil.copytree(CHECKPOINT_PATH, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"note": "zörp", "auto_map": {"AutoConfig": "zorp.Glim"}}))
    for name in ("LICENSE", "NOTICE", "preprocessor_config.json", "added_tokens.json", TEMPLATE):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text("{}")
    return base


def test_every_file_of_the_base_but_weights_code_data_and_page_is_there_byte_for_byte(base, tmp_path):
    weights = ("pytorch_model.bin", "model.gguf", "consolidated.safetensors", "tf_model.h5", "flax_model.msgpack")
    parts = ("original/params.json", "onnx/model.onnx", "comparison/report.html", "pairs.jsonl", "prompts.csv")
    for name in (*weights, *parts, "modeling_zorp.py", ".gitattributes", ".cache/token", "README.md"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text("zorp")
    final = final_of(trained(opened(base)), base, tmp_path / "final")
    found = {path.relative_to(final).as_posix() for path in final.rglob("*") if path.is_file()}
    kept = {path.name for path in CHECKPOINT_PATH.iterdir()} | {"LICENSE", "NOTICE", "preprocessor_config.json"}
    assert found == kept | {"added_tokens.json", TEMPLATE}
    for name in found - {"model.safetensors"}:
        assert (final / name).read_bytes() == (base / name).read_bytes(), name


def test_training_settings_of_a_library_do_not_reach_the_config(base, tmp_path):
    loaded = opened(base)
    loaded.model.config.use_cache = False  # as the Trainer sets it
    final = final_of(loaded, base, tmp_path / "final")
    assert (final / "config.json").read_bytes() == (base / "config.json").read_bytes()
    texts = [path.read_bytes() for path in final.rglob("*") if path.is_file()]
    assert not any(
        leak in text for text in texts for leak in (str(tmp_path).encode(), b"local_files_only", b"is_local")
    )


def test_shards_are_the_shards_of_the_base(base, tmp_path):
    loaded = trained(opened(sharded(base)))
    final = final_of(loaded, base, tmp_path / "final")
    assert layout_of(final) == layout_of(base) and len(layout_of(final)) == 3
    assert (final / INDEX).read_bytes() == (base / INDEX).read_bytes()
    assert opened(final).identity.fingerprint == weights_fingerprint(loaded.model)


def test_the_whole_file_is_read_before_an_index_as_transformers_reads_it(base, tmp_path):
    (base / INDEX).write_text(json.dumps({"weight_map": {"zorp": "model-00001-of-00001.safetensors"}}))
    final = final_of(opened(base), base, tmp_path / "final")
    assert layout_of(final) == layout_of(base) and not (final / INDEX).exists()


def test_each_tensor_has_the_dtype_of_the_base_and_what_did_not_change_its_digits(base, tmp_path):
    tensors = load_file(base / "model.safetensors")
    mixed = {name: t if "norm" in name else t.to(torch.bfloat16) for name, t in tensors.items()}
    save_file(mixed, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    loaded = opened(base)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    final = final_of(loaded, base, tmp_path / "untouched")
    assert all(torch.equal(t, mixed[name]) for name, t in load_file(final / "model.safetensors").items())
    changed = final_of(trained(loaded), base, tmp_path / "trained")
    assert layout_of(changed) == layout_of(base)
    assert opened(changed).identity.fingerprint == weights_fingerprint(loaded.model)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_that_was_opened_in_another_dtype_opens_in_it_again(base, tmp_path, dtype):
    loaded = trained(opened(sharded(base), dtype))
    final = final_of(loaded, base, tmp_path / "final")
    again = opened(final)
    assert (again.identity.dtype, again.identity.fingerprint) == (dtype, weights_fingerprint(loaded.model))
    config, own = (json.loads((place / "config.json").read_text()) for place in (final, base))
    assert config == own | {"dtype": dtype}
    size = sum(tensor.nbytes for path in final.glob("*.safetensors") for tensor in load_file(path).values())
    assert json.loads((final / INDEX).read_text())["metadata"] == {"total_size": size, "by": "a"}


@pytest.mark.parametrize("both", [True, False])
def test_tied_weights_stand_under_every_name_that_the_base_has(base, tmp_path, both):
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    if not both:
        del tensors["lm_head.weight"]
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    loaded = trained(opened(base))
    final = final_of(loaded, base, tmp_path / "final")
    assert layout_of(final) == layout_of(base)
    saved = load_file(final / "model.safetensors")
    assert not both or torch.equal(saved["lm_head.weight"], saved["model.embed_tokens.weight"])
    assert opened(final).identity.fingerprint == weights_fingerprint(loaded.model)


def test_what_the_model_does_not_open_stays_the_bases(base, tmp_path):
    extra = {"model.layers.4.zorp.weight": torch.randn(3, 5)}  # a layer that transformers leaves out
    save_file(load_file(base / "model.safetensors") | extra, base / "model.safetensors", metadata={"format": "pt"})
    final = final_of(trained(opened(base)), base, tmp_path / "final")
    assert layout_of(final) == layout_of(base)
    saved = load_file(final / "model.safetensors")
    assert torch.equal(saved["model.layers.4.zorp.weight"], extra["model.layers.4.zorp.weight"])


def test_where_the_base_names_its_weights_otherwise_transformers_writes_them(base, tmp_path):
    loaded = trained(opened(base))
    loaded.model.config.use_cache = False
    (base / "model.safetensors").rename(base / "zorp.safetensors")
    final = final_of(loaded, base, tmp_path / "final")
    assert opened(final).identity.fingerprint == weights_fingerprint(loaded.model)
    assert json.loads((final / "config.json").read_text())["use_cache"] is True
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "LICENSE"):
        assert (final / name).read_bytes() == (base / name).read_bytes()


def test_an_index_that_points_out_of_the_directory_is_refused(base, tmp_path):
    loaded = opened(base)
    (base / "model.safetensors").rename(tmp_path / "zorp.safetensors")
    (base / INDEX).write_text(json.dumps({"weight_map": {"lm_head.weight": "../zorp.safetensors"}}))
    before = (tmp_path / "zorp.safetensors").read_bytes()
    for work in (lambda: final_of(loaded, base, tmp_path / "final"), lambda: opened(base)):
        with pytest.raises(ArtifactError, match=r"not beside it: '\.\./zorp\.safetensors'"):
            work()
    assert (tmp_path / "zorp.safetensors").read_bytes() == before


@pytest.fixture
def cached(base, tmp_path, monkeypatch):
    """The base as the cache of the hub holds it: links to blobs below a commit."""
    (base / "README.md").write_text("zorp")
    hub = tmp_path / "hub" / "models--zorp--glim"
    snapshot = hub / "snapshots" / COMMIT
    for number, path in enumerate(sorted(path for path in base.rglob("*") if path.is_file())):
        blob = hub / "blobs" / f"{number:040}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blob)
        link = snapshot / path.relative_to(base)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_a_base_of_the_hub_is_found_in_its_cache_and_contents_are_copied_not_links(cached, base, tmp_path):
    loaded = load_model(ModelConfig(name="zorp/glim", device="cpu"))
    assert (loaded.identity.revision, loaded.identity.directory) == (COMMIT, None)
    assert base_directory(loaded.identity) == cached
    final = final_of(trained(loaded), cached, tmp_path / "final")
    assert not any(path.is_symlink() for path in final.rglob("*"))
    for path in final.rglob("*"):
        if path.is_file() and path.name != "model.safetensors":
            assert path.read_bytes() == (base / path.relative_to(final)).read_bytes()
    assert (final / "LICENSE").is_file() and not (final / "README.md").exists()


def test_where_the_hub_cannot_be_asked_the_cache_is_what_there_is(cached, monkeypatch):
    loaded = load_model(ModelConfig(name="zorp/glim", device="cpu"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # before the library asks again
    assert base_directory(loaded.identity) == cached


def test_a_base_that_left_the_cache_is_named(cached):
    loaded = load_model(ModelConfig(name="zorp/glim", device="cpu"))
    shutil.rmtree(cached.parent.parent)
    with pytest.raises(EnvironmentFaultError, match="zorp/glim are not in the cache"):
        base_directory(loaded.identity)


@pytest.mark.parametrize(
    ("page", "named"),
    [
        ("---\nlicense: apache-2.0\nlanguage: en\n---\n# Zorp\n", ("apache-2.0", None, None)),
        ("---\nlicense: other\nlicense_name: glim\nlicense_link: LICENSE\n---\n", ("other", "glim", "LICENSE")),
        ("---\nlicense: [a, b]\nlicense_name: 3\n---\n", (None, None, None)),
        ("---\nlicense: [\n---\n", (None, None, None)),
        ("---\n- zorp\n---\n", (None, None, None)),
        ("license: mit\n", (None, None, None)),
        (None, (None, None, None)),
    ],
)
def test_a_licence_is_what_the_page_of_the_base_names_and_never_a_guess(tmp_path, page, named):
    if page is not None:
        (tmp_path / "README.md").write_text(page)
    found = license_of(tmp_path)
    assert (found.license, found.license_name, found.license_link) == named


def test_the_tokenizer_gives_the_same_ids(base, tmp_path):
    final = final_of(opened(base), base, tmp_path / "final")
    text = "repeat apple <end> zorp"
    ours, theirs = AutoTokenizer.from_pretrained(final), AutoTokenizer.from_pretrained(base)
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.chat_template == theirs.chat_template


def test_transformers_alone_opens_it(base, tmp_path):
    loaded = trained(opened(base))
    final = final_of(loaded, base, tmp_path / "final")
    model = AutoModelForCausalLM.from_pretrained(final, dtype="auto")
    assert weights_fingerprint(model) == weights_fingerprint(loaded.model)
