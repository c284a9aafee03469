"""`moe sweep` as a program: what it writes, what it shares, and that a killed one ends as the uninterrupted one."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from moe_cli.artifacts import Store, finished_run
from moe_cli.cli import sweep_points
from moe_cli.cli.child_commands import RayCluster, run_command, start_ray
from moe_cli.config import MoeConfig
from moe_cli.errors import ExitCode, UsageError
from moe_cli.records import SweepPoint
from moe_cli.sweep.stage import preview_sweep
from tests.studies.sweep_kills import COMMAND, comparable, fingerprints, prepare_small, record_of, run_moe, stop_sweep

WORDS = (*COMMAND, "--budgets", "20%", "--random-draws", "1")
TWO_BUDGETS = (*COMMAND, "--budgets", "10%,20%", "--random-draws", "0")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A prepare run with its registry, apart, and a directory in which it was swept."""
    directory = tmp_path_factory.mktemp("sweep")
    bare, done = directory / "bare", directory / "done"
    prepare_small(bare)
    shutil.copytree(bare, done)
    return bare, done, *run_moe(done, *WORDS)


def copied(done, copy):
    """A copy of the directory, whose registry knows the runs that lie in the copy."""
    shutil.copytree(done, copy)
    for file in (copy / ".moe" / "registry").glob("*.json"):
        file.write_text(file.read_text().replace(str(done), str(copy)))
    return copy


def test_a_sweep_makes_every_point_and_says_what_it_shows(swept):
    _, done, out, _ = swept
    sweep = record_of(done, "sweep")
    assert [one.state for one in sweep.points] == ["complete"] * 4
    assert [arm.name for arm in sweep.arms] == ["base", "risk_diff 20 %", "random 20 %", "baseline"]
    of_method, of_random = (next(arm for arm in sweep.arms if arm.kind == kind) for kind in ("method", "random"))
    assert 0 < of_method.share <= 0.2 and of_method.num_experts <= of_random.num_experts
    assert sweep.values[0].least_p == 0.5 and sweep.values[0].p_value in (0.5, 1.0)
    assert [judge.name for judge in sweep.judges] == ["keywords"]
    assert "Judge: keywords, decides harm and refusal, as published right in" in " ".join(out.split())
    assert "Methods and budgets" in out and "smallest sufficient budget" in out
    assert out.splitlines()[-1].startswith("wrote sweep; open sweep/report.html; next: moe sweep")
    assert max(map(len, out.splitlines()[:-1])) <= 80


def test_a_sweep_is_a_run_whose_points_are_runs_of_their_own(swept):
    _, done, _, _ = swept
    out, _ = run_moe(done, "runs", "verify", "sweep")
    assert "added" not in out
    run = finished_run(done / "sweep", "sweep")
    assert set(run.manifest.files) == {"config.yaml", "sweep.json", "sweep.md", "report.html"}
    assert len(run.manifest.parents) == 5  # the prepare run, and four evaluations
    listed, _ = run_moe(done, "runs", "list")
    assert "4 points; risk_diff: " in listed and "no budget was tested" not in listed


def test_two_sweeps_that_share_points_train_them_once_and_read_the_same_of_them(swept, tmp_path):
    _, done, _, _ = swept
    copy = copied(done, tmp_path / "copy")
    before = set(fingerprints(copy))
    out, err = run_moe(copy, *TWO_BUDGETS, "-o", "second", "--json")
    assert "3 of 4 points are there already" in err
    assert json.loads(out) == json.loads((copy / "second" / "sweep.json").read_text())
    assert len(set(fingerprints(copy)) - before) == 1
    first, second = ({one.digest: one for one in record_of(copy, name).points} for name in ("sweep", "second"))
    shared = first.keys() & second.keys()
    assert len(shared) == 3
    assert all(first[digest].attack_success == second[digest].attack_success for digest in shared)
    assert not any((copy / "second" / "points" / digest).exists() for digest in shared)
    shares = [arm.share for arm in record_of(copy, "second").arms if arm.kind == "method"]
    assert 0 < shares[0] <= 0.1 and shares[0] < shares[1] <= 0.2


def test_too_many_answers_without_a_verdict_are_named_and_end_it_also_where_the_points_were_there(swept, tmp_path):
    _, done, _, _ = swept
    copy = copied(done, tmp_path / "copy")
    (copy / "judge.py").write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    row = json.loads(line)\n"
        "    label = None if row['kind'] == 'harmful' else 'compliance'\n"
        "    print(json.dumps({'id': row['id'], 'label': label, 'harmful': None}))\n"
    )
    for name in ("unscored", "again"):
        words = (*WORDS, "--judge", f"command:{sys.executable} judge.py", "-o", name)
        out, err = run_moe(copy, *words, code=ExitCode.UNSCORED)
        reasons = {one.reason for one in record_of(copy, name).points}
        assert {one.state for one in record_of(copy, name).points} == {"complete"}
        assert len(reasons) == 1 and "harmful answers have no verdict, more than the 2.0% allowed" in str(reasons)
        assert "Points that failed or lack verdicts" in out and "error: of 4 of 4 points too many answers" in err
        assert "4 of 4 complete points have too many answers without a verdict" in " ".join(out.split())


