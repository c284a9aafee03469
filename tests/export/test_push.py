"""What `moe push` sends: files of the run alone, checked before, with a page of today; and what stops it."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
from huggingface_hub import ModelCard

from moe_cli.artifacts import Store, finished_run
from moe_cli.errors import ArtifactError, EnvironmentFaultError, ExitCode, UsageError
from moe_cli.export import push as stage
from moe_cli.export.push import push
from moe_cli.views.model_card import NOT_EVALUATED, model_card

TOKEN = "hf_zorptheglim"
ADDRESS = "https://hub.invalid/zorp/glim/commit/1"


class Hub:
    """A hub that keeps what it is sent."""

    def __init__(self, *, public: bool = False) -> None:
        self.public, self.calls, self.files, self.token = public, [], {}, None

    def __call__(self, *, token):
        self.token = token
        return self

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("create_repo", repo_id, private, exist_ok))

    def model_info(self, repo_id):
        return SimpleNamespace(private=not self.public)

    def create_branch(self, repo_id, *, branch, exist_ok):
        self.calls.append(("create_branch", repo_id, branch, exist_ok))

    def create_commit(self, repo_id, operations, *, commit_message, revision):
        self.calls.append(("create_commit", repo_id, commit_message, revision))
        for operation in operations:
            with operation.as_file() as file:
                self.files[operation.path_in_repo] = file.read()
        return SimpleNamespace(commit_url=ADDRESS)


@pytest.fixture
def hub(monkeypatch):
    """The stub in the place of the hub's client, with somebody logged in."""
    hub = Hub()
    monkeypatch.setattr(stage, "HfApi", hub)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: TOKEN)
    return hub


@pytest.fixture
def copied(runs, tmp_path):
    """The selective run, to be damaged."""
    return shutil.copytree(runs.selective, tmp_path / "copied")


def test_the_final_model_is_sent_in_one_commit_with_a_page_that_has_the_results(runs, hub):
    made = push(runs.selective, "zorp/glim", runs.store, model_card)
    final = runs.selective / "final_model"
    sealed = {path.name: path.read_bytes() for path in final.iterdir()}
    assert hub.files.keys() == sealed.keys() == {file.name for file in made.files} | {"README.md"}
    assert all(hub.files[name] == sealed[name] for name in sealed if name != "README.md")
    assert [call[0] for call in hub.calls] == ["create_repo", "create_commit"]
    assert hub.calls[0] == ("create_repo", "zorp/glim", True, True)
    assert (made.url, made.revision, hub.token) == (ADDRESS, "main", TOKEN)
    assert NOT_EVALUATED in sealed["README.md"].decode() and NOT_EVALUATED not in made.card
    assert "attack success | " in made.card and "smoke test" in made.card
    assert hub.files["README.md"].decode() == made.card
    assert finished_run(runs.selective).damaged() == ()


def test_a_delta_is_the_file_of_the_experts_and_a_page_that_says_how_to_merge_it(runs, hub):
    made = push(runs.selective, "zorp/glim", runs.store, model_card, delta=True, private=False, revision="zorped")
    assert hub.files.keys() == {"expert_delta.safetensors", "README.md"}
    assert hub.files["expert_delta.safetensors"] == (runs.selective / "expert_delta.safetensors").read_bytes()
    assert "moe export expert_delta.safetensors" in made.card
    assert hub.calls[0] == ("create_repo", "zorp/glim", False, True)
    assert hub.calls[1] == ("create_branch", "zorp/glim", "zorped", True)
    assert hub.calls[2][3] == "zorped"


def test_a_dry_run_lists_every_file_with_its_size_and_asks_nobody(runs, monkeypatch):
    monkeypatch.setattr(stage, "HfApi", None)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    made = push(runs.selective, "zorp/glim", runs.store, model_card, dry_run=True)
    assert made.url is None
    sizes = {path.name: path.stat().st_size for path in (runs.selective / "final_model").iterdir()}
    assert {file.name: file.num_bytes for file in made.files} == {
        name: size for name, size in sizes.items() if name != "README.md"
    }
    assert made.num_bytes == sum(file.num_bytes for file in made.files)


