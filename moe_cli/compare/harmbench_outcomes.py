"""The results of HarmBench: for every behavior its attacks, each with the answer and the label of the classifier.

    {"zorp_the_glim": [{"test_case": "...", "generation": "...", "label": 1}, ...], ...}

A label of 1 is an attack that succeeded, so the metric is attack success and lower is better. The attacks of one
behavior are one cluster. An attack with other words is another item, even under the same number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moe_cli.compare.imported_items import (
    NO_OUTCOME,
    ImportedColumn,
    ImportedItem,
    cell_of,
    digest_of_text,
    fraction_of,
    is_missing_cell,
    parse_outcome,
)
from moe_cli.errors import UsageError

TEST_CASE, GENERATION, LABEL = "test_case", "generation", "label"
HARMBENCH_HINT = "name the file of results/ that evaluate_completions.py of HarmBench wrote, whose attacks have labels"


def is_harmbench(value: Mapping[str, object]) -> bool:
    """Whether a JSON object is a map of behaviors to lists of attacks."""
    attacks = [attack for of_behavior in value.values() if isinstance(of_behavior, list) for attack in of_behavior]
    return (
        bool(attacks)
        and all(isinstance(of_behavior, list) for of_behavior in value.values())
        and all(isinstance(attack, dict) and TEST_CASE in attack and GENERATION in attack for attack in attacks)
    )


def harmbench_column(value: Mapping[str, object], path: Path) -> ImportedColumn:
    """The outcomes of one file that `is_harmbench`.

    Raises:
        UsageError: no attack has a label, or a label is neither 0 nor 1.
    """
    attacks = [
        (behavior, number, attack)
        for behavior, of_behavior in value.items()
        if isinstance(of_behavior, list)
        for number, attack in enumerate(of_behavior, start=1)
    ]
    if all(attack.get(LABEL) is None for _, _, attack in attacks):
        raise UsageError(f"{path} holds completions of HarmBench without labels", hint=HARMBENCH_HINT)
    outcomes = parse_outcome(
        [_harmbench_fraction(attack, f"{path}: attack {number} of {id}") for id, number, attack in attacks]
    )
    return ImportedColumn(
        name=path.stem,
        file_name=path.stem,
        source=str(path),
        task="HarmBench",
        measure=LABEL,
        metric="asr",
        items=tuple(
            ImportedItem(
                id=f"{behavior}/{number}",
                task="HarmBench",
                cluster=behavior,
                content=digest_of_text(repr(attack[TEST_CASE])),
                outcome=outcome,
            )
            for (behavior, number, attack), outcome in zip(attacks, outcomes, strict=True)
        ),
    )


def _harmbench_fraction(attack: Mapping[str, object], place: str) -> float | None:
    cell = cell_of(attack.get(LABEL))
    if is_missing_cell(cell):
        return None
    fraction = fraction_of(cell, 1)
    if fraction not in (0.0, 1.0):
        raise UsageError(f"{place}: its label is neither 0 nor 1, {NO_OUTCOME}", hint=HARMBENCH_HINT)
    return fraction
