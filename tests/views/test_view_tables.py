"""Every view is readable at 80 columns without colour, whatever stands in the records."""

import dataclasses
import types
import typing
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.cells import cell_len

from moe_cli.records import (
    Benchmark,
    Comparison,
    ComparisonResult,
    Environment,
    EvaluationResult,
    EvaluationSummary,
    FlipText,
    Manifest,
    Notice,
    PairedDifference,
    PrepareResult,
    PrepareSummary,
    Progress,
    RankedTable,
    RunListing,
    RunRecord,
    Selection,
    StepRecord,
    SweepResult,
    TrainingPlan,
    TrainingResult,
    TrainingSummary,
    Verdict,
)
from moe_cli.views.benchmark_tables import bench_view
from moe_cli.views.compared import compared_view
from moe_cli.views.console import Reporter, stdout_console
from moe_cli.views.evaluated import evaluated_view
from moe_cli.views.prepared import prepared_view
from moe_cli.views.run_tables import environment_view, manifest_view, runs_table
from moe_cli.views.selected import ranked_view, selected_view
from moe_cli.views.trained import plan_view, trained_view
from tests.views.test_safe_text import HOSTILE

UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # control, format, surrogate, private, unassigned, line breaks
NOTHING = object()  # every field that may be None is None
SETTINGS = {
    "num_epochs": 3,
    "batches_per_step": 1,
    "learning_rate": 5e-5,
    "warmup_steps": 5,
}


def value_of(hint, text):
    """A value of a type hint in which every free text is `text`; `NOTHING` leaves out what may be left out."""
    if hint is str:
        return "text" if text is NOTHING else text
    if hint in (int, float, bool, object):
        return {int: 1_234_567, float: 0.5, bool: True, object: "text"}[hint]
    if dataclasses.is_dataclass(hint):
        return made(hint, text)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return arguments[0]
    if origin in (typing.Union, types.UnionType):
        return None if text is NOTHING and type(None) in arguments else value_of(arguments[0], text)
    if origin is dict:
        return {value_of(str, text): value_of(arguments[1], text)}
    assert origin is tuple
    inner = arguments[:1] * 2 if arguments[-1] is Ellipsis else arguments
    return tuple(value_of(one, text) for one in inner)


def made(record, text="text", **changes):
    hints = typing.get_type_hints(record)
    values = {field.name: value_of(hints[field.name], text) for field in dataclasses.fields(record)}
    if "hyperparameters" in values:
        values["hyperparameters"] = SETTINGS
    return record(**(values | changes))


RESULTS = (PrepareResult, TrainingResult, EvaluationResult, ComparisonResult, SweepResult)
FINISHED = datetime(2026, 11, 22, 17, 12, 33, tzinfo=UTC)


def run(text="text", **changes):
    return made(RunRecord, text, id="selective-20261122-171233-5f3a5f3a", finished=FINISHED.isoformat(), **changes)


def listed(*listings):
    return runs_table(listings, now=FINISHED + timedelta(hours=3), here=Path("/a"))


# Every view of the program, made from records with one text in every place.
VIEWS = {
    "prepared": lambda text: prepared_view(made(PrepareSummary, text), made(Selection, text)),
    "selected": lambda text: selected_view(made(Selection, text)),
    "ranked": lambda text: ranked_view(made(RankedTable, text)),
    "plan": lambda text: plan_view(made(TrainingPlan, text)),
    "trained": lambda text: trained_view(made(TrainingSummary, text)),
    "evaluated": lambda text: evaluated_view(made(EvaluationSummary, text)),
    "compared": lambda text: compared_view(made(Comparison, text), [made(FlipText, text)]),
    "bench": lambda text: bench_view(made(Benchmark, text)),
    "runs": lambda text: listed(
        *(made(RunListing, text, run=run(text), result=made(kind, text), problem=None) for kind in RESULTS)
    ),
    "unreadable runs": lambda text: listed(made(RunListing, text, run=run(text), result=None)),
    "environment": lambda text: environment_view(made(Environment, text)),
    "manifest": lambda text: manifest_view(made(Manifest, text)),
}


