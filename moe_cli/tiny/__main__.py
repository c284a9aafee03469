"""`python -m moe_cli.tiny --output DIR`: train the built-in tiny model again, measure it, and write its checkpoint.

The table of rates goes to standard output, progress to standard error. A checkpoint that misses a bar is refused with
exit code 1 unless `--force` is given. The same seed and number of threads give the same bytes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from moe_cli.tiny import CHECKPOINT_PATH
from moe_cli.tiny.language import tiny_items
from moe_cli.tiny.measurement import SuiteRate, suite_rates
from moe_cli.tiny.training import Progress, Recipe, train

ITEMS_PER_SUITE = 400
STEPS_PER_LINE = 100


def main(words: Sequence[str] | None = None) -> int:
    """Train, measure, write; the exit code."""
    options = _options(words)
    torch.set_num_threads(options.threads)
    model, tokenizer = train(Recipe(seed=options.seed, num_epochs=options.epochs), _show)
    rates = suite_rates(model, tokenizer, tiny_items(ITEMS_PER_SUITE, options.seed))
    print(_table(rates))
    missed = [rate.bar.suite for rate in rates if not rate.passed]
    if missed and not options.force:
        _say(f"error: the model misses the bar of {', '.join(missed)}; nothing is written")
        _say("hint: train longer with --epochs, or write it anyway with --force")
        return 1
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    _say(f"wrote {options.output}")
    return 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    recipe = Recipe()
    parser = argparse.ArgumentParser(prog="python -m moe_cli.tiny", description="Train the built-in tiny model again.")
    parser.add_argument("--output", type=Path, default=CHECKPOINT_PATH, help="directory of the checkpoint")
    parser.add_argument("--seed", type=int, default=recipe.seed, help="seed of data, weights and order")
    parser.add_argument("--epochs", type=int, default=recipe.num_epochs, help="passes over the base conversations")
    parser.add_argument("--threads", type=int, default=1, help="part of what makes the result repeatable")
    parser.add_argument("--force", action="store_true", help="write a checkpoint that misses a bar")
    return parser.parse_args(words)


def _show(progress: Progress) -> None:
    if progress.step % STEPS_PER_LINE == 0 or progress.step == progress.num_steps:
        step = f"step {progress.step:,} of {progress.num_steps:,}"
        _say(f"{step}  loss {progress.loss:.4f}  {progress.seconds:.0f} s")


def _table(rates: Sequence[SuiteRate]) -> str:
    lines = [f"{'suite':<22}{'counts':<10}{'k':>5}{'n':>6}{'rate':>8}{'bar':>7}"]
    for rate in rates:
        bar = "-" if rate.bar.lowest is None else f"{rate.bar.lowest:.2f}"
        lines.append(f"{rate.bar.suite:<22}{rate.bar.counts:<10}{rate.k:>5}{rate.n:>6}{rate.rate:>8.3f}{bar:>7}")
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
