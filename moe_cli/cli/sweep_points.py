"""The commands that make the points of a sweep, several points at once, each on a card of its own.

A point is made by the ordinary commands: select, train, evaluate. What is complete is left alone, what was interrupted
is resumed, and what fails is reported with its reason while the others go on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from moe_cli.artifacts import Store, layout
from moe_cli.artifacts.files import write_atomic
from moe_cli.cli.child_commands import RayCluster, RayCommand, start_command
from moe_cli.cli.session import VISIBLE
from moe_cli.config import MoeConfig, dump_yaml
from moe_cli.errors import ExitCode, StoppedError
from moe_cli.ranks import num_cores
from moe_cli.records import Notice, Progress
from moe_cli.records.manifest import Notify
from moe_cli.signals import ALL_SIGNALS, handled_by
from moe_cli.sweep.point_places import PointPlace, is_complete, is_interrupted, settings_of_point
from moe_cli.sweep.stage import Failures

ERROR = "error: "
DEVICES = Path("/dev")
STOPPED = (ExitCode.RESUMABLE, ExitCode.INTERRUPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointMaker:
    """How the points of one sweep are made."""

    prepared: Path
    config: MoeConfig  # of the sweep
    store: Store
    notify: Notify
    selection_seeds: Mapping[int | None, int]  # by the number of the draw; None: of the methods
    cards: tuple[str, ...]  # "0"; a process on each at a time; empty: on the CPU
    at_once: int  # points at once where there are no cards
    cluster: RayCluster | None = None  # what runs the commands; None: this machine

    def make(self, places: Sequence[PointPlace]) -> Failures:
        """Make the points; says why any of them failed.

        Raises:
            StoppedError: a signal asked to stop; what was begun is kept.
        """
        stop, failures = threading.Event(), dict[str, str]()
        whole = [place for place in places if place.point.scale == 1.0]
        scaled = [place for place in places if place.point.scale < 1.0]  # of what the others have trained
        self._work_off(whole, failures, stop, done=0, total=len(places))
        failures |= untrained(scaled, whole, failures)
        ready = [place for place in scaled if place.digest not in failures]
        self._work_off(ready, failures, stop, done=len(places) - len(ready), total=len(places))
        if stop.is_set():
            raise StoppedError(
                "interrupted; the points so far are kept", hint="run the same command with --resume to go on"
            )
        return failures

    def _work_off(
        self, places: Sequence[PointPlace], failures: dict[str, str], stop: threading.Event, *, done: int, total: int
    ) -> None:
        queue = _PointQueue(self, list(places), failures, stop, list(self.cards) or [None] * self.at_once)
        with handled_by(queue.pass_on, *ALL_SIGNALS):
            queue.work_off(done=done, total=total)

    def settings_of(self, place: PointPlace) -> Path:
        """Write the settings of a point's commands."""
        place.directory.mkdir(parents=True, exist_ok=True)
        path = place.directory / layout.point_settings(place.digest)
        write_atomic(path, dump_yaml(settings_of_point(place, self.config, self.store)).encode())
        return path

    def commands(self, place: PointPlace) -> Iterator[list[str]]:
        """The commands that are missing, each looked at when it is its turn."""
        config = ["--config", str(self.settings_of(place))]
        if place.selection is not None and not is_complete(place.selection):
            seed = self.selection_seeds[place.point.draw]
            yield ["select", str(self.prepared), "-o", str(place.selection), "--seed", str(seed), *config]
        if place.training is not None and not is_complete(place.training):
            arm = "baseline" if place.point.kind == "baseline" else "selective"
            yield ["train", arm, *config, *_resume(place.training)]
        if not place.is_complete:
            yield ["evaluate", place.subject, *config, *_resume(place.evaluation)]

    def start(self, argv: Sequence[str], place: PointPlace, card: str | None) -> BaseProcess | RayCommand:
        """Start one command of a point."""
        named = (self.config.judge.key_env, self.config.endpoint.key_env)
        keys, log = [name for name in named if name], place.directory / layout.POINT_LOG
        if self.cluster is not None:
            return self.cluster.start(argv, Path.cwd(), log=log, threads=self.config.model.threads, kept=keys)
        environment = {} if card is None else {VISIBLE: card}
        return start_command(argv, Path.cwd(), environment=environment, log=log, kept=keys)


@dataclass(frozen=True, slots=True)
class _Work:
    """A running command of a point."""

    place: PointPlace
    following: Iterator[list[str]]  # the commands after it
    card: str | None
    argv: list[str]
    process: BaseProcess | RayCommand
    log_start: int  # where in the log its output begins


