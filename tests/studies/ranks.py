"""Trains in two, three and four processes beside one with as many batches per step, and kills a process 20 times.

    python -m tests.studies.ranks --kills 20 --placement sharded

Prints, for both arms and both dtypes, the largest difference of a loss and of a trained weight, whether the final model
has the same bytes, and the bytes that a process sends in a step: of gradients that are added up, of weights that are
gathered, of gradients that are scattered. Then one line for each kill of a random process at a random moment, after
which the run is resumed by a random number of processes. All on the CPU, with the tiny model and the learning rate of
the settings. Before the kills, what two processes began and three ended is compared with what one process trains.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import load_file

from moe_cli.artifacts import Store, layout
from moe_cli.artifacts.layout import MANIFEST
from moe_cli.codec import decode, decode_lines
from moe_cli.config import MoeConfig
from moe_cli.errors import ExitCode
from moe_cli.prepare import stage as prepare
from moe_cli.ranks import is_first, num_ranks
from moe_cli.records import Arm, StepRecord, TrainingSummary
from moe_cli.train import stage as train
from tests.in_ranks import exit_codes, run_in_ranks, start_in_ranks
from tests.small_experiment import settings_of_small_experiment
from tests.train.rank_cases import masks_without, stopped_by_a_signal_to

ARMS: tuple[Arm, ...] = ("selective", "baseline")
KILLED: dict[str, tuple[Arm, ...]] = {"replicated": (*ARMS, "alternating"), "sharded": ARMS}
DTYPES = ("float32", "bfloat16")
# Name, settings of train, how many batches each process takes for a step, and batches whose masks select nothing.
Case = tuple[str, dict[str, object], int, tuple[int, ...]]
CASES: tuple[Case, ...] = (
    ("as it is", {}, 1, ()),
    ("two batches in each", {}, 2, ()),
    ("unequal forwards", {"max_forward_tokens": 150}, 1, ()),
    ("a batch held out", {"validation_batches": 1}, 1, ()),
    ("checkpointing", {"gradient_checkpointing": True}, 1, ()),
    ("empty masks", {}, 1, (0, 1, 4)),
)
# Collectives of torch and FSDP, of several versions; the part that is sent, 0: all but a process' own.
SENT = {
    "all_reduce": 1.0,
    "all_gather_single": 0.0,
    "all_gather_into_tensor": 0.0,
    "reduce_scatter_single": 0.0,
    "reduce_scatter_tensor": 0.0,
}
WEIGHTS = f"{layout.FINAL_MODEL}/model.safetensors"


@dataclass(frozen=True)
class Difference:
    """What N processes and one process do not share."""

    ranks: int
    arm: Arm
    dtype: str
    case: str
    loss: float  # largest difference of a step's
    weight: float  # largest difference of a trained one
    same_bytes: bool  # of the final model
    sent: float  # bytes of a step, by one process


def settings(directory: Path, dtype: str, output: Path, **changes: object) -> MoeConfig:
    """Of a training below the directory, with the learning rate that is the default."""
    own = {"prepared": directory / f"prepared-{dtype}", "learning_rate": 5e-5, "num_epochs": 2}
    places = {"selective_dir": output, "baseline_dir": output.with_name(f"{output.name}-baseline")}
    alternating = {"num_rounds": 2, "router_learning_rate": 1e-3}
    return settings_of_small_experiment(
        directory,
        model={"threads": 1, "dtype": dtype},
        prepare={"output_dir": directory / f"prepared-{dtype}", "tiny_pairs": 48},
        train={**own, **places, **changes},
        alternating={**alternating, "output_dir": output.with_name(f"{output.name}-alternating")},
    )


def cases_of(arm: Arm, names: Sequence[str]) -> list[Case]:
    """The cases of these names; the baseline has no masks."""
    return [case for case in CASES if case[0] in names and (arm != "baseline" or not case[3])]


def train_alike(arm: Arm, configs: list[MoeConfig], cases: list[Case], directory: Path, traffic: Path) -> None:
    """In every process: train with each of the settings; the first writes the bytes that each training sent."""
    torch.set_num_threads(1)
    sent = []
    for config, (_, _, _, empty) in zip(configs, cases, strict=True):
        with counted_bytes() as counted, masks_without(empty):
            train.run(arm, config, Store(directory / "registry"), lambda _: None)
        sent.append(sum(counted))
    if is_first():
        traffic.write_text("\n".join(map(str, sent)))


@contextmanager
def counted_bytes() -> Iterator[list[int]]:
    """Bytes of floats that this process sends: all that is added up, and its part of what is gathered or scattered."""
    import torch.distributed as dist

    sent: list[int] = []
    part = (num_ranks() - 1) / num_ranks()

    def counted(honest: Callable[..., object], share: float) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
            sent.append(round(share * max(value.nbytes * value.is_floating_point() for value in tensors)))
            return honest(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for name, share in SENT.items():
            if hasattr(dist, name):
                stack.enter_context(patch.object(dist, name, counted(getattr(dist, name), share or part)))
        yield sent


def compared(
    directory: Path, ranks: int, arm: Arm, dtype: str, placement: str, cases: list[Case]
) -> Iterator[Difference]:
    """The cases of one arm in one dtype."""
    alone, together = [], []
    for case, changes, each, _ in cases:
        one, many = (directory / f"{ranks}-{dtype}-{case}-{kind}" for kind in ("one", "many"))
        alone.append(settings(directory, dtype, one, gradient_accumulation_steps=ranks * each, **changes))
        own = {"gradient_accumulation_steps": each, "placement": placement}
        together.append(settings(directory, dtype, many, **own, **changes))
    traffic = directory / "traffic"
    for count, configs in ((1, alone), (ranks, together)):
        ended = run_in_ranks(count, train_alike, arm, configs, cases, directory, traffic, limit=600.0)
        if any(ended.codes):
            raise AssertionError(f"{ended.codes}: {ended.said}")
    sent = map(int, traffic.read_text().split())
    for (case, *_), one, many, num_bytes in zip(cases, alone, together, sent, strict=True):
        found = _differences(_output(arm, one), _output(arm, many))
        yield Difference(ranks, arm, dtype, case, *found, num_bytes / summary_of(_output(arm, many)).num_steps)


def _differences(one: Path, many: Path) -> tuple[float, float, bool]:
    steps = [list(decode_lines(StepRecord, run / layout.STEPS)) for run in (one, many)]
    loss = max(abs(a.loss - b.loss) for a, b in zip(*steps, strict=True))
    weights = [load_file(run / WEIGHTS) for run in (one, many)]
    weight = max(float((weights[0][name].float() - weights[1][name].float()).abs().max()) for name in weights[0])
    return loss, weight, (one / WEIGHTS).read_bytes() == (many / WEIGHTS).read_bytes()


def summary_of(run: Path) -> TrainingSummary:
    """What a training wrote about itself."""
    file = run / layout.METADATA
    return decode(TrainingSummary, file.read_bytes(), source=str(file))


def train_on(arm: Arm, config: MoeConfig, directory: Path, resume: bool) -> None:
    """In every process: one training."""
    torch.set_num_threads(1)
    train.run(arm, config, Store(directory / "registry"), lambda _: None, resume=resume)


def kills(directory: Path, number: int, seed: int, placement: str) -> Iterator[tuple[str, bool]]:
    """Kill a random one of two processes; what happened, and whether the resumed run is the undisturbed one."""
    chance = random.Random(seed)
    expected, seconds = {}, {}
    arms = KILLED[placement]
    for arm in arms:
        config = settings(directory, "float32", directory / "undisturbed", checkpoint_every=2, placement=placement)
        begun = time.monotonic()
        run_in_ranks(2, train_on, arm, config, directory, False)
        seconds[arm] = time.monotonic() - begun
        expected[arm] = summary_of(_output(arm, config)).trained_fingerprint
    for count in range(number):
        arm = arms[count % len(arms)]
        config = settings(directory, "float32", directory / f"killed-{count}", checkpoint_every=2, placement=placement)
        victim, after, then = chance.randrange(2), chance.uniform(0.2, seconds[arm]), chance.choice((1, 2))
        processes = start_in_ranks(2, directory / "said", 60.0, train_on, arm, config, directory, False)
        processes[victim].join(after)
        processes[victim].kill()
        codes = exit_codes(processes)
        output = _output(arm, config)
        complete = (output / MANIFEST).is_file()
        if not complete:
            per_process = {} if then == 2 else {"gradient_accumulation_steps": 2}
            resumed = settings(
                directory,
                "float32",
                directory / f"killed-{count}",
                checkpoint_every=2,
                placement=placement,
                **per_process,
            )
            ended = run_in_ranks(then, train_on, arm, resumed, directory, True)
            if any(ended.codes):
                raise AssertionError(f"{ended.codes}: {ended.said}")
        what = f"{arm}: process {victim} after {after:.1f} s, exit codes {codes}, " + (
            "complete already" if complete else f"resumed by {then}"
        )
        yield what, summary_of(output).trained_fingerprint == expected[arm]


def _output(arm: Arm, config: MoeConfig) -> Path:
    places = {"selective": config.train.selective_dir, "baseline": config.train.baseline_dir}
    return places.get(arm, config.alternating.output_dir)


def gone_on_by_three(directory: Path, arm: Arm, placement: str) -> float:
    """Largest difference of a weight: two processes stop after a step and three go on, or one trains all of it."""

    def of_each(kind: str, batches: int, placement: str) -> MoeConfig:
        own = {"gradient_accumulation_steps": batches, "placement": placement, "num_epochs": 4}
        return settings(directory, "float32", directory / f"moved-{kind}", **own)

    alone = of_each("one", 6, "replicated")
    two, three = of_each("many", 3, placement), of_each("many", 2, placement)
    store = Store(directory / "registry")
    stopped = run_in_ranks(2, stopped_by_a_signal_to, 1, 2, arm, two, store)
    if stopped.codes != [ExitCode.RESUMABLE] * 2:
        raise AssertionError(f"{stopped.codes}: {stopped.said}")
    for count, config, resume in ((3, three, True), (1, alone, False)):
        ended = run_in_ranks(count, train_on, arm, config, directory, resume)
        if any(ended.codes):
            raise AssertionError(f"{ended.codes}: {ended.said}")
    return _differences(_output(arm, alone), _output(arm, three))[1]


def main() -> None:
    """Print both tables."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=20)
    words.add_argument("--ranks", type=int, nargs="*", default=[2, 3, 4])
    words.add_argument("--placement", choices=("replicated", "sharded"), default="replicated")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--cases", nargs="+", choices=[name for name, *_ in CASES], help="only these")
    options = words.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for dtype in DTYPES if options.ranks else DTYPES[:1]:
            prepare.run(settings(directory, dtype, directory / "unused"), Store(directory / "registry"), lambda _: None)
        print("| processes | arm | dtype | case | loss | weight | same bytes | bytes in a step |", flush=True)
        print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for ranks in options.ranks:
            for arm in ARMS:
                if not (cases := cases_of(arm, options.cases or [name for name, *_ in CASES])):
                    continue
                for dtype in DTYPES:
                    for found in compared(directory, ranks, arm, dtype, options.placement, cases):
                        cells = (found.ranks, found.arm, found.dtype, found.case, f"{found.loss:.1e}")
                        more = (f"{found.weight:.1e}", "yes" if found.same_bytes else "no", f"{found.sent:,.0f}")
                        print("| " + " | ".join(map(str, (*cells, *more))) + " |", flush=True)
        for arm in ARMS if options.ranks else ():
            largest = gone_on_by_three(directory, arm, options.placement)
            print(f"{arm}: two processes stopped, three went on: {largest:.1e}", flush=True)
        same = 0
        for number, (what, as_undisturbed) in enumerate(
            kills(directory, options.kills, options.seed, options.placement), start=1
        ):
            same += as_undisturbed
            print(f"{number}. {what}: {'the same bits' if as_undisturbed else 'OTHER WEIGHTS'}", flush=True)
        print(f"{same} of {options.kills} killed runs end with the weights of the undisturbed one")


if __name__ == "__main__":
    main()
