"""The transfer table: the comparison's own numbers by what was prepared on, and exact overlaps of the selections."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.codec import decode, encode
from moe_cli.compare.transfer import Preparation, transfer_of, union_overlap
from moe_cli.records import Comparison, Expert, PrepareSummary, Selection, SourceCount
from moe_cli.records.ablation import Steering
from moe_cli.records.training import UNTRAINED, PhaseRecord
from moe_cli.views.compared import compared_markdown, compared_view
from moe_cli.views.console import stdout_console
from moe_cli.views.report.page import report_page
from moe_cli.views.transfer_tables import MOST_SUITES, transfer_tables
from tests.builders import identity
from tests.compare.runs_on_disk import CONFIG, bare, records, trained
from tests.compare.scenarios import answers, comparison, source
from tests.compare.test_compare_command import moe  # noqa: F401
from tests.prepare.finished import made
from tests.views.report_records import report_data

STORY = frozenset(Expert(layer=1, index=index) for index in range(4))
CHAT = frozenset(Expert(layer=1, index=index) for index in range(2, 6))


def preparation(*attacks, union=STORY, trains_union=True) -> Preparation:
    return Preparation(
        prepared_on=attacks,
        attacks=frozenset(attacks),
        union=union,
        layers=(1,),
        num_experts=16,
        trains_union=trains_union,
    )


def attacked(name, story, chat, mode="selective_experts"):
    return source(name, [*answers("story", 40, story), *answers("chat", 40, chat)], mode)


@pytest.fixture
def compared() -> Comparison:
    return comparison(attacked("tiny", 40, 40, UNTRAINED), attacked("on_story", 4, 30), attacked("on_chat", 28, 2))


PREPARED = {"on_story": preparation("story"), "on_chat": preparation("chat", union=CHAT)}


def test_a_cell_is_the_paired_difference_from_the_base_and_the_diagonal_is_marked(compared):
    found = transfer_of(compared, PREPARED)
    assert found.suites == ("chat", "story") and [row.prepared_on for row in found.rows] == [("story",), ("chat",)]
    cells = {(row.arm, cell.suite): cell for row in found.rows for cell in row.cells}
    assert len(cells) == 4
    assert {key for key, cell in cells.items() if cell.trained_on} == {("on_story", "story"), ("on_chat", "chat")}
    for pair in compared.pairs[:2]:
        for difference in pair.differences:
            if difference.metric.startswith("attack success: "):
                cell = cells[pair.b, difference.metric.removeprefix("attack success: ")]
                own = (cell.n, cell.rate, cell.change, cell.lower, cell.upper)
                paired = (difference.rate_b, difference.difference, difference.lower, difference.upper)
                assert own == (difference.n, *paired)
    assert cells["on_story", "story"].rate == 0.1 and cells["on_chat", "story"].change == pytest.approx(-0.3)


def test_the_change_is_from_the_base_wherever_it_is_named_and_from_no_steered_router(compared):
    base, *arms = attacked("tiny", 40, 40, UNTRAINED), attacked("on_story", 4, 30), attacked("on_chat", 28, 2)
    last = comparison(*arms, base)
    assert transfer_of(last, PREPARED).rows == transfer_of(compared, PREPARED).rows
    of_arms = next(pair for pair in last.pairs if (pair.a, pair.b) == ("on_story", "on_chat"))
    assert last.base_rates(of_arms) == compared.base_rates(of_arms) != {}
    assert [last.base_rates(pair) for pair in last.pairs if pair != of_arms] == [{}, {}]
    steered = attacked("steered", 10, 10, UNTRAINED)
    up = Steering(activate=(Expert(layer=1, index=0),), deactivate=(), epsilon=0.01)
    column = replace(steered.column, evaluation=replace(steered.column.evaluation, steering=up))
    first = comparison(replace(steered, column=column), *arms, base)
    assert transfer_of(first, PREPARED).rows == transfer_of(compared, PREPARED).rows
    without = transfer_of(comparison(replace(steered, column=column), *arms), PREPARED)
    assert all(cell.change is None for row in without.rows for cell in row.cells)


def test_without_the_untrained_model_there_are_rates_and_no_change(compared):
    without = comparison(attacked("on_story", 4, 30), attacked("on_chat", 28, 2))
    found = transfer_of(without, PREPARED)
    cells = {(row.arm, cell.suite): cell for row in found.rows for cell in row.cells}
    assert cells["on_story", "story"].rate == 0.1 and cells["on_chat", "story"].rate == 0.7
    assert all(cell.change is cell.lower is None for cell in cells.values())
    assert "add the untrained model" in " ".join(transfer_tables(replace(without, transfer=found))[0].notes)


@pytest.mark.parametrize(
    "preparations",
    [
        {},
        {"on_story": preparation("story")},
        {"on_story": preparation("story"), "on_chat": preparation("story", union=CHAT)},
    ],
)
def test_there_is_no_table_where_no_two_arms_are_known_to_differ(compared, preparations):
    found = transfer_of(compared, preparations)
    assert found is None and transfer_tables(replace(compared, transfer=found)) == ()


def test_an_arm_that_trains_everything_has_a_row_and_no_overlap_and_an_unknown_one_is_named(compared):
    whole = {**PREPARED, "on_chat": preparation("chat", trains_union=False)}
    found = transfer_of(compared, whole)
    assert [row.num_experts for row in found.rows] == [4, None] and found.overlaps == ()
    more = comparison(attacked("A", 4, 30), attacked("B", 28, 2), attacked("C", 5, 5))
    found = transfer_of(more, {"A": preparation("story"), "B": preparation("chat", union=CHAT)})
    assert found.unknown == ("C",) and [row.arm for row in found.rows] == ["A", "B"]


def test_the_only_suite_of_attacks_is_the_column():
    found = transfer_of(comparison(answers("attacked", 40, 4), answers("attacked", 40, 8)), {
        "A": preparation("story"), "B": preparation("chat")
    })  # fmt: skip
    assert found.suites == ("",) and [row.cells[0].rate for row in found.rows] == [0.1, 0.2]


def test_the_overlap_is_counted_and_chance_is_that_of_all_sets_with_these_numbers_per_layer():
    a = frozenset({Expert(layer=1, index=0), Expert(layer=1, index=1), Expert(layer=2, index=3)})
    b = frozenset({Expert(layer=1, index=1), Expert(layer=1, index=2), Expert(layer=2, index=3)})
    found = union_overlap("a", "b", a, b, 5)
    assert (found.num_a, found.num_b, found.num_shared, found.jaccard) == (3, 3, 2, 0.5)
    shared = [
        len({0, 1} & set(first)) + (second == 3) for first in combinations(range(5), 2) for second in range(5)
    ]  # every set with two experts of one layer and one of the other
    assert found.expected == pytest.approx(sum(shared) / len(shared), abs=1e-12)
    assert found.p_value == pytest.approx(sum(one >= 2 for one in shared) / len(shared), abs=1e-12)
    apart = union_overlap("a", "b", a, frozenset({Expert(layer=9, index=0)}), 5)
    assert (apart.num_shared, apart.jaccard, apart.expected, apart.p_value) == (0, 0.0, 0.0, 1.0)


def test_models_with_other_experts_have_no_overlap(compared):
    other = replace(PREPARED["on_chat"], num_experts=8)
    assert transfer_of(compared, {**PREPARED, "on_chat": other}).overlaps == ()


def test_the_table_is_exploratory_on_the_terminal_in_markdown_and_in_the_report(compared, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    known = replace(compared, transfer=transfer_of(compared, PREPARED))
    stdout_console().print(compared_view(known))
    out = capsys.readouterr().out
    assert max(map(cell_len, out.split("\n"))) <= 80
    for page in (" ".join(out.split()), compared_markdown(known), report_page(known, report_data(known))):
        assert "Transfer: prepared on (rows), evaluated on (columns)" in page
        assert "Exploratory: no claim rests on this table." in page and "Overlap of the selections" in page
    row = next(line for line in compared_markdown(known).splitlines() if line.startswith("| story |"))
    assert "on\\_story (4 experts)" in row and "10.0 % (n 40); -90.0 \\[" in row and row.count("trained on") == 1
    plain = compared_markdown(compared)
    assert "Transfer" not in plain and known.conclusion == compared.conclusion


def test_many_suites_are_split_into_tables_that_fit(compared):
    found = transfer_of(compared, PREPARED)
    many = replace(found, suites=tuple(f"suite {number}" for number in range(MOST_SUITES + 1)))
    first, second, _ = transfer_tables(replace(compared, transfer=many))
    assert len(first.head) == 2 + MOST_SUITES and len(second.head) == 3
    assert not first.notes and second.notes and set(second.rows[0].cells[2:]) == {"-"}


def prepare_run(directory, name, attack, experts, *, pairs="goals.jsonl"):
    """A prepare run with one pair in a batch and one left over; its digest."""
    path, base = directory / name, identity()
    sources = (made(SourceCount, role="pairs", name=f"somewhere/{pairs}", sha256="b" * 64),)
    rows = [
        {"side": "unsafe", "attack": attack, "batch": 0},
        {"side": "unsafe", "attack": "left over", "batch": None},
        {"side": "benign", "attack": "harmless", "batch": 0},
    ]
    with open_run(path, "prepare", CONFIG, resume=False) as writer:
        write_atomic(path / layout.SELECTION, encode(made(Selection, base=base, union=tuple(sorted(experts)))))
        write_atomic(path / layout.PREPARE_SUMMARY, encode(made(PrepareSummary, base=base, sources=sources)))
        pq.write_table(pa.Table.from_pylist(rows), path / layout.batch_outputs(base.name))
        store = Store(directory / ".moe/registry")
        return store.add(writer, base_fingerprint="a" * 64, model_name=base.name, device="cpu").manifest_digest


@pytest.mark.parametrize(
    ("attacks", "names"),
    [(("story", "chat"), ["story", "chat"]), ((None, None), ["a.jsonl bbbbbbbb", "b.jsonl bbbbbbbb"])],
)
def test_the_command_reads_what_was_prepared_on_from_the_prepare_runs(moe, tmp_path, attacks, names):  # noqa: F811
    bare(tmp_path, "tiny", records(36), items_digest="attacked" * 8)
    of_arm = zip(("a", "b"), attacks, (STORY, CHAT), ("selective", "alternating"), strict=True)
    for arm, attack, experts, kind in of_arm:
        digest = prepare_run(tmp_path, f"prepared_{arm}", attack, experts, pairs=f"{arm}.jsonl")
        trained(tmp_path, f"sel_{arm}", records(8), arm=kind, prepared=digest, fingerprint=arm * 64)
    code, out, err = moe("sel_a", "sel_b", "--base", "tiny", "--json")
    assert code == 0, err
    found = decode(Comparison, out, source="stdout").transfer
    assert [row.prepared_on for row in found.rows] == [(name,) for name in names]
    assert [row.num_experts for row in found.rows] == [4, 4]  # the alternating arm trains its selection, too
    assert [(one.num_shared, one.num_a, one.num_b) for one in found.overlaps] == [(2, 4, 4)]
    assert (
        decode(Comparison, (tmp_path / "comparison" / layout.COMPARISON).read_text(), source="file").transfer == found
    )


def test_experts_that_later_rounds_selected_count_as_trained(moe, tmp_path):  # noqa: F811
    later = made(PhaseRecord, selected=((Expert(layer=1, index=9),), (Expert(layer=1, index=0),)))
    for arm, attack, phases in (("a", "story", (later,)), ("b", "chat", ())):
        digest = prepare_run(tmp_path, f"prepared_{arm}", attack, STORY, pairs=f"{arm}.jsonl")
        trained(tmp_path, arm, records(8), arm="alternating", prepared=digest, fingerprint=arm * 64, phases=phases)
    code, out, err = moe("a", "b", "--json")
    assert code == 0, err
    found = decode(Comparison, out, source="stdout").transfer
    assert [row.num_experts for row in found.rows] == [5, 4]
    assert [(one.num_a, one.num_b, one.num_shared) for one in found.overlaps] == [(5, 4, 4)]


def test_an_arm_whose_routers_alone_trained_has_no_experts_and_no_overlap(moe, tmp_path):  # noqa: F811
    of_routers = {"total_unique_unsafe_experts": 0}
    for arm, attack, experts, changes in (("a", "story", STORY, {}), ("b", "chat", CHAT, of_routers)):
        digest = prepare_run(tmp_path, f"prepared_{arm}", attack, experts, pairs=f"{arm}.jsonl")
        trained(tmp_path, arm, records(8), arm="alternating", prepared=digest, fingerprint=arm * 64, **changes)
    code, out, err = moe("a", "b", "--json")
    assert code == 0, err
    found = decode(Comparison, out, source="stdout").transfer
    assert [row.num_experts for row in found.rows] == [4, 0]
    assert found.overlaps == ()
