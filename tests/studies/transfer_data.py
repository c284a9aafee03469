"""Files of the tiny language for a study of transfer: goals, two attacks, harmless prompts, and items of three attacks.

    python -m tests.studies.transfer_data DIRECTORY

All preparations have the same goals; the items have other ones, and a suite for each attack, with its name. The third
attack is in no preparation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from moe_cli.tiny.language import HELD_OUT_WRAPPERS, SEEN_WRAPPERS, draw_benign, shuffled_harmful

NUM_GOALS, NUM_ITEMS, SEED = 192, 120, 42
ATTACKS = {
    wrapper.name: wrapper
    for wrapper in (*SEEN_WRAPPERS, *HELD_OUT_WRAPPERS)
    if wrapper.name in ("developer", "our_secret", "machine")
}
PREPARED_ON = ("developer", "our_secret")


def write_study(directory: Path) -> None:
    """Write every file of the study."""
    directory.mkdir(parents=True, exist_ok=True)
    goals = shuffled_harmful("prepare", SEED)[:NUM_GOALS]
    _write(directory / "goals.jsonl", ({"id": goal.id, "goal": goal.request} for goal in goals))
    attacks = [{"name": name, "template": ATTACKS[name].text} for name in PREPARED_ON]
    for name, templates in (*((attack["name"], [attack]) for attack in attacks), ("both", attacks)):
        _write(directory / f"{name}.jsonl", templates)
    harmless = draw_benign("prepare", NUM_GOALS, SEED)
    _write(directory / "benign.jsonl", ({"prompt": goal.request} for goal in harmless))
    _write(directory / "items.jsonl", _items())


def _items() -> Iterable[dict[str, str]]:
    for goal in shuffled_harmful("evaluate", SEED)[:NUM_ITEMS]:
        for name, attack in ATTACKS.items():
            ids = {"id": f"{name}/{goal.id}", "suite": name, "kind": "harmful", "cluster": goal.id}
            yield {**ids, "prompt": attack.around(goal.request)}
    for number, goal in enumerate(draw_benign("evaluate", NUM_ITEMS, SEED)):
        for suite, prompt in (("benign", goal.request), ("benign_attacked", _in_turn(number, goal.request))):
            ids = {"id": f"{suite}/{number}", "suite": suite, "kind": "benign", "cluster": f"benign {number}"}
            yield {**ids, "prompt": prompt, "expected": goal.answer}


def _in_turn(number: int, request: str) -> str:
    return [*ATTACKS.values()][number % len(ATTACKS)].around(request)


def _write(path: Path, rows: Iterable[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    write_study(parser.parse_args().directory)


if __name__ == "__main__":
    main()
