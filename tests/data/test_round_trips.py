"""Any pairs, written as JSON Lines, JSON, CSV or parquet, are read as the same pairs."""

import csv
import io
import tempfile
from pathlib import Path

import orjson
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_cli.data import read_source
from moe_cli.data.labels import truth_of
from moe_cli.data.turns import NO_TEXTS
from moe_cli.prepare.pairs import Attacks, pairs_of_entries

# What every container can hold: no surrogates, no NUL, and no prompt that means "missing", true or false.
TEXT = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), min_size=1, max_size=40)
    .filter(lambda text: text.strip() and text.strip().casefold() not in NO_TEXTS and truth_of(text) is None)
    .filter(lambda text: not text.startswith("[") and "\x1a" not in text)
)
NAME = st.from_regex("[a-z]{1,8}", fullmatch=True).filter(lambda name: name != "nan")
PAIRS = st.lists(
    st.fixed_dictionaries({"goal": TEXT, "safe": TEXT, "unsafe": TEXT, "attack": st.none() | NAME}),
    min_size=1,
    max_size=6,
)


def as_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows):
    data = io.BytesIO()
    Dataset.from_list(rows).to_parquet(data)
    return data.getvalue()


def pairs_in(directory, name, content):
    (Path(directory) / name).write_bytes(content)
    found = pairs_of_entries([read_source(str(Path(directory) / name))], Attacks())
    assert found.faults == []
    return found.pairs


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_every_container_gives_the_same_pairs(rows):
    rows = [{"id": number, **row, "goal": f"{row['goal']} {number}"} for number, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as directory:
        lines = pairs_in(directory, "a.jsonl", b"\n".join(orjson.dumps(row) for row in rows))
        assert [pair.safe[0].content for pair in lines.values()] == [row["safe"] for row in rows]
        assert list(lines) == [str(row["id"]) for row in rows]
        assert pairs_in(directory, "b.json", orjson.dumps(rows)) == lines
        assert pairs_in(directory, "c.csv", as_csv(rows)) == lines
        assert pairs_in(directory, "d.parquet", as_parquet(rows)) == lines


TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXT}), max_size=3
).flatmap(lambda turns: TEXT.map(lambda last: [*turns, {"role": "user", "content": last}]))


@settings(max_examples=30, deadline=None)
@given(st.lists(TURNS, min_size=1, max_size=3))
def test_conversations_survive_every_container_too(conversations):
    rows = [{"id": n, "goal": f"zorp {n}", "safe": turns, "unsafe": turns} for n, turns in enumerate(conversations)]
    cells = [
        {key: orjson.dumps(row[key]).decode() if key in ("safe", "unsafe") else row[key] for key in row} for row in rows
    ]
    with tempfile.TemporaryDirectory() as directory:
        lines = pairs_in(directory, "a.jsonl", b"\n".join(orjson.dumps(row) for row in rows))
        assert [[turn.content for turn in pair.unsafe] for pair in lines.values()] == [
            [turn["content"] for turn in turns] for turns in conversations
        ]
        assert pairs_in(directory, "c.csv", as_csv(cells)) == lines
        assert pairs_in(directory, "d.parquet", as_parquet(rows)) == lines