def begun_anew(done, copy):
    """A copy in which the method's and the draw's training are still to do, two at once."""
    copied(done, copy)
    for one in record_of(copy, "sweep").points:
        if one.point.kind in ("method", "random"):
            shutil.rmtree(copy / "sweep" / "points" / one.digest)
    return copy


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGKILL, ()), (signal.SIGTERM, ("--ray", "local"))],
    ids=["killed here", "stopped in a Ray cluster"],
)
def test_a_stopped_sweep_resumed_here_ends_bitwise_as_the_uninterrupted_one(swept, tmp_path, number, words):
    """`tests/studies/sweep_kills` stops whole sweeps by every signal."""
    _, done, _, _ = swept
    stopped = begun_anew(done, tmp_path / "stopped")
    stop_sweep(stopped, "again", number, 2, *WORDS[len(COMMAND) :], *words)
    run_moe(stopped, *WORDS, "-o", "again", "--resume")
    assert fingerprints(stopped) == fingerprints(done)
    assert comparable(record_of(stopped, "again")) == comparable(record_of(done, "sweep"))


def test_a_cluster_has_one_command_on_each_gpu_or_as_many_as_have_their_cores():
    assert [RayCluster(num_gpus=4, num_cpus=64).at_once(threads) for threads in (None, 8)] == [4, 4]
    assert [RayCluster(num_gpus=0, num_cpus=8).at_once(threads) for threads in (None, 2, 16)] == [1, 4, 1]


@pytest.mark.parametrize("address", ["", "nowhere", "http://somewhere:1", "auto;x", "a b:1"])
def test_what_is_no_address_of_a_cluster_is_refused(address):
    with pytest.raises(UsageError, match="is no address of a cluster"):
        start_ray(address)


def test_a_command_of_a_cluster_takes_no_setting_from_the_environment_and_its_code_comes_back(tmp_path, monkeypatch):
    monkeypatch.setenv("MOE_SEED", "no number")
    log = tmp_path / "log.txt"
    assert run_command(["config", "show"], str(tmp_path), str(log), {}) == 0
    assert run_command(["config", "nothing"], str(tmp_path), str(log), {}) == 2
    assert "seed: 42" in log.read_text() and "error: " in log.read_text()


@pytest.fixture(scope="module")
def failing(swept, tmp_path_factory):
    """A sweep with a budget that has no room, and a part of the change."""
    _, done, _, _ = swept
    directory = copied(done, tmp_path_factory.mktemp("failing") / "failing")
    words = (*COMMAND, "--random-draws", "0", "--budgets", "0.1%,20%", "--lambda", "0.5", "-o", "failing")
    return directory, *run_moe(directory, *words, code=3)


def test_a_point_that_fails_is_listed_with_its_reason_and_stops_no_other(failing):
    directory, out, err = failing
    sweep = record_of(directory, "failing")
    states = {one.point.budget: (one.state, one.reason) for one in sweep.points if one.point.scale == 1.0}
    assert states[0.2] == ("complete", None) and states[0.001][0] == "failed"
    assert states[0.001][1].startswith("moe select: the budget of 0.10%")
    assert out.splitlines()[-1].endswith("it makes only the 2 points that are missing")
    assert "Points that failed" in out and "0.10%" in err
    assert "error: 2 of 6 points are missing, and no finding is about them" in err
    of_whole = next(one for one in sweep.points if (one.point.budget, one.point.scale) == (0.001, 1.0))
    scaled = next(one for one in sweep.points if (one.point.budget, one.point.scale) == (0.001, 0.5))
    assert (scaled.state, scaled.reason) == states[0.001]  # and its training was not tried once more
    log = directory / "failing" / "points" / of_whole.digest / "log.txt"
    assert log.read_text().count("error: ") == 1
    sequence = sweep.sufficient[0]
    assert [test.budget for test in sequence.tests] == [0.2]
    assert not sequence.tests[0].sufficient or "risk_diff 0.1 % lacks a point" in sequence.untested


def test_a_part_of_the_change_is_a_point_without_training(failing):
    directory, _, _ = failing
    sweep = record_of(directory, "failing")
    half = next(arm for arm in sweep.arms if arm.scale == 0.5)
    whole = next(arm for arm in sweep.arms if arm.kind == "method" and arm.scale == 1.0)
    assert (half.name, half.share) == ("risk_diff 20 % x 0.5", whole.share) and half.attack_success is not None
    assert len(fingerprints(directory)) == 3  # no training but those of the first sweep
    complete = [one for one in sweep.points if one.state == "complete" and one.point.kind == "method"]
    of_half = next(one for one in complete if one.point.scale == 0.5)
    of_whole = next(one for one in complete if one.point.scale == 1.0)
    assert of_half.run == of_whole.run and 0 < of_half.kl.value < of_whole.kl.value


