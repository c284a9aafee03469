"""What an artifact says about ids and names leads nowhere else: nothing outside the registry and the run is touched."""

import json
import os

import pytest

from moe_cli.artifacts import Store, finished_run, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError
from moe_cli.model.directory import shards_of
from moe_cli.records.record import directory_name, file_name, run_id
from tests.cli.conftest import moe  # noqa: F401

CONFIG = MoeConfig()
NO_IDS = (
    *("../../victim", "/etc/passwd", "prepare-20261122-171233-5f3a/../../x", "prepare-20261122-171233-5F3A", ""),
    *("prepare-20261122-171233-", "prepare-20261122-171233-5f3a\n", "prepare-20261122-171233-5f3a\0", "x" * 300),
    *("prepare-２0261122-171233-5f3a", "nothing-20261122-171233-5f3a", "prepare-20261122-171233-5f3a.json"),
)
NO_FILES = ("../x", "/etc/passwd", "final_model/../../x", "a/..", "..", ".", "", "a//b", "./a", "a/", "a\0b")


def complete(directory, name="out", **contents):
    """A complete, registered run in `directory`, and its registry."""
    store = Store(directory / ".moe" / "registry")
    with open_run(directory / name, "prepare", CONFIG, resume=False) as writer:
        for file, data in (contents or {"summary.json": b"{}"}).items():
            write_atomic(directory / name / file, data)
        store.add(writer, base_fingerprint=None, model_name="tiny", device="cpu")
    return directory / name, store


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.fixture
def victim(tmp_path):
    """A file that no command has a reason to touch."""
    file = tmp_path / "victim.json"
    file.write_text("precious")
    yield file
    assert file.read_text() == "precious"


@pytest.mark.parametrize("text", NO_IDS)
def test_what_is_no_id_of_a_run_is_refused(text):
    with pytest.raises(ValueError, match="no id of a run"):
        run_id(text)


@pytest.mark.parametrize("text", NO_FILES)
def test_a_name_of_a_file_leads_nowhere_else(text):
    with pytest.raises(ValueError, match="no name of a file"):
        file_name(text)


def test_names_that_runs_have_are_names():
    assert file_name("final_model/additional_chat_templates/tool use.jinja") and file_name("stages/answers-0.jsonl")
    assert directory_name("default_2") and run_id("comparison-20261122-171233-5f3a5f3a")
    with pytest.raises(ValueError, match="one directory"):
        directory_name("a/b")


def test_a_run_with_a_path_for_an_id_is_not_registered(moe, tmp_path, victim):  # noqa: F811
    out, store = complete(tmp_path)
    edit(out / layout.MANIFEST, id="../../victim")
    done = moe("runs", "add", "out")
    assert done.code == 3 and "'../../victim' is no id of a run" in done.err
    assert len(list(store.registry.iterdir())) == 1


def test_an_interrupted_run_with_a_path_for_an_id_is_not_continued(tmp_path, victim):
    with pytest.raises(RuntimeError), open_run(tmp_path / "out", "prepare", CONFIG, resume=False):
        write_atomic(tmp_path / "out" / "work.jsonl", b"work")
        raise RuntimeError
    edit(tmp_path / "out" / layout.STARTED, id="../victim")
    with (
        pytest.raises(ArtifactError, match="no id of a run"),
        open_run(tmp_path / "out", "prepare", CONFIG, resume=True),
    ):
        pass


@pytest.mark.parametrize("name", ["evil.json", "prepare-20200101-000000-abcd.json"])
def test_a_record_with_a_path_for_an_id_deletes_nothing(moe, tmp_path, victim, name):  # noqa: F811
    _, store = complete(tmp_path)
    (record,) = store.registry.iterdir()
    (store.registry / name).write_bytes(record.read_bytes())
    edit(store.registry / name, id="../../victim")
    done = moe("runs", "forget", "../../victim")
    assert done.code == 3 and name in done.err
    assert (store.registry / name).exists() and record.exists()


