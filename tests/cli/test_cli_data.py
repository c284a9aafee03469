"""What a person sees of their data: the dry run before, the sources after."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from moe_cli.config import EvaluateConfig
from moe_cli.data import read_source
from moe_cli.data.formats import FORMATS
from moe_cli.evaluate.evaluation_items import load_items
from moe_cli.tiny.language import tiny_benign, tiny_pairs
from tests.data.sample_files import sample

WORDS = ("zorp", "glim", "hesk", "flomp")


def test_a_dry_run_shows_what_was_recognised_and_no_word_of_a_prompt(moe, tmp_path):
    for name in ("xstest.csv", "judge_result.json", "attacks.jsonl"):
        shutil.copy(sample(name), tmp_path / name)
    done = moe(
        *("prepare", "--model", "tiny", "--dry-run", "--batch-size", 2),
        *("--pairs", "xstest.csv", "--pairs", "judge_result.json", "--benign", "xstest.csv"),
        *("--attack", "attacks.jsonl"),
    )
    assert (done.code, done.err) == (0, "")
    for words in (
        "--pairs xstest.csv",
        "│ judge_result ",
        "skipped 1: judge_result.json: its attack failed",
        "skipped 1: xstest.csv: it is harmful",
        "4, from 3 goals",
        "nothing was written",
    ):
        assert words in done.out
    assert not any(word in done.out for word in WORDS)
    assert "learning_rate" not in done.out and "--verbose shows the settings" in done.out
    assert len(list(tmp_path.iterdir())) == 3


def test_a_dry_run_lists_every_bad_row_and_says_that_they_would_be_refused(moe, tmp_path):
    rows = [{"id": str(number), "goal": "zorp", "safe": "a", "unsafe": ""} for number in range(9)]
    (tmp_path / "p.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in [*rows, {**rows[0], "unsafe": "b"}]))
    done = moe("prepare", "--model", "tiny", "--dry-run", "--pairs", "p.jsonl")
    assert done.code == 2
    assert [f"bad row: p.jsonl:{number}: `unsafe` is ''" in done.out for number in range(1, 10)] == [True] * 9
    assert "error: 9 bad rows" in done.err and "--max-bad-rows N" in done.err


def test_the_document_of_a_dry_run_is_the_settings_and_the_data(moe):
    words = ("prepare", "--model", "tiny", "--dry-run", "--json", "--benign-ratio", "0.0", "--batch-size", "2")
    done = orjson.loads(moe(*words, "--pairs", sample("pairs.csv")).out)
    settings = orjson.loads(moe("config", "show", "--json").out)
    assert set(done) == {*settings, "data"} and done["train"] == settings["train"]
    (source,) = done["data"]["sources"]
    assert (source["format"], source["rows"], source["used"], source["bad_rows"]) == ("pairs", 2, 2, [])
    assert (done["data"]["counts"]["num_pairs"], done["data"]["refused"]) == (2, None)


def test_a_dry_run_starts_without_torch():
    words = ("--dry-run", "--pairs", sample("pairs.csv"), "--batch-size", "2", "--benign-ratio", "0")
    program = (
        "import sys; from moe_cli.cli.app import main\n"
        f"sys.argv = ['moe', 'prepare', '--model', 'tiny', *{words!r}]\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_goals_without_attacks_are_refused_with_the_option_that_brings_them(refused):
    done = refused("prepare", "--model", "tiny", "--pairs", sample("advbench.csv"))
    assert done.code == 2
    assert "(AdvBench) holds goals without attacked prompts" in done.err and "hint: --attack FILE" in done.err


def test_a_hub_name_without_a_revision_is_refused(refused):
    done = refused("prepare", "--model", "tiny", "--pairs", "owner/name")
    assert done.code == 2 and "owner/name@COMMIT, or --data-revision COMMIT" in done.err


@pytest.fixture
def own_data(tmp_path):
    """Goals and benign prompts of the tiny language as a person would bring them, one row of each bad."""
    goals = dict.fromkeys(pair.goal for pair in tiny_pairs(24, seed=5))
    (tmp_path / "goals.csv").write_text("goal,target\n" + "".join(f"{goal},\n" for goal in goals) + "alone\n")
    rows = [{"prompt": prompt.messages[0].content} for prompt in tiny_benign(24, seed=5) if prompt.attack is None]
    (tmp_path / "benign.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in [*rows, {"prompt": ""}]))
    attacks = {pair.attack: pair.unsafe[0].content.replace(pair.goal, "{goal}") for pair in tiny_pairs(24, seed=5)}
    (tmp_path / "attacks.txt").write_text("\n---\n".join(list(attacks.values())[:2]))
    return len(goals), len(rows)


def test_goals_attacks_and_benign_prompts_are_prepared_and_recorded(moe, tmp_path, own_data):
    words = ("prepare", "--model", "tiny", "--pairs", "goals.csv", "--attack", "attacks.txt", "--attack-per-goal", 1)
    more = ("--benign", "benign.jsonl", "--benign-attack", 0.5, "--max-bad-rows", 2, "--batch-size", 4, "--keep-all")
    done = moe(*words, *more, "--max-new-tokens", 8)
    assert done.code == 0, done.err
    summary = orjson.loads((tmp_path / "prepared/summary.json").read_bytes())
    num_goals, num_benign = own_data
    assert [(s["role"], s["name"], s["rows"], s["used"], len(s["bad_rows"])) for s in summary["sources"]] == [
        ("pairs", "goals.csv", num_goals + 1, num_goals, 1),
        ("benign", "benign.jsonl", num_benign + 1, num_benign, 1),
        ("attack", "attacks.txt", 2, 2, 0),
    ]
    assert (summary["num_pairs"], summary["num_benign"]) == (num_goals, num_benign)
    assert "goals.csv" in done.out and "AdvBench" in done.out


GUIDE = (Path(__file__).parents[2] / "docs/guide.md").read_text(encoding="utf-8")
SECTION = GUIDE[GUIDE.index("## Bring your own data") : GUIDE.index("## Prepare, and read its tables")]
EXAMPLES = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", SECTION, flags=re.MULTILINE | re.DOTALL))
COMMANDS = [
    line for line in re.findall(r"^moe prepare .*$", SECTION, flags=re.MULTILINE) if not re.search("[@#]", line)
]


def test_the_guide_shows_an_example_of_every_format(tmp_path):
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text)
    read_ones = [
        read_source(str(tmp_path / name))
        for name in EXAMPLES
        if not name.startswith(("attacks", "items", "objectives"))
    ]
    assert all(found.faults == () and found.entries for found in read_ones)
    assert {found.format.name for found in read_ones} == {known.name for known in FORMATS}
    assert len(load_items(EvaluateConfig(items=(str(tmp_path / "items.jsonl"),)), "owner/model")) == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_guide_recognises_its_examples(moe, tmp_path, command):
    for name, text in {**EXAMPLES, "goals.csv": EXAMPLES["advbench.csv"]}.items():
        (tmp_path / name).write_text(text)
    data = orjson.loads(moe(*command.split()[1:], "--json").out)["data"]
    assert [source["bad_rows"] for source in data["sources"]] == [[]] * len(data["sources"])
    assert data["counts"]["num_pairs"] >= 1
    assert data["refused"].startswith("no full batch")  # a few rows are no batch of 16
