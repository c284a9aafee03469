"""Every row steps; what it keeps is counted from its tensors; what cannot be measured says why."""

from __future__ import annotations

import pytest
import torch

from moe_cli.bench import arm_rows, stage
from moe_cli.bench.arm_rows import (
    RowSettings,
    build_row,
    check_room,
    fits_side_by_side,
    least_bytes_of_row,
    params_of_selected,
)
from moe_cli.bench.presets import ARMS
from moe_cli.bench.step import step_bytes
from moe_cli.bench.timing import ROUNDS, time_rows
from moe_cli.codec import decode, encode
from moe_cli.records import Benchmark, Notice, Progress
from tests.bench.small_benchmark import CONFIG, PARAMS_PER_EXPERT, small_plan

torch.set_num_threads(1)

CPU = torch.device("cpu")
DTYPES = ("float32", "bfloat16")
TOTAL, EXPERTS = 37_664, 2 * 8 * PARAMS_PER_EXPERT
TRAINED = {"selective": 2 * 3 * PARAMS_PER_EXPERT, "full_grouped_mm": TOTAL, "full_eager": TOTAL}
TRAINED |= {"zeroed_gradients": EXPERTS, "lora": 2 * 2 * 8 * (32 + 32 + 16 + 32)}  # layers, rank, experts, sizes


def stepped(name, **given):
    """A row after two steps."""
    row = build_row(name, 3, RowSettings(small_plan(**given), CONFIG, CPU))
    assert time_rows(row) > 0 and time_rows(row) > 0
    return row


@pytest.fixture(scope="module", params=DTYPES)
def measured(request):
    """A whole benchmark with its sweep, and what was told of it."""
    told = []
    return stage.run(CONFIG, small_plan(shares="0,1,3,8", dtype=request.param), told.append), told


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TRAINED)
def test_gradients_moments_and_masters_take_16_bytes_per_trained_parameter(name, dtype):
    found, _ = step_bytes(stepped(name, dtype=dtype))
    assert found.trained_params == TRAINED[name]
    assert (found.gradients, found.moments, found.masters) == tuple(n * TRAINED[name] for n in (4, 8, 4))


@pytest.mark.parametrize("name", ["forward_library", "forward_moe", "floor_library", "floor_moe"])
def test_a_row_that_trains_nothing_keeps_no_gradient_and_no_state(name):
    row = stepped(name)
    found, _ = step_bytes(row)
    assert (found.trained_params, found.gradients, found.moments, found.masters, found.step_counters) == (0,) * 5
    assert (found.saved_for_backward is None) == name.startswith("forward")
    assert all(parameter.grad is None for parameter in row.model.parameters())


def test_the_floor_goes_back_through_every_layer():
    for name in ("floor_library", "floor_moe"):
        row = build_row(name, 3, RowSettings(small_plan(), CONFIG, CPU))
        embedded = []
        row.model.get_input_embeddings().register_forward_hook(
            lambda module, given, out, kept=embedded: kept.append(out)
        )
        row.step()
        assert embedded[0].grad.any()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", [name for name in ARMS if not name.startswith("forward")])
def test_every_row_has_the_loss_of_the_same_model_on_the_same_tokens(name, checkpointing):
    row = build_row(name, 3, RowSettings(small_plan(checkpointing=checkpointing), CONFIG, CPU))
    reference = build_row("forward_library", 3, RowSettings(small_plan(), CONFIG, CPU))
    with row.during():
        torch.testing.assert_close(row.forward(row.batch.ids_BS).detach(), reference.forward(reference.batch.ids_BS))


def test_the_loss_is_over_the_second_half_of_every_row():
    row = build_row("forward_library", 3, RowSettings(small_plan(), CONFIG, CPU))
    ids_BS = row.batch.ids_BS
    with torch.no_grad():
        logits_BSV = row.model(input_ids=ids_BS, use_cache=False).logits
    wanted = torch.nn.functional.cross_entropy(logits_BSV[:, 3:7].flatten(0, 1), ids_BS[:, 4:].flatten())
    torch.testing.assert_close(row.forward(row.batch.ids_BS), wanted)


def test_zeroed_gradients_move_the_selection_alone():
    row = build_row("zeroed_gradients", 3, RowSettings(small_plan(), CONFIG, CPU))
    before = [weight.detach().clone() for weight in row.trained]
    row.step()
    moved = {
        tuple((now != then).flatten(1).any(1).nonzero().squeeze(1).tolist())
        for now, then in zip(row.trained, before, strict=True)
    }
    assert set().union(*moved) <= {0, 2, 5} and any(moved)  # 0, 8 // 3, 16 // 3


