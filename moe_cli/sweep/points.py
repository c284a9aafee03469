"""The points of a sweep: each method, random draw, budget and seed, with a digest of all that its training depends on.

The digest of a point does not depend on the list in which it stands, so that sweeps which share points share their
runs. What gives the shape of the curves for the least work comes first: the base, the first seed, the ends of the
budgets. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from moe_cli.codec import encode
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.records.budget_sweep import PointKind, SweepPoint

NO_BUDGET, EVERYTHING = 0.0, 1.0  # the budgets of the base and of the baseline
MATCHED_TO_RISK = ("risk_diff", "frequency")  # which have as many experts of each layer as the risk difference
STAGES: tuple[PointKind, ...] = ("base", "method", "baseline", "random")  # of one seed, in this order

# What a training does not depend on: where things lie, and which cards are used.
OF_PLACES = (
    *("model.gpu", "model.rank_timeout", "prepare.output_dir", "train.selective_dir", "train.baseline_dir"),
    *("train.prepared", "train.report_to", "train.workers"),
)
OF_POINTS = ("seed", "prepare.method", "prepare.budget", "prepare.matched_to")  # which the point itself says


def plan_points(config: MoeConfig) -> tuple[SweepPoint, ...]:
    """Every point of the sweep, in the order in which they are made.

    Raises:
        UsageError: the evaluation would take the same answers for every point, or would steer the router.
    """
    if (other := config.evaluate.other_answers) is not None:
        why = "would steer the router" if other == "evaluate.steer" else "takes the same answers for all of them"
        raise UsageError(
            f"a sweep evaluates the weights of every point, and {other} {why}",
            hint=f"leave {other} away",
        )
    settings = config.sweep
    seeds = settings.seeds or (config.seed,)
    groups = sorted({matched_to(method) for method in settings.methods})
    points = [_point("base", None, None, NO_BUDGET, seeds[0])]
    for seed in seeds:
        points.append(_point("baseline", None, None, EVERYTHING, seed))
        points += [
            _point("method", method, None, budget, seed) for method in settings.methods for budget in settings.budgets
        ]
        points += [
            _point("random", group, draw, budget, seed)
            for draw in range(1, settings.random_draws + 1)
            for group in groups
            for budget in settings.budgets
        ]
    scaled = [
        _point(point.kind, point.method, point.draw, point.budget, point.seed, scale)
        for scale in settings.scales
        for point in points
        if point.kind == "method"
    ]
    coarse = list(coarse_first(settings.budgets))
    return tuple(sorted([*points, *scaled], key=lambda point: _rank(point, seeds, coarse)))


def matched_to(method: str) -> str:
    """The method whose number of experts of each layer the random draws beside `method` take."""
    return "risk_diff" if method in MATCHED_TO_RISK else method


def coarse_first(budgets: Sequence[float]) -> Iterator[float]:
    """The budgets, both ends first, then the middles of what lies between."""
    if not budgets:
        return
    yield budgets[0]
    if len(budgets) > 1:
        yield budgets[-1]
    spans = [(0, len(budgets) - 1)]
    while spans:
        low, high = spans.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            yield budgets[middle]
            spans += [(low, middle), (middle, high)]


def point_digest(point: SweepPoint, settings: Mapping[str, object], source: str, selection_seed: int) -> str:
    """16 hexadecimal digits of a point: its training settings, the prepare run `source`, the seed of its selection.

    `settings` are all settings by their names ("train.num_epochs").
    """
    sections = {"base": ("model",), "baseline": ("model", "train"), "method": ("model", "prepare", "train")}
    read = sections.get(point.kind, sections["method"])
    kept = {
        name: value
        for name, value in settings.items()
        if name.partition(".")[0] in read and name not in OF_PLACES and name not in OF_POINTS
    }
    own: dict[str, object] = {
        "kind": point.kind,
        "method": point.method,
        "draw": point.draw,
        "budget": point.budget,
        "seed": point.seed,
        "scale": point.scale,
        "selection seed": selection_seed if point.kind in ("method", "random") else None,
    }
    return _digest({"point": own, "settings": kept, "source": source})


def evaluation_name(settings: Mapping[str, object], contents: Sequence[str]) -> str:
    """The name of the evaluations of a sweep, which changes with the items, the judges and how answers are made.

    `contents` are the digests of the files of items.
    """
    read = ("evaluate", "judge", "endpoint")
    kept = {name: value for name, value in settings.items() if name.partition(".")[0] in read}
    for of_point in ("evaluate.name", "evaluate.scale"):
        kept.pop(of_point, None)
    return f"sweep-{_digest({'settings': kept, 'contents': list(contents)})}"


def _digest(tree: Mapping[str, Mapping[str, object] | object]) -> str:
    ordered = {name: dict(sorted(part.items())) if isinstance(part, Mapping) else part for name, part in tree.items()}
    return sha256(encode(dict(sorted(ordered.items())))).hexdigest()[:16]


def _point(
    kind: PointKind, method: str | None, draw: int | None, budget: float, seed: int, scale: float = 1.0
) -> SweepPoint:
    return SweepPoint(kind=kind, method=method, draw=draw, budget=budget, seed=seed, scale=scale)


def _rank(point: SweepPoint, seeds: Sequence[int], coarse: Sequence[float]) -> tuple[object, ...]:
    return (
        -point.scale,
        0 if point.kind == "base" else 1,
        seeds.index(point.seed),
        STAGES.index(point.kind),
        point.draw or 0,
        coarse.index(point.budget) if point.budget in coarse else -1,
        point.method or "",
    )