@dataclass(slots=True)
class _PointQueue:
    """Points that wait, and the commands that run."""

    maker: PointMaker
    waiting: list[PointPlace]
    failures: dict[str, str]
    stop: threading.Event
    free: list[str | None]  # cards
    running: dict[int, _Work] = field(default_factory=dict)  # by what the process is waited for

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Ask all running commands to stop, and begin no others."""
        self.stop.set()
        for work in list(self.running.values()):
            work.process.terminate()

    def work_off(self, *, done: int, total: int) -> None:
        """Run until nothing waits or runs; `done` of `total` points are made before."""
        num_waiting = len(self.waiting)
        while self.running or (self.waiting and not self.stop.is_set()):
            while self.free and self.waiting and not self.stop.is_set():
                place = self.waiting.pop(0)
                self._next(place, self.maker.commands(place), self.free.pop(0))
            for sentinel in wait(list(self.running), timeout=1.0):
                self._ended(self.running.pop(int(str(sentinel))))
            made = num_waiting - len(self.waiting) - len(self.running)
            self.maker.notify(Progress(task="points", done=done + made, total=total))

    def _next(self, place: PointPlace, commands: Iterator[list[str]], card: str | None) -> None:
        """Start the next command of a point, or end the point."""
        argv = None if self.stop.is_set() else next(commands, None)
        if argv is None:
            self._end(place, card)
            return
        log = place.directory / layout.POINT_LOG
        start = log.stat().st_size if log.is_file() else 0
        process = self.maker.start(argv, place, card)
        self.running[process.sentinel] = _Work(place, commands, card, argv, process, start)

    def _ended(self, work: _Work) -> None:
        """Note what became of a command, and go on with its point."""
        work.process.join()
        code = work.process.exitcode
        if not code:
            self._next(work.place, work.following, work.card)
            return
        if not (self.stop.is_set() and code in STOPPED):
            self.failures[work.place.digest] = _reason(work, code)
        self._end(work.place, work.card)

    def _end(self, place: PointPlace, card: str | None) -> None:
        self.free.append(card)
        if reason := self.failures.get(place.digest):
            self.maker.notify(Notice(text=f"{_name(place)}: {reason}", warning=True))


def untrained(scaled: Sequence[PointPlace], whole: Sequence[PointPlace], failures: Failures) -> Failures:
    """The scaled points whose training has just failed, with its reason: it is not tried once more for each of them."""
    reasons = {place.training: failures[place.digest] for place in whole if place.digest in failures}
    return {
        place.digest: reasons[place.training]
        for place in scaled
        if place.training is not None and place.training in reasons and not is_complete(place.training)
    }


def points_at_once(config: MoeConfig, asked: int | None) -> int:
    """Points at once without `--gpu`: one, or on the CPU as many as have `model.threads` cores each, if these are set.

    One where the model may run on a card: several processes would share it.
    """
    if asked is not None:
        return asked
    on_cpu = config.model.device == "cpu" or (config.model.device == "auto" and not _has_cards())
    if config.model.threads is None or not on_cpu:
        return 1
    return max(1, num_cores() // config.model.threads)


def _has_cards() -> bool:
    """Whether this machine seems to have CUDA cards; asked of the system, as torch takes seconds to import."""
    return any(DEVICES.glob("nvidia[0-9]*"))


def _resume(run: Path) -> list[str]:
    return ["--resume"] if is_interrupted(run) else []


def _reason(work: _Work, code: int) -> str:
    """The error line of a command, or where to read on."""
    log = work.place.directory / layout.POINT_LOG
    printed = log.read_bytes()[work.log_start :].decode(errors="replace") if log.is_file() else ""
    errors = [line.removeprefix(ERROR) for line in printed.splitlines() if line.startswith(ERROR)]
    ended = f"it was ended by the signal {-code}" if code < 0 else f"it ended with the exit code {code}"
    return f"moe {work.argv[0]}: {errors[-1] if errors else f'{ended}; {log} says more'}"


def _name(place: PointPlace) -> str:
    point = place.point
    what = [point.kind if point.kind in ("base", "baseline", "random") else str(point.method)]
    what += [f"draw {point.draw}"] if point.draw else []
    what += [f"{100 * point.budget:.4g} %"] if point.kind in ("method", "random") else []
    return " ".join([*what, f"seed {point.seed}"])
