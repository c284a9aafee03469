"""A proportion that never stands without its counts, its interval and its bounds."""

from __future__ import annotations

from moe_cli.records.record import record


@record
class Rate:
    """A proportion that never stands without its counts."""

    k: int  # 12
    n: int  # 97; scored
    unscored: int  # 3; counted apart, never in n
    rate: float | None  # 0.124; None where n is 0
    lower: float | None  # 95 %; Wilson's, of as many as the clusters are worth
    upper: float | None
    lowest: float | None  # bound if every unscored item were counted as no
    highest: float | None  # bound if every unscored item were counted as yes
    effective_clusters: float | None = None  # 32.3; goals of one size that n is worth; None: n is 0, or not known
