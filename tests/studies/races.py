"""Every pair of commands that can write to one place, started at once.

    python -m tests.studies.races [--times 3] [--pairs "prepare + prepare,select + select"]

Each of the two must end with 0, 2, 3 or 6, and with a reason where it is not 0; none shows a traceback. Then what
is complete must be whole (`moe runs verify` of every run), nothing hidden may be left over, and where neither of the
two ended well, the first typed again must.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from moe_cli.artifacts.layout import CONFIG, MANIFEST
from moe_cli.codec import decode
from moe_cli.errors import ExitCode
from moe_cli.records import Manifest
from tests.studies.commands import COMMANDS, TRACEBACK, Done, run, start, steps

REASONS = (ExitCode.OK, ExitCode.USAGE, ExitCode.ARTIFACT, ExitCode.LOCKED)
ID = "ID OF PREPARED"  # stands for it
FORGET, LIST = ("runs", "forget", ID), ("runs", "list")


@dataclass(frozen=True)
class Pair:
    """Two commands, and the one before which both are typed."""

    place: str  # the first of the two's name in COMMANDS: what is there is the experiment up to it
    first: tuple[str, ...]
    second: tuple[str, ...]


PAIRS = {
    **{f"{name} + {name}": Pair(name, words, words) for name, words in COMMANDS.items()},
    "prepare + prepare --resume": Pair("prepare", COMMANDS["prepare"], (*COMMANDS["prepare"], "--resume")),
    "select + select --resume": Pair("select", COMMANDS["select"], (*COMMANDS["select"], "--resume")),
    "selective + baseline": Pair("selective", COMMANDS["selective"], COMMANDS["baseline"]),
    "selective + baseline into one place": Pair(
        "selective", (*COMMANDS["selective"], "-o", "one"), (*COMMANDS["baseline"], "-o", "one")
    ),
    "select + train into one place": Pair(
        "selective", ("select", "prepared", "-o", "one"), (*COMMANDS["selective"], "-o", "one")
    ),
    "train + select": Pair("selective", COMMANDS["selective"], COMMANDS["select"][:-2]),
    "train + evaluate of it": Pair("selective", COMMANDS["selective"], COMMANDS["evaluate"]),
    "train + forget": Pair("selective", COMMANDS["selective"], FORGET),
    "train + verify": Pair("selective", COMMANDS["selective"], ("runs", "verify", "selective")),
    "train + list": Pair("selective", COMMANDS["selective"], LIST),
    "evaluate + evaluate base": Pair("evaluate", COMMANDS["evaluate"], COMMANDS["evaluate base"]),
    "evaluate + verify": Pair("evaluate", COMMANDS["evaluate"], ("runs", "verify", "selective")),
    "evaluate + export": Pair("evaluate", COMMANDS["evaluate"], COMMANDS["export"]),
    "compare + evaluate": Pair("compare", COMMANDS["compare"], (*COMMANDS["evaluate"], "--output-name", "other")),
    "compare + forget": Pair("compare", COMMANDS["compare"], ("runs", "forget", "selective-")),
    "forget + forget": Pair("selective", FORGET, FORGET),
    "add + forget": Pair("selective", ("runs", "add", "prepared"), FORGET),
    "add + add": Pair("selective", ("runs", "add", "prepared"), ("runs", "add", "prepared")),
    "export of a run + of its delta": Pair(
        "export", COMMANDS["export"], ("export", "selective/expert_delta.safetensors", "-o", "exported")
    ),
    "export + select into one place": Pair("export", COMMANDS["export"], ("select", "prepared", "-o", "exported")),
}


@dataclass(frozen=True)
class Race:
    """Two commands that were started at once, and what came of them."""

    pair: str
    exit_codes: tuple[int, int]
    problem: str | None


def races(directory: Path, pairs: tuple[str, ...], times: int) -> Iterator[Race]:
    """Each of these pairs so many times."""
    for step in steps(directory, {PAIRS[name].place for name in pairs}):
        for name in pairs:
            for time in range(times if PAIRS[name].place == step.name else 0):
                again = step.copy(f"race {time}")
                try:
                    yield _race(name, PAIRS[name], again)
                finally:
                    shutil.rmtree(again)


def _race(name: str, pair: Pair, directory: Path) -> Race:
    words = [_with_id(each, directory) for each in (pair.first, pair.second)]
    both = (start(words[0], directory), start(words[1], directory))
    done = (both[0].end(), both[1].end())
    return Race(name, (done[0].exit_code, done[1].exit_code), next(_problems(pair, directory, done), None))


def _with_id(words: tuple[str, ...], directory: Path) -> tuple[str, ...]:
    manifest = directory / "prepared" / MANIFEST
    known = decode(Manifest, manifest.read_bytes(), source="").id if ID in words else ""
    return tuple(known if word == ID else word for word in words)


def _problems(pair: Pair, directory: Path, done: tuple[Done, Done]) -> Iterator[str]:
    for words, one in zip((pair.first, pair.second), done, strict=True):
        if one.exit_code not in REASONS or TRACEBACK in one.text:
            yield f"{' '.join(words)} ended with {one.exit_code}: {one.error}"
        if one.exit_code != ExitCode.OK and ("error: " not in one.text or "hint: " not in one.text):
            yield f"{' '.join(words)} ended with {one.exit_code} and no reason: {one.text[:200]}"
    if all(one.exit_code != ExitCode.OK for one in done):
        again = run(_with_id(pair.first, directory), directory)
        if again.exit_code != ExitCode.OK:
            yield f"neither ended well, nor did the first again: {again.exit_code}, {again.error}"
    for manifest in directory.rglob(MANIFEST):
        if manifest.with_name(CONFIG).is_file():
            verified = run(("runs", "verify", str(manifest.parent.relative_to(directory))), directory)
            if verified.exit_code != ExitCode.OK:
                yield f"{manifest.parent.name} is not whole: {verified.error}"
    hidden = [path for path in directory.rglob(".*") if path.name != ".moe"]
    yield from (f"{path.relative_to(directory)} is left over" for path in hidden)


def main() -> None:
    """Print every race after which something was wrong, and the counts of every pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--pairs", default=",".join(PAIRS))
    asked = parser.parse_args()
    pairs = tuple(asked.pairs.split(","))
    codes: dict[str, Counter[tuple[int, int]]] = {name: Counter() for name in pairs}
    wrong = dict.fromkeys(pairs, 0)
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as place:  # the counts so far
        for race in races(Path(place).resolve() / "experiment", pairs, asked.times):
            codes[race.pair][race.exit_codes] += 1
            if race.problem is not None:
                wrong[race.pair] += 1
                print(f"{race.pair}, {race.exit_codes}: {race.problem}", flush=True)
    for name, ends in codes.items():
        print(f"{name}: {ends.total()} races, ended with {sorted(ends)}, {wrong[name]} wrong")


if __name__ == "__main__":
    main()
