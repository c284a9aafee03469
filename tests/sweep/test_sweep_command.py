"""`moe sweep` as a program: what it writes, what it shares, and that a killed one ends as the uninterrupted one."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from moe_cli.artifacts import Store, finished_run, layout
from moe_cli.artifacts.locks import is_locked
from moe_cli.cli import sweep_points
from moe_cli.cli.ray_commands import RayCluster, run_command, start_ray
from moe_cli.codec import decode
from moe_cli.config import MoeConfig, dump_yaml
from moe_cli.errors import UsageError
from moe_cli.records import Sweep, SweepPoint, TrainingSummary
from tests.small_experiment import settings_of_small_experiment

WORDS = ("sweep", "prepared", "--config", "moe.yaml", "--at-once", "2", "--random-draws", "1")
BUDGETS = ("--budgets", "10%,20%")


def start(directory, *words):
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    command = [sys.executable, "-m", "moe_cli", *words]
    return subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def moe(directory, *words, code=0):
    process = start(directory, *words)
    out, err = process.communicate()
    assert process.returncode == code, err
    return out, err


def record(directory, name="sweep"):
    return decode(Sweep, finished_run(directory / name, "sweep").file(layout.SWEEP).read_bytes(), source="")


def weights(directory):
    """The fingerprint of what every point of a directory's sweeps trained, by digest."""
    runs = Store(directory / ".moe" / "registry").records("selective", "baseline")
    return {
        Path(run.path).parent.name: finished_run(Path(run.path)).record(layout.METADATA, TrainingSummary)
        for run in runs
    }