def test_a_record_under_another_name_than_its_id_is_refused_by_name(moe, tmp_path):  # noqa: F811
    _, store = complete(tmp_path)
    (record,) = store.registry.iterdir()
    record.rename(store.registry / "other.json")
    done = moe("runs", "forget", record.stem)
    assert done.code == 3 and "other.json" in done.err and f"{record.stem}.json" in done.err
    assert (store.registry / "other.json").exists()


def test_a_run_does_not_take_the_record_of_another_complete_run(moe, tmp_path):  # noqa: F811
    out, store = complete(tmp_path)
    other, _ = complete(tmp_path, "other", **{"summary.json": b"[]"})
    edit(other / layout.MANIFEST, id=finished_run(out).manifest.id)
    before = {file.name: file.read_bytes() for file in store.registry.iterdir()}
    done = moe("runs", "add", "other")
    assert done.code == 3 and "is registered already" in done.err
    assert {file.name: file.read_bytes() for file in store.registry.iterdir()} == before


@pytest.mark.parametrize("name", ["final_model/../../victim.json", "../victim.json", "{absolute}"])
def test_names_of_files_that_lead_out_of_the_run_are_refused(moe, tmp_path, victim, name):  # noqa: F811
    out, _ = complete(tmp_path)
    files = json.loads((out / layout.MANIFEST).read_text())["files"]
    edit(out / layout.MANIFEST, files={**files, name.format(absolute=victim): "0" * 64})
    for words in (("runs", "verify", "out"), ("runs", "add", "out"), ("runs", "show", "out")):
        done = moe(*words)
        assert done.code == 3 and "is no name of a file in the run" in done.err, words


def test_a_link_that_leads_out_of_a_run_is_refused_and_one_inside_is_followed(moe, tmp_path, victim):  # noqa: F811
    out, _ = complete(tmp_path, **{"summary.json": b"precious"})
    (out / "summary.json").unlink()
    (out / "summary.json").symlink_to(victim)  # with the very bytes of the digest
    done = moe("runs", "verify", "out")
    assert done.code == 3 and "is a link that leads out of" in done.err
    (out / "summary.json").unlink()
    (out / ".kept").write_bytes(b"precious")
    (out / "summary.json").symlink_to(".kept")
    assert finished_run(out).file("summary.json").read_bytes() == b"precious"


@pytest.mark.parametrize("name", [".answers-0123456789abcdef-8.jsonl", "stages", ".lock", "checkpoint-1"])
def test_a_run_is_not_continued_through_a_link_that_leads_out(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(RuntimeError), open_run(tmp_path / "out", "prepare", CONFIG, resume=False):
        write_atomic(tmp_path / "out" / "work.jsonl", b"work")
        raise RuntimeError
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere" / "new")
    with pytest.raises(ArtifactError, match="is a link"), open_run(tmp_path / "out", "prepare", CONFIG, resume=True):
        pass
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_evaluation_is_not_written_through_a_link_that_leads_out_of_its_run(tmp_path):
    out, _ = complete(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (out / layout.EVALUATIONS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="is a link that leads out"):
        layout.evaluation_directory(out, "tiny", "default")


def test_an_index_names_files_beside_it_alone(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}})
    )
    assert shards_of(tmp_path) == ("one.safetensors", "two.safetensors")
    for name in ("../one.safetensors", os.fspath(tmp_path / "x.safetensors"), "a/one.safetensors", 7 * "../"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ArtifactError, match="not beside it"):
            shards_of(tmp_path)


def test_the_settings_of_a_run_from_elsewhere_do_not_say_which_registry_is_written_to(tmp_path):
    from moe_cli.cli.options import TypedSettings
    from moe_cli.cli.select import with_settings_of

    config = MoeConfig.model_validate({"registry": str(tmp_path / "elsewhere")})
    with open_run(tmp_path / "out", "prepare", config, resume=False) as writer:
        writer.finish(writer.manifest(base_fingerprint=None, model_name="tiny", device="cpu"))
    typed = TypedSettings(values={}, config=None, assignments=("seed=1",))
    assert with_settings_of(tmp_path / "out", typed).assignments == ("registry=null", "seed=1")