def test_checkpointing_saves_less_for_the_backward():
    plain, _ = step_bytes(stepped("selective", rows=8, length=32))
    saving, _ = step_bytes(stepped("selective", rows=8, length=32, checkpointing=True))
    assert 0 < saving.saved_for_backward < plain.saved_for_backward / 2


def test_what_a_forward_saves_and_drops_again_is_not_kept_for_the_backward():
    """MiniMax computes a state of its attention that nothing reads; later tensors may lie where it was."""
    row = stepped("selective")
    kept, _ = step_bytes(row)

    def unread_product(module, given, out):
        leaf = torch.ones(64, 64, requires_grad=True)
        return out if (leaf @ leaf).sum() > 0 else None

    hooks = [module.register_forward_hook(unread_product) for module in row.model.modules() if not [*module.children()]]
    assert len(hooks) > 10 and step_bytes(row)[0] == kept


def test_the_selective_row_saves_no_weight_of_the_bank_for_the_backward():
    full, _ = step_bytes(stepped("full_grouped_mm", dtype="bfloat16"))
    selective, _ = step_bytes(stepped("selective", dtype="bfloat16"))
    assert full.saved_for_backward - selective.saved_for_backward > 2 * EXPERTS  # casts of the float32 masters


def test_all_rows_are_measured_on_the_same_terms(measured):
    made, told = measured
    assert {row.status for row in made.rows} == {"measured"}
    assert [row.name for row in made.rows] == [*ARMS, "selective_1", "selective_8"]
    assert all(len(row.seconds) == made.plan.repeats for row in made.rows)
    assert made.experts_dtype == made.plan.dtype == made.model.dtype
    assert {row.name for row in made.rows if row.experts_dtype is None} == {"full_eager"}
    assert (made.placement, made.num_rounds, made.tokens_per_step) == ("side by side", 1, 16)
    assert [found.done for found in told if isinstance(found, Progress)] == list(range(1, 11 * 3 + 1))


def test_the_sweep_counts_the_selected_parameters(measured):
    made, _ = measured
    rows = {row.name: row for row in made.rows}
    for point in made.shares[1:]:
        trained = rows[point.row].bytes.trained_params
        assert trained == 2 * point.selected * PARAMS_PER_EXPERT
        assert point.share_of_parameters == trained / TOTAL


def test_a_benchmark_reads_back_equal(measured):
    made, _ = measured
    assert decode(Benchmark, encode(made), source="test") == made


def test_one_at_a_time_every_row_has_its_share_of_the_repeats_in_every_round(monkeypatch):
    monkeypatch.setattr(stage, "fits_side_by_side", lambda rows, model, available: False)
    built = []
    once = arm_rows.build_row
    monkeypatch.setattr(arm_rows, "build_row", lambda name, *rest: built.append(name) or once(name, *rest))
    told = []
    made = stage.run(CONFIG, small_plan(arms="selective,full_grouped_mm", repeats=4), told.append)
    assert (made.placement, made.num_rounds) == ("one at a time", ROUNDS)
    assert [len(row.seconds) for row in made.rows] == [4, 4]
    assert built == [
        "selective", "full_grouped_mm", "full_grouped_mm", "selective", "selective", "full_grouped_mm",
    ]  # fmt: skip
    assert told[-1].done == told[-1].total == 8


def test_without_peft_the_lora_row_says_so_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(arm_rows, "installed_version", lambda package: None)
    made = stage.run(CONFIG, small_plan(arms="lora,selective"), lambda record: None)
    rows = {row.name: row for row in made.rows}
    assert rows["lora"].status == "not measured"
    assert "moe-selective-repair[bench]" in rows["lora"].note
    assert rows["lora"].time is None
    assert rows["selective"].status == "measured"


def test_a_row_that_cannot_fit_is_not_built_and_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(stage, "available_bytes", lambda device: 16 * TOTAL - 1)
    made = stage.run(CONFIG, small_plan(arms="selective,full_grouped_mm"), lambda record: None)
    rows = {row.name: row for row in made.rows}
    assert rows["full_grouped_mm"].status == "out of memory"
    assert rows["full_grouped_mm"].note.startswith("needs 0.0 GB without activations")
    assert (rows["selective"].status, rows["selective"].to_full) == ("measured", None)
    assert made.placement == "one at a time"


