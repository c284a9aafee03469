"""Prepares and evaluates in one, two and three processes, times one beside two, and kills a process 20 times.

    python -m tests.studies.dealt_work --pairs 600 --repeats 5 --kills 20

Prints which files differ from those of one process (none may), then the median seconds of each stage by one process and
by two, run in turns, one thread each, and beside the whole stages the processor time of the process that needed most,
which a busy machine changes less; then one line for each kill of a random process at a random moment, after which
one, two or three processes go on. All on the CPU, with the tiny model.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch

from moe_cli.artifacts import Store, layout
from moe_cli.codec import decode
from moe_cli.config import MoeConfig
from moe_cli.evaluate import stage as evaluate
from moe_cli.prepare import stage as prepare
from moe_cli.ranks import this_rank
from moe_cli.records import PrepareSummary
from tests.in_ranks import content_of, exit_codes, run_in_ranks, start_in_ranks
from tests.small_experiment import settings_of_small_experiment

LIMIT = 900.0  # seconds
STAGES = ("answering", "routing", "prepare", "prepare, processor", "evaluate", "evaluate, processor")


def settings(directory: Path, pairs: int) -> MoeConfig:
    """Of a run below the directory; sampled answers, all replays, gradients, pickles."""
    own = {"temperature": 1.0, "extra_replays": True, "scores": ("gradient",), "pickle": True}
    return settings_of_small_experiment(
        directory,
        model={"threads": 1},
        prepare={"tiny_pairs": pairs, "generation_batch_size": 16, **own},
        evaluate={"tiny_items": pairs // 2, "batch_size": 16},
    )


def prepare_below(directory: Path, pairs: int, resume: bool) -> None:
    """In every process: one prepare run."""
    torch.set_num_threads(1)
    begun = time.process_time()
    prepare.run(settings(directory, pairs), Store(directory / "registry"), lambda _: None, resume=resume)
    _processor_time(directory, "prepare").write_text(str(time.process_time() - begun))


def evaluate_below(directory: Path, pairs: int) -> None:
    """In every process: an evaluation of the tiny model."""
    torch.set_num_threads(1)
    os.chdir(directory)
    begun = time.process_time()
    evaluate.run("tiny", settings(directory, pairs), Store(directory / "registry"), lambda _: None)
    _processor_time(directory, "evaluate").write_text(str(time.process_time() - begun))


def _processor_time(directory: Path, stage: str) -> Path:
    """Where a process writes the seconds of its stage."""
    return directory / f"{stage}-{this_rank().index}.seconds"


def work_of(total: int, directory: Path, pairs: int) -> tuple[dict[str, float], dict[str, object]]:
    """Seconds of the stages, and the content of all files."""
    directory.mkdir()
    seconds = {}
    for name, action, args in (
        ("prepare", prepare_below, (directory, pairs, False)),
        ("evaluate", evaluate_below, (directory, pairs)),
    ):
        begun = time.monotonic()
        ended = run_in_ranks(total, action, *args, limit=LIMIT)
        seconds[name] = time.monotonic() - begun
        if any(ended.codes):
            raise AssertionError(f"{ended.codes}: {ended.said}")
        seconds[f"{name}, processor"] = max(float(file.read_text()) for file in directory.glob(f"{name}-*.seconds"))
    file = directory / "prepared" / layout.PREPARE_SUMMARY
    summary = decode(PrepareSummary, file.read_bytes(), source=str(file))
    seconds |= {"answering": float(summary.seconds_generate or 0.0), "routing": summary.seconds_routing}
    evaluations = next(iter(directory.rglob(layout.RECORDS))).parent
    files = {f"prepared/{name}": content for name, content in content_of(directory / "prepared").items()}
    return seconds, files | {f"evaluation/{name}": content for name, content in content_of(evaluations).items()}


def kills(directory: Path, number: int, seed: int, pairs: int) -> Iterator[tuple[str, bool]]:
    """Kill a random one of two processes; what happened, and whether the resumed run is the undisturbed one."""
    chance = random.Random(seed)
    undisturbed = directory / "undisturbed"
    begun = time.monotonic()
    run_in_ranks(2, prepare_below, undisturbed, pairs, False)
    seconds, expected = time.monotonic() - begun, content_of(undisturbed / "prepared")
    for count in range(number):
        place = directory / f"killed-{count}"
        victim, after, then = chance.randrange(2), chance.uniform(0.3, seconds), chance.choice((1, 2, 3))
        processes = start_in_ranks(2, directory / "said", 60.0, prepare_below, place, pairs, False)
        processes[victim].join(after)
        processes[victim].kill()
        codes = exit_codes(processes)
        what = "complete already"
        if not (place / "prepared" / layout.MANIFEST).is_file():
            what = f"resumed by {then}"
            ended = run_in_ranks(then, prepare_below, place, pairs, True)
            if any(ended.codes):
                raise AssertionError(f"{ended.codes}: {ended.said}")
        yield f"process {victim} after {after:.1f} s, {codes}, {what}", content_of(place / "prepared") == expected


def main() -> None:
    """Print all three."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--pairs", type=int, default=600)
    words.add_argument("--repeats", type=int, default=5)
    words.add_argument("--kills", type=int, default=20)
    words.add_argument("--seed", type=int, default=1)
    options = words.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        _, expected = work_of(1, directory / "one", options.pairs)
        for total in (2, 3):
            _, files = work_of(total, directory / f"by-{total}", options.pairs)
            differing = [file for file in expected.keys() | files.keys() if expected.get(file) != files.get(file)]
            print(f"{total} processes: {len(differing)} of {len(expected)} files differ {differing}", flush=True)
        times: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for repeat in range(options.repeats):
            for total, measured in times.items():
                measured.append(work_of(total, directory / f"{repeat}-{total}", options.pairs)[0])
        if options.repeats:
            print("| | one process, s | two, s | |\n| --- | --- | --- | --- |")
        for stage in STAGES if options.repeats else ():
            one, two = (median(seconds[stage] for seconds in measured) for measured in times.values())
            print(f"| {stage} | {one:.1f} | {two:.1f} | {one / two:.2f} x |", flush=True)
        same = 0
        for number, (what, as_undisturbed) in enumerate(kills(directory, options.kills, options.seed, 96), start=1):
            same += as_undisturbed
            print(f"{number}. {what}: {'the same bytes' if as_undisturbed else 'OTHER BYTES'}", flush=True)
        print(f"{same} of {options.kills} killed runs end with the files of the undisturbed one")


if __name__ == "__main__":
    main()
