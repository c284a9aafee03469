"""Files of outcomes as other programs write them, and their comparison."""

import orjson

from moe_cli.compare.import_files import SourceContent
from moe_cli.compare.imported import Import, import_sources
from moe_cli.compare.stage import compare

NOTICES = []


def table(runs):
    marks = {name: ["" if mark == "-" else mark for mark in marks] for name, marks in runs.items()}
    return [["item", *marks], *([str(place), *row] for place, row in enumerate(zip(*marks.values(), strict=True)))]


def written(path, rows, *, separator=",", end="\n", encoding="utf-8"):
    path.write_bytes(end.join(separator.join(row) for row in rows).encode(encoding) + end.encode())
    return path


def imported(*files, words=(), against=(), base=None, metric=None, lm_filter=None, measure=None, scale=1.0, **options):
    NOTICES.clear()
    reading = SourceContent(lm_filter=lm_filter, measure=measure, scale=scale)
    asked = Import(files=tuple(map(str, files)), metric=metric, reading=reading)
    words, against = (tuple(map(str, side)) for side in (words, against))
    found = import_sources(asked, words, NOTICES.append, against=against, base=base and str(base))
    rest = iter(found.sources)
    return compare([tuple(next(rest) for _ in of_arm) for of_arm in found.groups], 0.02, **options)


def pair(comparison, a, b):
    (found,) = [one for one in comparison.pairs if (one.a, one.b) == (a, b)]
    return found.differences[0]


def samples(path, outcomes, *, filters=("none",), metric="acc", unread=(), **changes):
    lines = [
        {
            "doc_id": place,
            "doc": {"question": "?"},
            "filtered_resps": ["[invalid]"] if place in unread else ["x"],
            "filter": name,
            "metrics": [metric],
            "doc_hash": f"hash {place}",
            metric: outcome,
            **changes,
        }
        for name in filters
        for place, outcome in enumerate(outcomes)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return path
