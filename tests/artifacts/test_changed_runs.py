"""A manifest that is not the registry's any more, a changed parent and an added file are named, and nothing is read."""

import json
import shutil
from hashlib import sha256
from types import SimpleNamespace

import orjson
import pytest

from moe_cli.artifacts import Store, finished_run, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.registry import changed_parents, describe_change, require_unchanged_run
from moe_cli.codec import encode_lines
from moe_cli.config import ModelConfig, MoeConfig
from moe_cli.errors import ArtifactError
from moe_cli.evaluate.target import count_trained_goals, resolve_target
from tests.cli.conftest import moe, refused  # noqa: F401
from tests.compare.runs_on_disk import records, trained

CONFIG = MoeConfig()
CHANGES = {
    "seed": 7,
    "config": {"seed": 42},
    "packages": {"torch": "0.1"},
    "parents": {"prepare": "e" * 64},
    "base_fingerprint": "c" * 64,
    "model_name": "other",
    "device": "cuda:0",
    "id": "prepare-20200101-000000-0badcafe",
    "started": "2020-01-01T00:00:00.000+00:00",
    "finished": "2020-01-01T00:00:00.000+00:00",
    "files": {},
}
NOT_IN_THE_RECORD = ("packages", "device", "started")  # and nowhere else in the run: they cannot be told apart


def registered(directory, name="out", kind="prepare", parents=None, **contents):
    """A complete, registered run, and the registry."""
    store = Store(directory / ".moe" / "registry")
    with open_run(directory / name, kind, CONFIG, resume=False) as writer:
        for file, data in (contents or {"summary.json": b"{}"}).items():
            write_atomic(directory / name / file, data)
        writer.parents |= parents or {}
        store.add(writer, base_fingerprint="a" * 64, model_name="tiny", device="cpu")
    return directory / name, store


def edit(run, **changes):
    file = run / layout.MANIFEST
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def flipped(run):
    """The same records with other verdicts, under a digest that fits."""
    changed = encode_lines(records(0))
    (run / layout.RECORDS).write_bytes(changed)
    files = finished_run(run).manifest.files
    edit(run, files={**files, layout.RECORDS: sha256(changed).hexdigest()})


@pytest.mark.parametrize("field", CHANGES)
def test_every_changed_field_of_a_manifest_is_seen_and_named(moe, tmp_path, field):  # noqa: F811
    run, store = registered(tmp_path)
    assert require_unchanged_run(run, store).path == run
    edit(run, **{field: CHANGES[field]})
    named = "a field that only the manifest holds" if field in NOT_IN_THE_RECORD else field
    with pytest.raises(ArtifactError, match=f"changed since prepare-.* was registered: .*{named}") as seen:
        require_unchanged_run(run, store)
    assert "put " in seen.value.hint and "moe runs add" in seen.value.hint
    done = moe("runs", "verify", "out")
    assert done.code == 3 and "changed since" in done.err
    assert moe("select", "out", "--top-k", "3").code == 3
    shown = moe("runs", "show", "out", "--json")
    assert shown.code == 0 and "changed since prepare-" in shown.err and orjson.loads(shown.out)["kind"] == "prepare"


def test_the_kind_is_that_of_the_id(tmp_path):
    run, _ = registered(tmp_path, kind="selective")
    edit(run, kind="baseline")
    with pytest.raises(ArtifactError, match="it says baseline, but its id is selective-"):
        finished_run(run)


def test_a_run_that_is_unknown_moved_or_registered_again_is_the_run(tmp_path):
    run, store = registered(tmp_path)
    assert require_unchanged_run(run, Store(tmp_path / "other")).path == run
    shutil.copytree(run, tmp_path / "copy")
    assert require_unchanged_run(tmp_path / "copy", store).path == tmp_path / "copy"
    edit(run, device="cuda:0")
    store.register(finished_run(run))
    assert require_unchanged_run(run, store).manifest.device == "cuda:0"


def test_a_run_made_again_in_the_same_place_is_not_the_changed_one(tmp_path):
    run, store = registered(tmp_path)
    shutil.rmtree(run)
    registered(tmp_path)
    assert require_unchanged_run(run, store).path == run
    assert describe_change(store, "prepare", base_fingerprint="a" * 64) is None
    edit(run, seed=7)
    assert describe_change(store, "prepare", base_fingerprint="a" * 64) == run