def comparable(sweep):
    """What two sweeps of the same settings have alike: all but times."""
    alike = [replace(one, seconds_training=None) for one in sweep.points]
    return replace(sweep, points=tuple(alike))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A prepare run with its registry, apart, and a directory in which it was swept."""
    directory = tmp_path_factory.mktemp("sweep")
    bare = directory / "bare"
    (bare / ".moe").mkdir(parents=True)
    settings = settings_of_small_experiment(Path(), model={"threads": 1}, compare={"margin": 0.1})
    (bare / "moe.yaml").write_text(dump_yaml(settings), encoding="utf-8")
    moe(bare, "prepare", "--config", "moe.yaml")
    done = directory / "done"
    shutil.copytree(bare, done)
    out, err = moe(done, *WORDS, *BUDGETS)
    return bare, done, out, err


def test_a_sweep_makes_every_point_and_says_what_it_shows(swept):
    _, done, out, _ = swept
    sweep = record(done)
    assert [one.state for one in sweep.points] == ["complete"] * 6
    assert [arm.name for arm in sweep.arms] == [
        *("base", "risk_diff 10 %", "risk_diff 20 %", "random 10 %", "random 20 %", "baseline"),
    ]
    shares = [arm.share for arm in sweep.arms if arm.kind == "method"]
    assert 0 < shares[0] <= 0.1 and shares[0] < shares[1] <= 0.2
    of_method, of_random = ([arm for arm in sweep.arms if arm.kind == kind] for kind in ("method", "random"))
    assert all(a.num_experts <= b.num_experts for a, b in zip(of_method, of_random, strict=True))
    assert sweep.values[0].least_p == 0.5 and sweep.values[0].p_value in (0.5, 1.0)
    assert "Methods and budgets" in out and "smallest sufficient budget" in out
    assert out.splitlines()[-1].startswith("wrote sweep; open sweep/report.html; next: moe sweep")
    assert max(map(len, out.splitlines()[:-1])) <= 80


def test_a_sweep_is_a_run_whose_points_are_runs_of_their_own(swept):
    _, done, _, _ = swept
    out, _ = moe(done, "runs", "verify", "sweep")
    assert "added" not in out
    run = finished_run(done / "sweep", "sweep")
    assert set(run.manifest.files) == {"config.yaml", "sweep.json", "sweep.md", "report.html"}
    assert len(run.manifest.parents) == 7  # the prepare run, and six evaluations
    listed, _ = moe(done, "runs", "list")
    assert "6 points" in listed


def test_two_sweeps_that_share_points_train_them_once_and_read_the_same_of_them(swept, tmp_path):
    _, done, _, _ = swept
    copy = tmp_path / "copy"
    shutil.copytree(done, copy)
    for file in (copy / ".moe" / "registry").glob("*.json"):  # the runs lie in the copy now
        file.write_text(file.read_text().replace(str(done), str(copy)))
    before = set(weights(copy))
    _, err = moe(copy, *WORDS, "--budgets", "20%,30%", "-o", "second")
    assert "4 of 6 points are there already" in err
    assert len(set(weights(copy)) - before) == 2
    first, second = ({one.digest: one for one in record(copy, name).points} for name in ("sweep", "second"))
    shared = first.keys() & second.keys()
    assert len(shared) == 4
    assert all(first[digest].attack_success == second[digest].attack_success for digest in shared)
    assert not any((copy / "second" / "points" / digest).exists() for digest in shared)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_sweep_resumed_ends_bitwise_as_the_uninterrupted_one(swept, tmp_path, number):
    bare, done, _, _ = swept
    killed = tmp_path / "killed"
    shutil.copytree(bare, killed)
    process = start(killed, *WORDS, *BUDGETS)
    points = killed / "sweep" / "points"
    deadline = time.monotonic() + 120
    while len(list(points.glob("*/*/steps.jsonl"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode in ((75,) if number == signal.SIGTERM else (-9,)), err
    assert not (killed / "sweep" / layout.MANIFEST).exists()
    wait_for_locks(points)
    moe(killed, *WORDS, *BUDGETS, "--resume")
    expected = {digest: run.trained_fingerprint for digest, run in weights(done).items()}
    assert {digest: run.trained_fingerprint for digest, run in weights(killed).items()} == expected
    assert comparable(record(killed)) == comparable(record(done))


def test_a_sweep_in_a_ray_cluster_stopped_and_finished_here_ends_bitwise_as_the_one_that_never_left(swept, tmp_path):
    pytest.importorskip("ray")
    bare, done, _, _ = swept
    cluster = tmp_path / "cluster"
    shutil.copytree(bare, cluster)
    process = start(cluster, *WORDS, *BUDGETS, "--ray", "local")
    points = cluster / "sweep" / "points"
    deadline = time.monotonic() + 180
    while len(list(points.glob("*/*/steps.jsonl"))) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert not any(is_locked(run) for run in points.glob("*/*") if run.is_dir())
    moe(cluster, *WORDS, *BUDGETS, "--resume")
    expected = {digest: run.trained_fingerprint for digest, run in weights(done).items()}
    assert {digest: run.trained_fingerprint for digest, run in weights(cluster).items()} == expected
    assert comparable(record(cluster)) == comparable(record(done))


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


def wait_for_locks(points):
    """Until no child holds a directory: of a killed parent they end by themselves."""
    deadline = time.monotonic() + 60
    while any(is_locked(run) for run in points.glob("*/*") if run.is_dir()) and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.fixture(scope="module")
def failing(swept, tmp_path_factory):
    """A sweep with a budget that has no room, and a part of the change."""
    bare, _, _, _ = swept
    directory = tmp_path_factory.mktemp("failing") / "failing"
    shutil.copytree(bare, directory)
    return directory, *moe(directory, *WORDS[:-1], "0", "--budgets", "0.1%,20%", "--lambda", "0.5")


def test_a_point_that_fails_is_listed_with_its_reason_and_stops_no_other(failing):
    directory, out, err = failing
    sweep = record(directory)
    states = {one.point.budget: (one.state, one.reason) for one in sweep.points if one.point.scale == 1.0}
    assert states[0.2] == ("complete", None) and states[0.001][0] == "failed"
    assert states[0.001][1].startswith("moe select: the budget of 0.10%")
    assert "Points that failed" in out and "0.10%" in err
    sequence = sweep.sufficient[0]
    assert [test.budget for test in sequence.tests] == [0.2]
    assert not sequence.tests[0].sufficient or "risk_diff 0.1 % lacks a point" in sequence.untested


def test_a_part_of_the_change_is_a_point_without_training(failing):
    directory, _, _ = failing
    sweep = record(directory)
    half = next(arm for arm in sweep.arms if arm.scale == 0.5)
    whole = next(arm for arm in sweep.arms if arm.kind == "method" and arm.scale == 1.0)
    assert (half.name, half.share) == ("risk_diff 20 % x 0.5", whole.share) and half.attack_success is not None
    assert len(weights(directory)) == 2  # the selection and the baseline
    complete = [one for one in sweep.points if one.state == "complete" and one.point.kind == "method"]
    of_half = next(one for one in complete if one.point.scale == 0.5)
    of_whole = next(one for one in complete if one.point.scale == 1.0)
    assert of_half.run == of_whole.run and 0 < of_half.kl.value < of_whole.kl.value


def test_a_dry_run_writes_nothing_and_knows_what_is_complete(swept):
    bare, done, _, _ = swept
    before = sorted(path for path in bare.rglob("*"))
    out, _ = moe(bare, *WORDS, *BUDGETS, "--dry-run")
    assert sorted(path for path in bare.rglob("*")) == before
    assert "6 points, 0 of them complete; 2 at once" in out and "not measured" in out
    out, _ = moe(done, *WORDS, *BUDGETS, "--dry-run", "--json")
    assert '"is_complete": true' in out and '"is_complete": false' not in out


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
