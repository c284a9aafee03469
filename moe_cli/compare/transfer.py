"""The transfer table: what each run was prepared on, what it leaves of every suite of attacks, and shared experts.

It is made where two trained arms were prepared on different attacks, or on different sources where attacks have no
names. Attack success and its change against the base are the comparison's own differences. A suite counts as trained
on where it has the name of an attack of the preparation; nothing else is looked for.

Letters of shapes: L expert layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from pathlib import PurePath

import numpy as np

from moe_cli.artifacts import FinishedRun, Store, layout
from moe_cli.artifacts.files import naming_file
from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.records import Comparison, Expert, PairedDifference, PrepareSummary, Selection
from moe_cli.records.attack_transfer import Transfer, TransferCell, TransferRow, UnionOverlap
from moe_cli.records.comparison import ComparedArm
from moe_cli.records.training import MODES_OF_EXPERTS, UNTRAINED
from moe_cli.stats.metrics import ATTACK_SUCCESS, metric_and_suite

TINY = "the tiny language"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What a prepare run was made on, and which experts it selected."""

    prepared_on: tuple[str, ...]
    attacks: frozenset[str]  # names of the attacks in batches
    union: frozenset[Expert]
    layers: tuple[int, ...]
    num_experts: int  # of a layer
    trains_union: bool  # False: the run trains every parameter

    def has_experts_of(self, other: Preparation) -> bool:
        """Whether both are of models with the same layers of experts."""
        return (self.layers, self.num_experts) == (other.layers, other.num_experts)


def preparations_of(sources: Sequence[ComparedRun], store: Store) -> dict[str, Preparation]:
    """The preparation of every trained run by the name of its column, where the registry still knows it.

    Raises:
        ArtifactError: a file of a prepare run is damaged.
    """
    read: dict[str, Preparation | None] = {}
    found = {}
    for source in sources:
        if source.training is None:
            continue
        digest = source.training.prepared
        if digest not in read:
            run = store.with_digest(digest, "prepare")
            read[digest] = _preparation(run) if run is not None and _is_complete(run) else None
        if (preparation := read[digest]) is not None:
            of_routers = source.training.total_unique_unsafe_experts == 0  # which trained alone
            anew = (batch for phase in source.training.phases for batch in phase.selected or ())
            found[source.column.name] = replace(
                preparation,
                union=frozenset() if of_routers else preparation.union.union(*anew),
                trains_union=source.training.training_mode in MODES_OF_EXPERTS,
            )
    return found


def _is_complete(run: FinishedRun) -> bool:
    needed = (layout.SELECTION, layout.PREPARE_SUMMARY, layout.batch_outputs(run.manifest.model_name or ""))
    return all(name in run.manifest.files for name in needed)


def _preparation(run: FinishedRun) -> Preparation:
    selection = run.record(layout.SELECTION, Selection)
    attacks = _attacks(run)
    sources = run.record(layout.PREPARE_SUMMARY, PrepareSummary).sources
    names = [f"{PurePath(source.name).name} {source.sha256[:8]}" for source in sources if source.role == "pairs"]
    return Preparation(
        prepared_on=tuple(sorted(attacks)) or tuple(names) or (TINY,),
        attacks=frozenset(attacks),
        union=frozenset(selection.union),
        layers=selection.base.layers,
        num_experts=selection.base.num_experts,
        trains_union=True,
    )


def _attacks(run: FinishedRun) -> set[str]:
    """Names of the attacks of the pairs in batches; empty where the pairs name none."""
    import pyarrow.parquet as pq  # here, as every other command starts without it

    path = run.file(layout.batch_outputs(run.manifest.model_name or ""))
    with naming_file(path), path.open("rb") as file:
        rows = pq.read_table(file, columns=["side", "attack", "batch"]).to_pylist()
    return {row["attack"] for row in rows if row["side"] == "unsafe" and row["batch"] is not None and row["attack"]}


