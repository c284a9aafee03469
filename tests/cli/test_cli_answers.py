"""`moe evaluate --answers` as typed: a dry run shows what is recognised, and what does not fit is refused."""

import orjson
import pytest

from tests.evaluate.answer_files import HARMBENCH, JAILBREAKBENCH, lines, written


@pytest.fixture
def harmbench(tmp_path):
    return written(tmp_path / "full.json", HARMBENCH)


def test_answers_are_judged_without_a_model_and_the_last_line_says_where(moe, harmbench):
    done = moe("evaluate", "--answers", harmbench, "--json")
    summary = orjson.loads(done.out)
    assert (done.code, summary["model"], summary["attack_success"]["k"]) == (0, None, 1)
    assert "wrote evaluations/full/default; next: moe compare evaluations/full/default OTHER" in done.err


def test_a_dry_run_checks_the_answers_and_writes_nothing(moe, harmbench, tmp_path):
    jbb = written(tmp_path / "jbb.json", JAILBREAKBENCH)
    done = moe("evaluate", "--answers", harmbench, "--answers", jbb, "--dry-run", "--json")
    document = orjson.loads(done.out)
    assert document["data"]["suites"] == {"attacked": 4}
    assert [file["format"] for file in document["data"]["files"]] == [
        "HarmBench completions",
        "JailbreakBench artifact",
    ]
    assert document["evaluate"]["answers"] == [str(harmbench), str(jbb)]
    shown = moe("evaluate", "--answers", harmbench, "--dry-run").out
    assert "answers to judge: attacked 3" in shown and "nothing was written" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full.json", "jbb.json"]


def test_a_dry_run_says_what_would_be_refused(moe, tmp_path):
    path = written(tmp_path / "x.jsonl", lines({"prompt": "zorp", "response": "no"}))
    done = moe("evaluate", "--answers", path, "--dry-run")
    assert done.code == 2
    assert "kinds of" not in done.out and "harmful or benign" in done.err
    assert "hint: say it of all of them with --kind" in done.err


def test_a_dry_run_of_answers_checks_the_judges_and_a_bad_file_hides_no_other(moe, harmbench, tmp_path):
    unclear = written(tmp_path / "x.jsonl", lines({"prompt": "zorp", "response": "no", "output": "no", "theme": "a"}))
    done = moe("evaluate", "--answers", unclear, "--answers", harmbench, "--dry-run")
    assert done.code == 2 and "HarmBench" in done.out
    assert f"cannot be used: --answers {unclear}" in done.out.replace("\n", " ").replace("  ", " ")
    assert "could both be the answer" in done.err
    clear = moe("evaluate", "--answers", unclear, "--map", "answer=response", "--kind", "benign", "--dry-run")
    assert clear.code == 0 and "the columns output, theme" in " ".join(clear.out.split())
    unable = moe(
        "evaluate", "--answers", f"benign={unclear}", "--map", "answer=output", "--judge", "harmbench", "--dry-run"
    )
    assert unable.code == 2 and "no judge (harmbench) can tell" in unable.err


def test_answers_of_a_file_are_no_models(refused, harmbench):
    assert "nothing shows that tiny gave them" in refused("evaluate", "tiny", "--answers", harmbench).err
    assert "--answers FILE" in refused("evaluate").err


def test_a_dry_run_with_an_endpoint_checks_its_name_and_needs_no_model_here(moe, tmp_path):
    items = written(tmp_path / "items.jsonl", lines(*({"kind": "harmful", "prompt": f"zorp {i}"} for i in range(2))))
    words = ("evaluate", "/models/of/the/server", "--items", items, "--engine", "openai", "--dry-run")
    unnamed = moe(*words)
    assert unnamed.code == 2 and "none is named" in unnamed.err and "--base-url" in unnamed.err
    assert moe(*words, "--base-url", "http://localhost:8000/v1").code == 0


def test_options_that_answers_of_files_cannot_have_are_refused(refused, harmbench):
    assert "evaluate.epochs" in refused("evaluate", "--answers", harmbench, "--epochs", "2", "--temperature", "1").err
    assert "evaluate.kind" in refused("evaluate", "tiny", "--kind", "benign").err
    assert "--capability" in refused("evaluate", "--answers", harmbench, "--capability", "arc_easy").err
