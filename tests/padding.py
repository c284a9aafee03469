"""How much of the computing goes into padding, on row lengths such as people train on.

    python -m tests.padding            # the table of docs/benchmarks.md
    python -m tests.padding --draw     # draws the lengths anew (the committed file is the draw of seed 0)

The lengths are drawn, not measured on anybody's data: a fixed batch of 16 has 8 attacked rows (role-play prompts of
hundreds of tokens, suffixes and rewordings of dozens), 4 plain ones and 4 harmless ones with whole answers.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from math import log
from pathlib import Path

from moe_cli.train.dataset import micro_batches

LENGTHS = Path(__file__).parent / "train" / "row_lengths.csv"
NUM_BATCHES, ROWS = 50, 16
TEMPLATE = 12  # tokens of the chat template
KINDS = {  # share of a batch, median and spread of the log of prompt and answer, in tokens
    "attacked, role play": (5, (420, 0.45), (60, 0.5)),
    "attacked, short": (3, (70, 0.4), (60, 0.5)),
    "plain": (4, (18, 0.35), (60, 0.5)),
    "harmless": (4, (25, 0.5), (180, 0.6)),
}


def lengths_of_batches() -> list[list[int]]:
    """The committed lengths, by batch."""
    batches: dict[str, list[int]] = defaultdict(list)
    with LENGTHS.open(newline="") as file:
        for row in csv.DictReader(file):
            batches[row["batch"]].append(int(row["prompt_tokens"]) + int(row["answer_tokens"]))
    return list(batches.values())


def ratio(max_padding: float, max_tokens: int | None = None) -> tuple[float, float]:
    """Computed per useful token, and forwards per batch, over all batches."""
    batches = lengths_of_batches()
    cuts = [micro_batches(lengths, max_padding=max_padding, max_tokens=max_tokens) for lengths in batches]
    computed = sum(part.num_computed for cut in cuts for part in cut)
    return computed / sum(map(sum, batches)), sum(map(len, cuts)) / len(batches)


def draw() -> None:
    """Write the file."""
    dice = random.Random(0)
    with LENGTHS.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["batch", "kind", "prompt_tokens", "answer_tokens"])
        for batch in range(NUM_BATCHES):
            for kind, (count, *parts) in KINDS.items():
                for _ in range(count):
                    prompt, answer = (round(dice.lognormvariate(log(median), spread)) for median, spread in parts)
                    out.writerow([batch, kind, TEMPLATE + prompt, max(answer, 1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true")
    if parser.parse_args().draw:
        draw()
    print("| train.max_padding | tokens computed / useful | forwards per batch |\n| --- | --- | --- |")
    for limit in (1e9, 0.5, 0.2, 0.1, 0.05, 0.0):
        computed, forwards = ratio(limit)
        print(f"| {'no limit' if limit == 1e9 else limit} | {computed:.3f} | {forwards:.1f} |")


if __name__ == "__main__":
    main()
