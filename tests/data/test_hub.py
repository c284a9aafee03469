"""Names on the hub: pinned or refused, and handed to `datasets` word for word. The hub itself is not reached."""

import datasets
import pytest
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetGenerationError
from huggingface_hub.errors import HTTPError

from moe_cli.data import read_source
from moe_cli.errors import EnvironmentFaultError, UsageError

ROWS = Dataset.from_list([{"goal": "zorp the glim", "target": "x"}])


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What `datasets.load_dataset` is called with; it answers with one split, or with what `found` says."""
    calls = []
    answer = {"found": DatasetDict(train=ROWS)}
    monkeypatch.chdir(tmp_path)

    def load_dataset(*args, **named):
        calls.append((args, named))
        if isinstance(answer["found"], Exception):
            raise answer["found"]
        return answer["found"]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls, answer


@pytest.mark.parametrize(
    ("words", "option", "called"),
    [
        ("owner/name@1a2b3c4", None, ("owner/name", None, "1a2b3c4")),
        ("owner/name", "1a2b3c4", ("owner/name", None, "1a2b3c4")),
        ("owner/name@1a2b3c4", "other", ("owner/name", None, "1a2b3c4")),
        ("owner/na.me:hard@v1.0", None, ("owner/na.me", "hard", "v1.0")),
        ("owner/name@refs/convert/parquet#train", None, ("owner/name", None, "refs/convert/parquet")),
    ],
)
def test_name_configuration_and_revision_reach_datasets(asked, words, option, called):
    found = read_source(words, option)
    assert asked[0] == [((called[0], called[1]), {"revision": called[2]})]
    assert (found.source.name, found.format.name, found.num_rows) == (words, "AdvBench", 1)


def test_a_name_without_a_revision_is_refused_with_the_way_to_pin_it(asked):
    with pytest.raises(
        UsageError, match="there is no file owner/name, and as a name on the hub it needs a revis"
    ) as no:
        read_source("owner/name")
    assert "owner/name@COMMIT, or --data-revision COMMIT" in no.value.hint
    assert asked[0] == []


@pytest.mark.parametrize("branch", ["main", "master", "HEAD"])
def test_a_branch_is_no_pin(asked, branch):
    with pytest.raises(UsageError, match=f"the revision {branch} is a branch"):
        read_source(f"owner/name@{branch}")
    assert asked[0] == []


@pytest.mark.parametrize("words", ["a/b/c.jsonl", "pairs.jsonl", "owner/name@", "/owner/name@1", "owner/name@a@b", ""])
def test_what_is_no_name_on_the_hub_never_reaches_it(asked, words):
    with pytest.raises(UsageError, match="there is no file"):
        read_source(words)
    assert asked[0] == []


@pytest.mark.parametrize(
    "words", ["../nope.jsonl", "./nope", "../nope", "data/nope.jsonl", "data/NOPE.CSV", "../nope.jsonl@1a2b3c4"]
)
@pytest.mark.parametrize("revision", [None, "1a2b3c4"])
def test_what_is_plainly_a_path_is_a_missing_file_and_no_name_on_the_hub(asked, words, revision):
    with pytest.raises(UsageError) as refusal:
        read_source(words, revision)
    assert refusal.value.message == f"there is no file {words}"
    assert refusal.value.hint.startswith("check the path")
    assert asked[0] == []


def test_a_pinned_name_may_end_like_a_file(asked):
    assert read_source("owner/name.json@1a2b3c4").source.kind == "hub"


def test_a_local_path_comes_before_the_hub(asked, tmp_path):
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner/name@1a2b3c4").write_text('{"goal": "local"}')
    assert read_source("owner/name@1a2b3c4").entries[0].goal == "local"
    assert asked[0] == []


def test_a_split_must_be_named_where_there_are_several(asked):
    asked[1]["found"] = DatasetDict(harmful=ROWS, benign=ROWS)
    with pytest.raises(UsageError, match="several splits: harmful, benign") as refusal:
        read_source("owner/name@1a2b3c4")
    assert "'owner/name@1a2b3c4#harmful'" in refusal.value.hint
    assert read_source("owner/name@1a2b3c4#benign").num_rows == 1


def test_equal_rows_have_equal_digests_whatever_their_name(asked):
    first, again = read_source("owner/name@1a2b3c4"), read_source("owner/other@5d6e7f8")
    asked[1]["found"] = DatasetDict(train=Dataset.from_list([{"goal": "flomp", "target": "x"}]))
    assert first.sha256 == again.sha256 != read_source("owner/name@1a2b3c4").sha256


def test_a_hub_out_of_reach_is_a_fault_of_the_environment(asked):
    asked[1]["found"] = ConnectionError("no route")
    with pytest.raises(EnvironmentFaultError, match="the hub cannot be reached for owner/name@1a2b3c4: no route"):
        read_source("owner/name@1a2b3c4")


def test_a_hub_that_redirects_without_end_is_one_too_and_brings_no_token_back(asked):
    token = "hf_" + "Zorp1" * 7
    asked[1]["found"] = HTTPError(f"/Bearer%20{token}")
    with pytest.raises(EnvironmentFaultError, match="the hub cannot be reached for owner/name@1a2b3c4") as refused:
        read_source("owner/name@1a2b3c4")
    assert token not in refused.value.message


def test_a_configuration_that_is_not_there_is_a_usage_error(asked):
    asked[1]["found"] = ValueError("BuilderConfig 'x' not found")
    with pytest.raises(UsageError, match="cannot be read from the hub: BuilderConfig 'x' not found"):
        read_source("owner/name:x@1a2b3c4")


def test_files_that_make_no_table_are_refused_without_a_word_of_their_rows(asked):
    asked[1]["found"] = DatasetGenerationError("CSV parse error: Expected 1 columns, got 3: zorp the glim, a, b")
    with pytest.raises(UsageError, match="cannot make one table of its files") as refusal:
        read_source("owner/name@1a2b3c4")
    assert "zorp" not in refusal.value.message and "hf://datasets/owner/name@1a2b3c4/PATH" in refusal.value.hint
