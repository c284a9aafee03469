"""Trains shares of the weights of every family on two processes, beside one process with the same batches.

    python -m tests.studies.sharded_families [FAMILY ...]

Each process takes a batch of its own with experts of its own, two steps of AdamW; then the slices are merged and the
final model is written. Compared are the fingerprint after loading, the frozen weights, and every byte of the files. A
family whose shares transformers cannot lay out, or puts together wrongly, is refused by `moe train`: in the second case
because its fingerprint is not that of the prepare run.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from moe_cli.artifacts.files import sha256_of
from moe_cli.bench.bench_model import draw_selection
from moe_cli.config import ModelConfig
from moe_cli.experts import attach, frozen_digest
from moe_cli.model.chat import EncodedChat
from moe_cli.model.final_model import refuse_unopened_not_finite, write_final_model
from moe_cli.model.load import load_model
from moe_cli.model.token_rows import answered_rows, loss_sum
from moe_cli.ranks import num_ranks, this_rank
from moe_cli.records import Expert
from moe_cli.train.gradients import sum_gradients
from tests.experts.checkpoints import openable, written
from tests.in_ranks import run_in_ranks

STEPS = 2
BATCHES = 2  # of a step


def rows_of(batch: int) -> dict[str, torch.Tensor]:
    """One batch of three rows."""
    generator = torch.Generator().manual_seed(batch)
    ids = [torch.randint(3, 60, (length,), generator=generator).tolist() for length in (9, 7, 8)]
    return answered_rows([EncodedChat(tuple(row), 4, False) for row in ids])


def train(base: Path, final: Path) -> None:
    """In every process: two steps and the final model; the first writes what is compared beside it."""
    torch.set_num_threads(1)
    loaded = load_model(ModelConfig(name=str(base), device="cpu"), sharded=num_ranks() > 1)
    refuse_unopened_not_finite(loaded, base)
    said = [loaded.identity.fingerprint]
    union = draw_selection(loaded.layers, 2)
    masks: list[set[Expert]] = [set(union[::2]), set(union[1::2])]
    loaded.model.train()
    with attach(loaded.model, union) as slices:
        optimizer = torch.optim.AdamW(slices.parameters.values(), lr=1e-2)
        for step in range(STEPS):
            for index in range(this_rank().index, BATCHES, num_ranks()):
                slices.activate(masks[index])
                loss_sum(loaded.model, rows_of(BATCHES * step + index)).backward()
            sum_gradients(slices.parameters.values())
            optimizer.step()
            optimizer.zero_grad()
            slices.sync()
        said.append(frozen_digest(loaded.model, union))
        slices.merge()
    if this_rank().index == 0:
        final.mkdir()
    write_final_model(loaded, base, final)
    if this_rank().index == 0:
        (final / "said.txt").write_text("\n".join(said))


def differences(family: str, directory: Path) -> Iterator[str]:
    """What two processes do not share with one."""
    base = written(family, directory / "base")
    for total, name in ((1, "one"), (2, "two")):
        ended = run_in_ranks(total, train, base, directory / name)
        if any(ended.codes):
            message = next(line for line in ended.said.splitlines() if line.startswith("error: "))
            yield f"refused: {message}"
            return
    loaded = [(directory / name / "said.txt").read_text().splitlines()[0] for name in ("one", "two")]
    if loaded[0] != loaded[1]:
        yield "refused: the shares are not those of the checkpoint"
        return
    files = [{file.name for file in (directory / name).iterdir()} for name in ("one", "two")]
    if files[0] != files[1]:
        yield f"files {sorted(files[0] ^ files[1])}"
    for name in sorted(files[0] & files[1]):
        if sha256_of(directory / "one" / name) != sha256_of(directory / "two" / name):
            yield name


def main() -> None:
    """Print a line for every family and the sum."""
    warnings.simplefilter("ignore")
    same, families = 0, sys.argv[1:] or openable()
    for family in families:
        with TemporaryDirectory() as directory:
            found = list(differences(family, Path(directory)))
        same += not found
        print(f"{family:24} {'the same bytes' if not found else '; '.join(found)}", flush=True)
    print(f"{same} of {len(families)} families: two processes that share the weights write the bytes of one")


if __name__ == "__main__":
    main()