def test_the_page_names_the_run_by_digests_and_no_place_of_this_machine(runs, hub):
    made = push(runs.selective, "zorp/glim", runs.store, model_card)
    assert str(runs.selective.parent) not in made.card
    assert finished_run(runs.selective).manifest.parents["prepare"]
    card = ModelCard(made.card)
    assert card.data.library_name == "transformers" and "selective-experts" in card.data.tags
    assert card.data.base_model is None  # the tiny model is not on the hub


def test_without_its_prepare_run_the_sources_are_not_known(runs, hub, tmp_path):
    made = push(runs.selective, "zorp/glim", Store(tmp_path / "empty"), model_card)
    assert "is not known here" in made.card


def test_the_baseline_is_sent_and_has_no_delta(runs, hub):
    made = push(runs.baseline, "zorp/glim", runs.store, model_card)
    assert "full model baseline" in made.card and "experts were trained" not in made.card
    with pytest.raises(UsageError, match="trained everything"):
        push(runs.baseline, "zorp/glim", runs.store, model_card, delta=True)


@pytest.mark.parametrize("name", ["final_model/model.safetensors", "final_model/config.json", "steps.jsonl"])
def test_nothing_of_a_changed_run_is_sent(copied, hub, runs, name):
    with (copied / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ArtifactError, match=f"nothing was sent: {name}"):
        push(copied, "zorp/glim", runs.store, model_card)
    assert hub.calls == [] and hub.files == {}


def test_a_file_that_is_not_the_runs_is_not_sent(copied, hub, runs):
    (copied / "final_model" / "notes.txt").write_text("zorp")
    push(copied, "zorp/glim", runs.store, model_card)
    assert "notes.txt" not in hub.files


def test_a_public_repository_is_not_sent_to_unless_public_is_asked_for(runs, hub):
    hub.public = True
    with pytest.raises(UsageError, match="zorp/glim is public"):
        push(runs.selective, "zorp/glim", runs.store, model_card)
    assert hub.files == {}
    assert push(runs.selective, "zorp/glim", runs.store, model_card, private=False).url == ADDRESS


@pytest.mark.parametrize("name", ["glim", "a/b/c", "zorp/", "/glim", "zorp/gl im", "../glim", "zorp/--"])
def test_what_is_no_name_of_a_repository_is_refused(runs, hub, name):
    with pytest.raises(UsageError, match="no name of a repository"):
        push(runs.selective, name, runs.store, model_card)


def test_a_directory_that_is_no_training_run_is_refused(runs, hub, tmp_path):
    for directory in (tmp_path, runs.selective / "final_model", runs.selective.parent / "prepared"):
        with pytest.raises(ArtifactError):
            push(directory, "zorp/glim", runs.store, model_card)


def test_a_token_comes_from_the_named_variable_or_the_login(runs, hub, monkeypatch):
    push(runs.selective, "zorp/glim", runs.store, model_card, token_env="ZORP", environment={"ZORP": "hf_other"})
    assert hub.token == "hf_other"
    for bad in ({}, {"ZORP": ""}, {"ZORP": "hf zorp"}, {"ZORP": "hf_\nzorp"}):
        with pytest.raises(UsageError, match="ZORP should hold a token") as found:
            push(runs.selective, "zorp/glim", runs.store, model_card, token_env="ZORP", environment=bad)
        assert "hf_" not in found.value.message + found.value.hint
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UsageError, match="nobody is logged in"):
        push(runs.selective, "zorp/glim", runs.store, model_card)


def test_without_a_network_the_reason_is_given_and_the_token_is_not(runs, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: TOKEN)
    with pytest.raises(EnvironmentFaultError, match="cannot be reached: OfflineModeIsEnabled") as found:
        push(runs.selective, "zorp/glim", runs.store, model_card)
    assert found.value.exit_code == ExitCode.ENVIRONMENT
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentFaultError, match="cannot be reached: ConnectError") as found:
        push(runs.selective, "zorp/glim", runs.store, model_card)
    assert TOKEN not in found.value.message + found.value.hint
