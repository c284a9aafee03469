"""`moe train` says that its prepare run changed, instead of not finding one."""

import json
import shutil

import pytest

from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.errors import ArtifactError
from moe_cli.train import stage as train


@pytest.mark.parametrize("named", [True, False], ids=["named", "found in the registry"])
def test_a_prepare_run_that_changed_is_named_with_what_changed(experiments, named):
    manifest = experiments.directory / "prepared" / layout.MANIFEST
    before = manifest.read_bytes()
    prepared = {} if named else {"prepared": None}
    config = experiments.settings(f"changed_{named}", **prepared)
    try:
        manifest.write_text(json.dumps({**json.loads(before), "seed": 7}))
        with pytest.raises(ArtifactError, match=r"the manifest of .*prepared changed since .* was registered: seed"):
            train.run("selective", config, experiments.store, lambda _: None)
    finally:
        manifest.write_bytes(before)


def test_an_older_run_is_not_taken_in_the_place_of_one_that_changed(experiments, tmp_path):
    older = shutil.copytree(experiments.directory / "prepared", tmp_path / "older")
    store = Store(tmp_path / "registry")
    manifest = json.loads((older / layout.MANIFEST).read_bytes())
    (older / layout.MANIFEST).write_text(json.dumps({**manifest, "finished": "2001-01-01T00:00:00.000+00:00"}))
    newer = shutil.copytree(experiments.directory / "prepared", tmp_path / "newer")
    (newer / layout.MANIFEST).write_text(json.dumps({**manifest, "id": "prepare-20990101-000000-0badcafe"}))
    for run in (older, newer):
        store.register(finished_run(run))
    (newer / layout.MANIFEST).write_text(json.dumps({**manifest, "id": "prepare-20990101-000000-0badcafe", "seed": 7}))
    config = experiments.settings("older", prepared=None, selective_dir=tmp_path / "out")
    with pytest.raises(ArtifactError, match=r"the manifest of .*newer changed since"):
        train.run("selective", config, store, lambda _: None)
