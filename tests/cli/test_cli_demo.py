"""The demo runs commands at once and shows them in order; the commands here are ones that start without torch."""

import gc
import importlib
import subprocess
import sys
from types import SimpleNamespace

from moe_cli import artifacts
from moe_cli.cli import demo
from moe_cli.judges import language_check
from moe_cli.views.ablated import verdict_sentence
from tests.views.test_ablated_views import ablation

SCRIPT = """
from pathlib import Path
from moe_cli.cli import child_commands, demo
from moe_cli.cli.demo import DemoCommand
child_commands.PRELOADED = {preloaded}
demo.COMMANDS = ({commands})
(Path("out") / ".moe").mkdir(parents=True)
(Path("out") / demo.SETTINGS).write_text("seed: 7\\n")
run = demo._DemoRun(Path("out"), at_once={at_once})
try:
    run.run()
finally:
    print(sorted(run.codes.items()), sorted(path.name for path in (Path("out") / demo.LOGS).glob("*")))
"""
SHOW, FAILING = 'DemoCommand(("config", "show"){})', 'DemoCommand(("train", "--nothing"){})'


def run_demo(tmp_path, *commands, at_once, preloaded="[]"):
    script = SCRIPT.format(commands=", ".join(commands) + ",", at_once=at_once, preloaded=preloaded)
    argv = [sys.executable, "-c", script]
    return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)


def test_commands_that_run_at_once_are_shown_in_order_and_each_whole(tmp_path):
    done = run_demo(tmp_path, SHOW.format(""), SHOW.format(", after=(0,)"), SHOW.format(""), at_once=2)
    lines = done.stdout.splitlines()
    titles = [place for place, line in enumerate(lines) if "moe config show --config moe.yaml" in line]
    seeds = [place for place, line in enumerate(lines) if line == "seed: 7"]
    assert len(titles) == len(seeds) == 3 and sorted([*titles, *seeds])[::2] == titles
    assert lines[-1] == "[(0, 0), (1, 0), (2, 0)] []"


def test_a_command_that_fails_is_shown_with_its_reason_and_ends_the_demo_with_its_code(tmp_path):
    done = run_demo(tmp_path, SHOW.format(""), FAILING.format(""), SHOW.format(", after=(1,)"), at_once=1)
    assert done.stdout.splitlines()[-1] == "[(0, 0), (1, 2)] []"
    assert done.stdout.splitlines().count("seed: 7") == 1 and "No such option: --nothing" in done.stderr


def test_a_command_that_fails_before_its_turn_says_why(tmp_path):
    second = SHOW.format(", after=(1,)")  # so that the one before it waits and never begins
    done = run_demo(tmp_path, second, FAILING.format(""), at_once=2)
    assert done.stdout.splitlines()[-1] == "[(1, 2)] ['1.txt']" and "No such option: --nothing" in done.stdout


def test_a_command_that_is_killed_is_named_with_the_signal_that_ended_it(tmp_path):
    killing = "import os; child_commands.main = lambda: os.kill(os.getpid(), 9)"
    (tmp_path / "killing.py").write_text(f"from moe_cli.cli import child_commands\n{killing}\n")
    done = run_demo(tmp_path, SHOW.format(""), at_once=1, preloaded='["killing"]')
    assert done.stdout.splitlines()[-1] == "[(0, -9)] []" and "was ended by SIGKILL" in done.stderr


def test_the_demo_ends_with_the_whole_sentence_on_the_experts_that_were_taken_away(moe, monkeypatch):
    reason = "beyond it these have -3.9 points [-14.2, 6.0], p 0.9 (n = 30 answers, 10 goals); by a smoke-test judge"
    found = ablation(verdict="inconclusive", reason=reason)
    monkeypatch.setattr(demo._DemoRun, "run", lambda _: None)
    monkeypatch.setattr(artifacts, "finished_run", lambda *_: SimpleNamespace(record=lambda *_: found))
    done = moe("demo")
    assert done.code == 0
    assert verdict_sentence(found) in " ".join(done.out.split())
    assert "inconclusive. Beyond it" in verdict_sentence(found) and "10 goals); by a smoke-test" in verdict_sentence(
        found
    )


def test_what_forked_commands_share_has_the_model_that_tells_languages():
    try:
        importlib.import_module("moe_cli.cli.shared_imports")
        assert language_check._detector.cache_info().currsize == 1 and gc.get_freeze_count() > 100_000
    finally:
        gc.unfreeze()