def test_a_run_whose_parents_manifest_changed_is_named_by_verify(refused, tmp_path):  # noqa: F811
    parent, store = registered(tmp_path, "parent")
    run, _ = registered(tmp_path, "child", "selective", {"prepare": finished_run(parent).digest})
    assert changed_parents(finished_run(run), store) == ()
    edit(parent, seed=7)
    assert changed_parents(finished_run(run), store) == (f"prepare: {parent}",)
    assert "1 of its parents changed since: prepare: " in refused("runs", "verify", "child").err
    shutil.rmtree(parent)
    assert changed_parents(finished_run(run), store) == ()


def test_files_that_were_added_are_named_by_verify_and_refused_where_they_are_loaded(moe, tmp_path):  # noqa: F811
    run, _ = registered(tmp_path, "out", "baseline", **{"final_model/model.safetensors": b"x"})
    (run / ".hidden").write_text("")
    for inner in ("evaluations/default", "inner"):
        registered(tmp_path, f"out/{inner}", "evaluation")
    assert finished_run(run).added() == () and finished_run(run).directory("final_model")
    assert moe("runs", "verify", "out").code == 0
    (run / "notes.txt").write_text("")
    (run / "final_model" / "adapter_config.json").write_text("{}")
    done = moe("runs", "verify", "out", "--json")
    assert done.code == 3 and "2 files were added" in done.err
    assert orjson.loads(done.out)["added"] == ["final_model/adapter_config.json", "notes.txt"]
    with pytest.raises(ArtifactError, match=r"adapter_config\.json, which the run did not write"):
        finished_run(run).directory("final_model")


@pytest.fixture
def arms(tmp_path, monkeypatch):
    """Two arms with their evaluations, all known to one registry."""
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / ".moe" / "registry")
    for name, arm in (("a", "baseline"), ("b", "selective")):
        trained(tmp_path, name, records(20), arm=arm)
        store.register(finished_run(tmp_path / name / layout.EVALUATIONS / "default"))
    return SimpleNamespace(path=tmp_path, store=store)


@pytest.mark.parametrize("what", ["run", "evaluation"])
def test_nothing_is_compared_with_a_changed_manifest(moe, arms, what):  # noqa: F811
    assert moe("compare", "a", "b").code == 0
    if what == "run":
        edit(arms.path / "a", seed=7)
    else:
        flipped(arms.path / "a" / layout.EVALUATIONS / "default")
    done = moe("compare", "a", "b")
    assert done.code == 3 and "changed since" in done.err
    assert not (arms.path / "comparison_2").exists()


def test_nothing_is_compared_with_an_evaluation_of_another_manifest_of_the_run(moe, arms):  # noqa: F811
    evaluated = arms.path / "a" / layout.EVALUATIONS / "default"
    edit(evaluated, parents={"run": "0" * 64})
    shutil.rmtree(arms.store.registry)
    done = moe("compare", "a", "b")
    assert done.code == 3 and "was made with another manifest of a than is there now" in done.err


def test_a_run_of_another_kind_than_its_training_is_refused(moe, arms):  # noqa: F811
    identity = finished_run(arms.path / "a").manifest.id
    edit(arms.path / "a", kind="selective", id=identity.replace("baseline", "selective"))
    shutil.rmtree(arms.store.registry)
    done = moe("compare", "a", "b")
    assert done.code == 3 and "says selective, but training_metadata.json full_model_baseline" in done.err


@pytest.mark.parametrize("engine", ["transformers", "openai"])
def test_a_dry_run_ends_as_the_evaluation_of_a_changed_run_would(moe, arms, engine):  # noqa: F811
    words = ("evaluate", "b", "--engine", engine, "--base-url", "http://127.0.0.1:1/v1")
    before = moe(*words, "--dry-run")
    assert before.code == 0, before.err
    edit(arms.path / "b", packages={})
    done = [moe(*words, "--dry-run"), moe(*words)]
    assert [one.code for one in done] == [3, 3]
    assert all("changed since" in one.err for one in done)


@pytest.mark.parametrize("loads", [True, False])
def test_nothing_is_evaluated_of_a_changed_run(arms, loads):
    edit(arms.path / "b", packages={})
    with pytest.raises(ArtifactError, match="changed since"):
        resolve_target("b", ModelConfig(), arms.store, loads=loads)


def test_neither_evaluated_nor_compared_is_a_final_model_with_an_added_file(moe, arms):  # noqa: F811
    (arms.path / "b" / "final_model" / "adapter_config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="which the run did not write"):
        resolve_target("b/final_model", ModelConfig(), arms.store)
    assert "which the run did not write" in moe("compare", "a", "b").err


def test_that_the_goals_of_a_training_are_not_known_is_said(arms):
    target = resolve_target("b", ModelConfig(), arms.store, loads=False)
    notices = []
    assert count_trained_goals(target, [], arms.store, notices.append) is None
    (notice,) = notices
    assert notice.warning and "is not known" in notice.text