def transfer_of(comparison: Comparison, preparations: Mapping[str, Preparation]) -> Transfer | None:
    """The table of a comparison; None where no two arms are known to be prepared on something different. Pure.

    `preparations` are those of the runs, by the names of their columns.
    """
    trained = [arm for arm in comparison.arms if not _is_untrained(arm, comparison)]
    of_arm = {arm.name: [preparations[run] for run in arm.runs if run in preparations] for arm in trained}
    known = [arm for arm in trained if len(of_arm[arm.name]) == len(arm.runs)]
    if len({_names(of_arm[arm.name]) for arm in known}) < 2:
        return None
    suites = _suites(comparison)
    rows = tuple(_row(arm.name, of_arm[arm.name], suites, comparison) for arm in known)
    unions = {
        arm.name: frozenset().union(*(one.union for one in of_arm[arm.name]))
        for arm in known
        if all(one.trains_union and one.union for one in of_arm[arm.name])
    }
    return Transfer(
        suites=suites,
        rows=rows,
        overlaps=tuple(
            union_overlap(a, b, unions[a], unions[b], of_arm[a][0].num_experts)
            for a, b in combinations(unions, 2)
            if of_arm[a][0].has_experts_of(of_arm[b][0])
        ),
        unknown=tuple(arm.name for arm in trained if arm not in known),
    )


def _is_untrained(arm: ComparedArm, comparison: Comparison) -> bool:
    modes = {column.name: column.training_mode for column in comparison.columns}
    return modes[arm.runs[0]] == UNTRAINED


def _names(preparations: Sequence[Preparation]) -> tuple[str, ...]:
    return tuple(sorted({name for one in preparations for name in one.prepared_on}))


def _suites(comparison: Comparison) -> tuple[str, ...]:
    """The suites that have a paired attack success; `` is that of the only suite of attacks."""
    names = dict.fromkeys(
        suite
        for pair in comparison.pairs
        for difference in pair.differences
        for metric, suite in [metric_and_suite(difference.metric)]
        if metric == ATTACK_SUCCESS
    )
    return tuple(name for name in names if name) or tuple(names)


def _row(arm: str, preparations: Sequence[Preparation], suites: Sequence[str], comparison: Comparison) -> TransferRow:
    attacks = frozenset().union(*(one.attacks for one in preparations))
    trains_union = all(one.trains_union for one in preparations)
    return TransferRow(
        arm=arm,
        prepared_on=_names(preparations),
        num_experts=len(frozenset().union(*(one.union for one in preparations))) if trains_union else None,
        cells=tuple(cell for suite in suites for cell in _cell(arm, suite, suite in attacks, comparison)),
    )


def _cell(arm: str, suite: str, trained_on: bool, comparison: Comparison) -> Iterator[TransferCell]:
    """The arm's difference from the base in a suite, or only its rate; nothing where neither was measured."""
    of_base = comparison.pair_with_base(arm)
    pairs = [pair for pair in comparison.pairs if arm in (pair.a, pair.b)]
    for pair in [of_base or pairs[0]] if pairs else []:
        sign = 1 if pair.b == arm else -1
        for found in pair.differences:
            if _is_of(found, suite):
                change, *ends = (sign * value + 0.0 for value in (found.difference, found.lower, found.upper))
                yield TransferCell(
                    suite=suite,
                    trained_on=trained_on,
                    n=found.n,
                    rate=found.rate_b if sign == 1 else found.rate_a,
                    change=change if of_base else None,
                    lower=min(ends) if of_base else None,
                    upper=max(ends) if of_base else None,
                )


def _is_of(found: PairedDifference, suite: str) -> bool:
    return metric_and_suite(found.metric) == (ATTACK_SUCCESS, suite)


def union_overlap(
    a: str, b: str, experts_a: frozenset[Expert], experts_b: frozenset[Expert], num_experts: int
) -> UnionOverlap:
    """How many experts two selections share, beside what random ones with as many of each layer share.

    In a layer with E experts random sets of n and m share a hypergeometric number, n m / E on average; layers are
    independent, so the sum over layers has the convolution of their distributions.
    """
    numbers_a, numbers_b = (Counter(expert.layer for expert in one) for one in (experts_a, experts_b))
    chances = np.ones(1)
    for layer in numbers_a.keys() & numbers_b.keys():
        num_a, num_b = numbers_a[layer], numbers_b[layer]
        ways = [comb(num_a, shared) * comb(num_experts - num_a, num_b - shared) for shared in range(num_b + 1)]
        chances = np.convolve(chances, [number / comb(num_experts, num_b) for number in ways])
    shared, either = len(experts_a & experts_b), len(experts_a | experts_b)
    return UnionOverlap(
        a=a,
        b=b,
        num_a=len(experts_a),
        num_b=len(experts_b),
        num_shared=shared,
        jaccard=shared / either if either else 0.0,
        expected=sum(numbers_a[layer] * numbers_b[layer] for layer in numbers_a) / num_experts,
        p_value=min(1.0, float(chances[shared:].sum())),
    )