def test_a_dry_run_writes_nothing_and_knows_what_is_complete(swept):
    bare, _, _, _ = swept
    before = sorted(path for path in bare.rglob("*"))
    out, _ = run_moe(bare, *WORDS, "--dry-run")
    assert sorted(path for path in bare.rglob("*")) == before
    assert "4 points, 0 of them complete; 2 at once" in out and "not measured" in out


@pytest.mark.parametrize("further", [("--dry-run",), ()])
@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("--budgets", ""), "sweep.budgets: it is empty", "moe config schema"),
        (("--budgets", "none"), "sweep.budgets: it is empty", "moe config schema"),
        (("--methods", ""), "sweep.methods: it is empty", "moe config schema"),
        (("--methods", "risk_diff,gradient"), "were not measured in this run", "moe prepare with --method gradient"),
    ],
)
def test_a_sweep_that_has_no_point_or_cannot_select_one_is_refused_before_it_begins(
    swept, further, words, message, hint
):
    bare, _, _, _ = swept
    before = sorted(bare.rglob("*"))
    out, err = run_moe(bare, *COMMAND, "--random-draws", "0", *words, *further, code=2)
    assert message in err and hint in err and out == ""
    assert sorted(bare.rglob("*")) == before


@pytest.mark.parametrize("limit", [None, 1])
def test_a_training_that_is_there_takes_no_time_where_only_the_evaluation_is_missing(swept, monkeypatch, limit):
    _, done, _, _ = swept
    monkeypatch.chdir(done)
    sweep = finished_run(Path("sweep"), "sweep")
    tree = dict(sweep.manifest.config)
    config = MoeConfig.model_validate(tree | {"evaluate": {**tree["evaluate"], "limit": limit}})
    need = SimpleNamespace(seconds=None, ranks=(), step=None)
    plan = SimpleNamespace(arms=(need, need), time_of=None)
    preview = preview_sweep(Path("prepared"), config, Store(done / ".moe" / "registry"), lambda *_: plan, at_once=1)
    assert [one.is_complete for one in preview.points] == [limit is None] * 4
    assert [bool(one.seconds) for one in preview.points if one.point.kind != "base"] == [limit is None] * 3


def test_a_predicted_time_says_of_which_rows_it_is(swept):
    bare, done, _, _ = swept
    config, store = finished_run(done / "sweep", "sweep").manifest.config, Store(bare / ".moe" / "registry")
    need = SimpleNamespace(seconds=2.0, ranks=(SimpleNamespace(num_steps=3),), step=None)
    plan = SimpleNamespace(arms=(need, need), time_of="bench.json: a card, the same model", length=2048)
    preview = preview_sweep(bare / "prepared", MoeConfig.model_validate(config), store, lambda *_: plan, at_once=1)
    said = (
        "time: bench.json: a card, the same model; of rows of 2,048 tokens (train.max_length), shorter ones take less"
    )
    assert preview.notes[0] == said
    assert {one.seconds for one in preview.points} == {0.0, 6.0}


def test_without_cards_as_many_points_are_made_at_once_as_have_their_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(sweep_points, "DEVICES", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)

    def at_once(asked=None, **model):
        return sweep_points.points_at_once(MoeConfig.model_validate({"model": model}), asked)

    assert (at_once(), at_once(threads=2), at_once(threads=16), at_once(3)) == (1, 4, 1, 3)
    (tmp_path / "nvidia0").touch()
    assert (at_once(threads=2), at_once(threads=2, device="cpu"), at_once(5, threads=2)) == (1, 4, 5)


def test_each_card_has_one_process_at_a_time_and_a_point_keeps_its_card(monkeypatch, tmp_path):
    """Six points on two cards, by commands that only note where they run."""
    running, seen = {}, []

    def start(argv, place, card):
        assert card not in running.values()
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.05,))
        process.start()
        running[place.digest] = card
        seen.append((place.digest, card))
        return process

    def commands(place):
        yield ["train"]
        del running[place.digest]
        yield ["evaluate"]
        del running[place.digest]

    maker = SimpleNamespace(start=start, commands=commands, notify=lambda _: None)
    point = SweepPoint(kind="method", method="risk_diff", draw=None, budget=0.1, seed=1, scale=1.0)
    places = [SimpleNamespace(digest=str(number), directory=tmp_path, point=point) for number in range(6)]
    queue = sweep_points._PointQueue(maker, list(places), {}, threading.Event(), ["0", "1"])
    queue.work_off(done=0, total=6)
    assert len(seen) == 12 and {card for _, card in seen} == {"0", "1"}
    assert all(len({card for digest, card in seen if digest == place.digest}) == 1 for place in places)
    assert sorted(queue.free) == ["0", "1"] and queue.failures == {}
