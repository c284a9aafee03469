"""What a training on one attack does to others: runs of different preparations, evaluated on the same suites.

Every number of attack success is one of the comparison's own paired differences; what is added is where a run was
prepared, and how far the selections of two preparations are the same.
"""

from __future__ import annotations

from moe_cli.records.record import record


@record
class TransferCell:
    """Attack success of one arm in one suite."""

    suite: str  # "story"
    trained_on: bool  # the preparation of the arm has an attack of this name
    n: int  # items
    rate: float  # mean over the runs of the arm
    change: float | None  # arm minus base; None: no untrained model among the arms
    lower: float | None  # 95 %, of the paired difference
    upper: float | None


@record
class TransferRow:
    """One trained arm: where it was prepared, and what is left of every suite of attacks."""

    arm: str  # "selective_a"
    prepared_on: tuple[str, ...]  # ("story",); attacks in batches, or sources where attacks have no names
    num_experts: int | None  # 12; selected, in all rounds; None: it trains every parameter
    cells: tuple[TransferCell, ...]  # one for every suite, in the order of the table


@record
class UnionOverlap:
    """The selected experts of two arms."""

    a: str  # "selective_a"
    b: str
    num_a: int  # 12
    num_b: int  # 12
    num_shared: int  # 7
    jaccard: float  # 0.41; shared / in either
    expected: float  # 2.3; shared by random sets with as many experts of each layer
    p_value: float  # 0.001; that such sets share at least as many


@record
class Transfer:
    """Arms that were prepared on different attacks or sources. Exploratory: nothing is claimed from it."""

    suites: tuple[str, ...]  # suites of attacks
    rows: tuple[TransferRow, ...]
    overlaps: tuple[UnionOverlap, ...]  # every two arms that train experts
    unknown: tuple[str, ...]  # arms whose prepare run is gone or changed