@pytest.fixture
def draw(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")

    def run(renderable):
        stdout_console().print(renderable)
        return capsys.readouterr().out

    return run


NASTY = {
    **HOSTILE,
    "plain": "text",
    "path": "/data/experiments/" + "a-long-directory/" * 8,
    "everything at once": "\x1b[2J\x9b31m\u202e[/red]\u200b漢字\r\n\u2028" * 20,
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_a_view_stays_in_80_columns_and_lets_nothing_unsafe_out(draw, name, text):
    out = draw(VIEWS[name](text))
    assert out.strip()
    assert max(map(cell_len, out.split("\n"))) <= 80
    assert not [c for c in out if c != "\n" and unicodedata.category(c) in UNSAFE]


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_of_records_without_data_shows_no_zero_in_their_place(draw, name):
    out = draw(VIEWS[name](NOTHING))
    assert "None" not in out and "nan" not in out
    assert " 0.0 %" not in out and " 0 MB" not in out


def test_no_data_is_a_dash(draw):
    out = draw(compared_view(made(Comparison, NOTHING)))
    rows = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in out.splitlines() if line.startswith("│")}
    for name in (
        "unfrozen experts",
        "trainable params",
        "trainable ratio",
        "training time",
        "peak memory",
        "attack success",
        "over-refusal",
        "correct",
        "perplexity ratio",
        "KL per token",
    ):
        assert [cell.strip() for cell in rows[name]] == ["-", "-"], name


def test_an_id_in_the_list_of_runs_is_never_broken(draw):
    long = run(path="/a/very/long/path/" * 6, model_name="allenai/OLMoE-1B-7B-0125-Instruct")
    out = draw(listed(made(RunListing, run=long, result=None, problem=None, state="gone")))
    assert "5f3a5f3a" in out and "3 h ago" in out and "gone" in out


def test_the_arms_are_announced_by_their_headlines(draw):
    assert "SELECTIVE EXPERT training" in draw(plan_view(made(TrainingPlan, arm="selective")))
    baseline = draw(plan_view(made(TrainingPlan, arm="baseline")))
    assert "BASELINE EXPERIMENT: Training ALL model parameters" in baseline


def test_the_table_of_unfrozen_experts_counts_every_layer_and_all(draw):
    count = dataclasses.replace(made(TrainingPlan).count, experts_per_layer=(3, 5), num_experts=16)
    base = dataclasses.replace(made(TrainingPlan).base, layers=(1, 7))
    out = draw(plan_view(made(TrainingPlan, count=count, base=base)))
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert cells == [["1", "3 / 16"], ["7", "5 / 16"], ["all", "8 / 32"]]


def test_a_difference_stands_with_its_n_its_interval_and_its_p(draw):
    found = made(
        PairedDifference, metric="attack success", n=97, difference=-0.123, lower=-0.2, upper=-0.045, p_adjusted=0.003
    )
    pair = dataclasses.replace(made(Comparison).pairs[0], differences=(found,))
    line = next(line for line in draw(compared_view(made(Comparison, pairs=(pair,)))).splitlines() if "-12.3" in line)
    for words in ("attack success", "97", "-12.3 [-20.0, -4.5]", "0.003", "better"):
        assert words in line


def test_the_reporter_keeps_talk_off_stdout(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with Reporter(tables=True) as notify:
        notify(Notice(text="\x1b[2Jnewest run", warning=True))
        notify(Progress(task="answers", done=3, total=9))
        notify(Progress(task="benign", done=3, total=8, tokens_per_second=7.0, num_cut_off=2))
        notify(made(StepRecord, step=1))
        notify(made(TrainingPlan))
    done = capsys.readouterr()
    assert "warning: \ufffd[2Jnewest run" in done.err
    assert "answering prompts" in done.err and "3/9" in done.err
    assert "3/8" in done.err and "7 tokens/s, 2 cut off" in done.err
    assert "SELECTIVE EXPERT training" in done.out
    assert "\x1b" not in done.out + done.err and "answering" not in done.out


def test_with_json_even_the_plan_is_talk(capsys):
    with Reporter(tables=False) as notify:
        notify(made(TrainingPlan))
    done = capsys.readouterr()
    assert done.out == "" and "SELECTIVE EXPERT training" in done.err


def test_a_reporter_that_has_nothing_to_say_says_nothing(capsys):
    with Reporter(tables=True):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_record_without_a_view_is_a_bug():
    with Reporter(tables=True) as notify, pytest.raises(TypeError, match="no view for Verdict"):
        notify(made(Verdict))
