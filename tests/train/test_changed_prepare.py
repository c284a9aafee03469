"""`moe train` says that its prepare run changed, instead of not finding one."""

import json

import pytest

from moe_cli.artifacts import layout
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