@pytest.mark.parametrize("side_by_side", [True, False])
def test_a_row_that_runs_out_of_memory_in_a_step_loses_its_figures_and_the_others_go_on(monkeypatch, side_by_side):
    once, steps = arm_rows.build_row, []

    def failing(name, *rest):
        row = once(name, *rest)
        if name == "full_grouped_mm":
            row.before_update = lambda: steps.append(1) or (len(steps) > 1 and raise_out_of_memory())
        return row

    def raise_out_of_memory():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(arm_rows, "build_row", failing)
    monkeypatch.setattr(stage, "fits_side_by_side", lambda rows, model, available: side_by_side)
    made = stage.run(CONFIG, small_plan(arms="selective,full_grouped_mm"), lambda record: None)
    rows = {row.name: row for row in made.rows}
    full = rows["full_grouped_mm"]
    assert (full.status, full.note) == ("out of memory", "CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert (full.seconds, full.bytes) == ((), None)
    assert rows["selective"].time.n == 2


def test_a_bug_in_a_row_ends_the_benchmark(monkeypatch):
    monkeypatch.setitem(arm_rows._BUILDERS, "selective", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stage.run(CONFIG, small_plan(arms="selective"), lambda record: None)


def test_the_least_memory_of_a_row_is_that_of_its_tensors(measured):
    made, _ = measured
    item = 4 if made.plan.dtype == "float32" else 2
    assert least_bytes_of_row("full_eager", 3, made.model) == 16 * TOTAL
    assert least_bytes_of_row("floor_moe", 3, made.model) == item * TOTAL
    assert least_bytes_of_row("selective_8", 8, made.model) == item * TOTAL + 16 * EXPERTS
    assert least_bytes_of_row("zeroed_gradients", 3, made.model) == item * (TOTAL - EXPERTS) + 16 * EXPERTS
    assert params_of_selected(made.model, 3) == TRAINED["selective"]
    check_room("full_eager", 3, made.model, 16 * TOTAL)
    assert fits_side_by_side([("full_eager", 3)], made.model, 32 * TOTAL)
    assert not fits_side_by_side([("full_eager", 3)], made.model, 32 * TOTAL - 1)


def test_the_peak_of_a_row_is_that_of_a_process_of_its_own():
    told = []
    made = stage.run(CONFIG, small_plan(arms="selective", memory=True, repeats=1), told.append)
    assert made.rows[0].peak_memory_of == "process (resident set)"
    assert made.rows[0].peak_memory_bytes > 100e6  # at least torch itself
    assert told[-1] == Progress(task="weighing rows", done=1, total=1)


def test_a_process_that_the_system_ended_leaves_the_row_without_a_peak(monkeypatch):
    class Ended:
        returncode = -9

    monkeypatch.setattr("moe_cli.bench.timing.subprocess.run", lambda *words, **more: Ended)
    told = []
    made = stage.run(CONFIG, small_plan(arms="selective", memory=True, repeats=1), told.append)
    assert (made.rows[0].status, made.rows[0].peak_memory_bytes) == ("measured", None)
    assert [found.text for found in told if isinstance(found, Notice)] == [
        "no peak memory of selective: signal 9 ended the process that measured the peak memory"
    ]


def test_a_real_model_is_measured_in_its_own_dtype():
    plan = stage_plan_of_tiny()
    made = stage.run(CONFIG, plan, lambda record: None)
    assert made.model.dtype == made.experts_dtype == "float32"
    assert made.rows[0].status == "measured"


def stage_plan_of_tiny():
    from moe_cli.bench.presets import plan_of

    words = {
        "rows": 1,
        "length": 8,
        "selected": 1,
        "lora_rank": 2,
        "forward_tokens": 8,
        "checkpointing": False,
        "repeats": 1,
    }
    return plan_of("issue", words | {"memory": False, "arms": "selective"}, "tiny")


@pytest.mark.parametrize("name", ["selective", "full_grouped_mm"])
def test_a_step_of_several_forwards_makes_the_gradients_of_one(name):
    gradients = []
    for tokens in (4096, 8):  # both rows of 8 tokens at once, or one by one
        row = build_row(name, 3, RowSettings(small_plan(forward_tokens=tokens), CONFIG, CPU))
        assert len(row.batch.parts()) == (1 if tokens == 4096 else 2)
        row.step()
        gradients.append([parameter.grad for parameter in row.trained])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)
