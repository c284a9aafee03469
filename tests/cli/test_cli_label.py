"""`moe label` and `moe compare --labels` as typed."""

import csv
import gzip
from dataclasses import replace

import orjson
import pytest

from moe_cli.data.label_sheets import read_sheet
from moe_cli.records import Message
from tests.compare.runs_on_disk import records, trained


def told(found, name):
    return [
        replace(
            record,
            answer=f"=glim of {name} {place}",
            item=replace(record.item, messages=(Message(role="user", content=f"zorp {place}"),)),
        )
        for place, record in enumerate(found)
    ]


@pytest.fixture
def runs(tmp_path):
    trained(tmp_path, "base", told(records(20, num=100), "base"))
    trained(tmp_path, "sel", told(records(60, num=100), "sel"), arm="selective")


DRAW = ("label", "base", "sel", "--metric", "asr", "--draw", "60")


def filled(place, value):
    """The file as a spreadsheet would save it."""
    with place.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    with place.open("w", encoding="utf-8-sig", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0].keys(), delimiter=";")
        writer.writeheader()
        writer.writerows({**row, "harmful": value(row)} for row in rows)


def test_draw_label_and_compare(moe, runs, tmp_path):
    done = moe(*DRAW, "-o", "l.csv")
    assert done.code == 0 and "120 answers of base and sel" in " ".join(done.out.split())
    assert "1.3 hours" in " ".join(done.out.split()) and "moe compare base sel --labels l.csv" in done.out
    assert "glim" not in done.out + done.err
    filled(tmp_path / "l.csv", lambda row: "Yes" if "sel" in row["answer"] else "no")
    done = moe("compare", "base", "sel", "--labels", "l.csv", "--json")
    found = orjson.loads(done.out)
    attack = found["pairs"][0]["differences"][0]
    assert (attack["labelled"], attack["correction"]["n"], round(attack["correction"]["judge"]["difference"], 6)) == (
        60,
        60,
        0.4,
    )
    assert "as corrected by 60 labelled answers of each arm" in " ".join(found["conclusion"])
    assert (found["labels"][0]["name"], found["labels"][0]["labelled"]) == ("l.csv", 120)
    report = (tmp_path / "comparison" / "report.html").read_text(encoding="utf-8")
    assert "by the judge alone" in report and "Rogan-Gladen" in report


def test_a_dry_run_writes_nothing_and_json_is_one_document(moe, runs, tmp_path):
    done = moe(*DRAW, "--dry-run", "--json")
    found = orjson.loads(done.out)
    assert (found["items"], found["answers"], found["strata"][0]["items"]) == (60, 120, 100)
    assert not (tmp_path / "labels.csv").exists()


def test_labels_are_never_overwritten(moe, refused, runs, tmp_path):
    moe(*DRAW)
    before = (tmp_path / "labels.csv").read_bytes()
    assert refused(*DRAW).code == 2
    assert (tmp_path / "labels.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("label", "base"), 2, "1 runs to label in the place of 2"),
        (("label", "base", "nothing"), 3, "nothing is no training run"),
        (("label", "base", "sel", "--metric", "over_refusal"), 2, "0 items of over-refusal are scored in both runs"),
        (("compare", "base", "sel", "--labels", "nothing.csv"), 2, "there is no file nothing.csv"),
    ],
)
def test_what_cannot_be_labelled_is_refused(refused, runs, words, code, reason):
    done = refused(*words)
    assert done.code == code and reason in done.err


def test_too_few_labels_end_with_the_code_of_a_usage_error(moe, refused, runs, tmp_path):
    moe(*DRAW, "-o", "l.csv")
    filled(tmp_path / "l.csv", lambda row: "no" if "1" in row["answer"] else "")
    done = refused("compare", "base", "sel", "--labels", "l.csv")
    assert done.code == 2 and "fewer than 50 correct nothing" in done.err
    assert not (tmp_path / "comparison").exists()


def test_labelling_on_the_terminal_stops_goes_on_and_asks_nothing_twice(moe, runs, tmp_path, monkeypatch):
    moe(*DRAW, "-o", "l.csv")
    typed = iter(["y", "perhaps", "n", "s", "q"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    done = moe("label", "l.csv")
    rows = read_sheet(str(tmp_path / "l.csv")).rows
    assert [row.label for row in rows[:4]] == [True, False, None, None]
    assert "2 of 120 answers are labelled; go on with: moe label l.csv" in done.out
    assert "zorp" in done.out and "base" not in done.out.replace("=glim of base", "")
    typed = iter(["y", *["n"] * 200])
    done = moe("label", "l.csv")
    rows = read_sheet(str(tmp_path / "l.csv")).rows
    assert [row.label for row in rows[:3]] == [True, False, True]
    assert "120 of 120 answers are labelled" in done.out


def test_the_end_of_the_input_stops_the_labelling_and_keeps_what_was_said(moe, runs, tmp_path, monkeypatch):
    moe(*DRAW, "-o", "l.csv")
    typed = iter(["y"])

    def ends(prompt):
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", ends)
    assert "1 of 120 answers are labelled" in moe("label", "l.csv").out


@pytest.mark.parametrize("name", ["l.csv.gz", "l.json", "l.parquet"])
def test_a_file_of_another_form_is_not_overwritten_with_csv(refused, moe, runs, tmp_path, name):
    moe(*DRAW, "-o", "l.csv")
    content = gzip.compress((tmp_path / "l.csv").read_bytes())
    (tmp_path / name).write_bytes(content)
    done = refused("label", name)
    assert done.code == 2 and f"{name} is no name of a CSV file" in done.err
    assert (tmp_path / name).read_bytes() == content
