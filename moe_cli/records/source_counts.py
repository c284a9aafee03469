"""Counts of the rows in the sources that a user names: used, skipped and bad."""

from __future__ import annotations

from typing import Literal

from moe_cli.records.inputs import ItemKind
from moe_cli.records.record import record


@record
class BadRow:
    """A row that cannot be used."""

    place: str  # "pairs.jsonl:3"
    reason: str  # "`goal` is None, not a text"; never the words of a prompt


@record
class SourceCount:
    """One source of prompts with the counts of its rows: `rows` = `used` + all of `skipped` + the bad ones."""

    role: Literal["pairs", "benign", "attack", "refusals"]  # "pairs"
    name: str  # "goals.csv", "owner/name@1a2b3c4#train"; as it was named
    sha256: str  # of the file or folder; of a hub data set, over its rows
    format: str  # "AdvBench"
    rows: int  # 520
    used: int  # 518; rows that gave a pair, one side of it, or a prompt, before --limit
    skipped: dict[str, int]  # {"its attack failed": 2}
    bad_rows: tuple[BadRow, ...]
    unread: tuple[str, ...]  # ("category", "source"); columns that hold something and that nothing was read from

    @property
    def num_skipped(self) -> int:
        """Rows that were left out for any reason."""
        return sum(self.skipped.values())


@record
class UnreadableSource:
    """A source that cannot be used at all."""

    role: Literal["pairs", "benign", "attack", "refusals", "items", "answers"]
    name: str  # "goals.csv"; as it was named
    reason: str  # "goals.csv is a pickle, which could run code when it is read"
    hint: str  # "export it as JSON"


@record
class OfferedCounts:
    """The prompts in the sources, and the batches they would make."""

    num_pairs: int  # 1036; after --limit
    num_goals: int  # 518; different goals of these pairs
    num_benign: int  # 200
    num_benign_attacked: int  # 100; of these, inside an attack
    batch_size: int  # 16
    num_plain: int  # 4; plain goals in a batch
    num_benign_in_batch: int  # 4
    num_attacked: int  # 8
    most_batches: int  # 50; where the model's answers drop nothing
    num_replays: int  # 1600; prompts that are then replayed with an answer, to count the routing
    num_extra_replays: int  # 800; of these, beside the forms of the pairs with their own answers


@record
class DataPreview:
    """Result of `moe prepare --dry-run`: the data as recognised, before any model is loaded."""

    sources: tuple[SourceCount, ...]
    unreadable: tuple[UnreadableSource, ...]
    counts: OfferedCounts | None  # None: a source cannot be read as a whole
    refused: str | None  # why `moe prepare` would refuse the data


@record
class ItemSource:
    """One source of evaluation items with the counts of its rows."""

    name: str  # "harmful=items.jsonl"; as it was named
    sha256: str  # of the file or folder; of a hub data set, over its rows
    format: str  # "XSTest", "items"
    rows: int  # 450
    skipped: dict[str, int]  # {"it is equal to another row": 2}
    bad_rows: int  # 0
    unread: tuple[str, ...]  # ("focus", "note"); columns that hold something and that nothing was read from

    @property
    def num_skipped(self) -> int:
        """Rows that were left out for any reason."""
        return sum(self.skipped.values())

    @property
    def used(self) -> int:
        """Rows that gave an item, before --limit."""
        return self.rows - self.num_skipped - self.bad_rows


@record
class SuiteCount:
    """One suite of the items."""

    suite: str  # "attacked"
    kind: ItemKind
    num_items: int  # 200
    num_clusters: int  # 50; different goals


@record
class ItemsPreview:
    """Result of `moe evaluate --dry-run`: the items as recognised, before any model is loaded."""

    sources: tuple[ItemSource, ...]
    unreadable: tuple[UnreadableSource, ...]
    suites: tuple[SuiteCount, ...]  # after --limit
    refused: str | None  # why `moe evaluate` would refuse the items
