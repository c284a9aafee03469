"""What the configured sources offer, what is refused, and what a dry run shows of both."""

from __future__ import annotations

from hashlib import sha256

import orjson
import pytest

from moe_cli.codec import decode, encode
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.prepare.prepare_summary import preview_of
from moe_cli.prepare.prompt_sources import offered_by
from moe_cli.records import DataPreview
from tests.data.sample_files import sample


def config(model="tiny", seed=1, **prepare):
    return MoeConfig.model_validate(
        {"model": {"name": model}, "seed": seed, "prepare": {"batch_size": 2, "benign_ratio": 0.0, **prepare}}
    )


def lines(tmp_path, name, rows):
    (tmp_path / name).write_bytes(b"\n".join(row if isinstance(row, bytes) else orjson.dumps(row) for row in rows))
    return str(tmp_path / name)


def good(number):
    return {"id": str(number), "goal": f"goal {number}", "safe": "a", "unsafe": "b"}


def bad_file(tmp_path, num_bad):
    rows = [good(1), *({"id": f"x{number}", "goal": "g", "unsafe": ["?"]} for number in range(num_bad)), good(2)]
    return lines(tmp_path, "pairs.jsonl", rows)


def test_one_bad_row_is_the_message_itself(tmp_path):
    with pytest.raises(UsageError, match=r"^\S+pairs\.jsonl:2: `unsafe` is a list") as refusal:
        offered_by(config(pairs=bad_file(tmp_path, 1)))
    assert "--max-bad-rows N leaves them out" in refusal.value.hint


def test_five_of_many_bad_rows_are_named_and_all_are_counted(tmp_path):
    with pytest.raises(UsageError) as refusal:
        offered_by(config(pairs=bad_file(tmp_path, 8), max_bad_rows=7))
    first, *rows = refusal.value.message.splitlines()
    assert first == "8 bad rows, and 7 are allowed"
    assert [row.rpartition(":")[0].rpartition(":")[2] for row in rows[:5]] == ["2", "3", "4", "5", "6"]
    assert rows[5:] == ["  - and 3 more"]


def test_bad_rows_within_the_limit_are_left_out_and_recorded(tmp_path):
    offered = offered_by(config(pairs=bad_file(tmp_path, 2), max_bad_rows=2))
    assert [pair.id for pair in offered.pairs] == ["1", "2"]
    (source,) = offered.sources
    assert (source.rows, source.used, len(source.bad_rows)) == (4, 2, 2)
    assert source.bad_rows[0].place.endswith("pairs.jsonl:2")


def test_lines_and_fields_are_bad_rows_and_a_row_counts_once(tmp_path):
    rows = [good(1), b"{", {"id": "3", "safe": "a", "unsafe": "b"}, good(2)]
    offered = offered_by(config(pairs=lines(tmp_path, "p.jsonl", rows), max_bad_rows=2))
    reasons = [row.reason for row in offered.sources[0].bad_rows]
    assert len(reasons) == 2 and sorted(reasons)[0] == "`goal` is None, not a text"


def test_equal_rows_are_one_and_counted(tmp_path):
    again = offered_by(config(pairs=lines(tmp_path, "p.jsonl", [good(1), {**good(1), "id": "9"}, good(2)])))
    assert (len(again.pairs), again.sources[0].used) == (2, 2)
    assert again.sources[0].skipped == {"it is equal to another row": 1}
    goals = lines(tmp_path, "goals.jsonl", [{"goal": "a"}, {"goal": "b"}, {"goal": "a"}])
    wrapped = offered_by(config(pairs=goals, attack=sample("attacks.txt")))
    assert (len(wrapped.pairs), wrapped.sources[0].used) == (4, 2)
    assert wrapped.sources[0].skipped == {"it is equal to another row": 1}


def test_every_source_is_recorded_with_what_became_of_its_rows():
    offered = offered_by(
        config(
            pairs=[sample("xstest.csv"), sample("judge_result.json")],
            benign=sample("xstest.csv"),
            attack=sample("attacks.jsonl"),
        )
    )
    assert [(s.role, s.format, s.rows, s.used, s.skipped) for s in offered.sources] == [
        ("pairs", "XSTest", 3, 1, {"it is harmless": 2}),
        ("pairs", "judge_result", 3, 2, {"its attack failed": 1}),
        ("benign", "XSTest", 3, 2, {"it is harmful": 1}),
        ("attack", "templates", 2, 2, {}),
    ]
    assert len({s.sha256 for s in offered.sources}) == 3
    assert (len(offered.pairs), len(offered.benign)) == (4, 2)


def test_a_real_model_without_pairs_is_told_the_formats():
    with pytest.raises(UsageError, match="no prompt pairs for owner/model: --pairs FILE is missing") as refusal:
        offered_by(config(model="owner/model"))
    assert "--attack FILE" in refusal.value.hint and "docs/guide.md" in refusal.value.hint


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pairs": sample("advbench.csv")}, r"advbench\.csv \(AdvBench\) holds goals without attacked prompts"),
        ({"pairs": sample("pairs.jsonl"), "attack_per_goal": 1}, "--attack-per-goal draws from templates"),
        ({"pairs": sample("pairs.jsonl"), "benign_attack": 0.5}, "--benign-attack draws from templates"),
        ({"pairs": sample("pairs.jsonl"), "attack": sample("attacks.txt")}, r"attacks\.txt wraps nothing"),
        (
            {"pairs": sample("advbench.csv"), "attack": sample("attacks.txt"), "attack_per_goal": 3},
            r"--attack-per-goal 3, but \S+attacks\.txt holds 2 templates",
        ),
        (
            {"pairs": sample("pairs.jsonl"), "benign": sample("advbench.csv")},
            "2 of 2 rows are harmful",
        ),
        ({"pairs": sample("pairs.jsonl"), "batch_size": 16}, "no full batch"),
    ],
)
def test_what_cannot_make_a_run_is_refused_before_any_model_is_loaded(settings, said):
    with pytest.raises(UsageError, match=said):
        offered_by(config(**settings))


def test_the_tiny_language_brings_its_own_where_no_source_is_named():
    own = offered_by(config(tiny_pairs=12))
    assert (len(own.pairs), len(own.benign), own.sources) == (12, 12, ())
    wrapped = offered_by(config(tiny_pairs=12, attack=sample("attacks.txt"), benign_attack=1.0))
    assert all(prompt.attack for prompt in wrapped.benign) and wrapped.pairs == own.pairs


def test_limit_takes_the_first_ids_after_the_join(tmp_path):
    plain = lines(tmp_path, "a.jsonl", [{"id": str(n), "goal": f"g{n}", "safe": "a"} for n in (3, 1, 2)])
    attacked = lines(tmp_path, "b.jsonl", [{"id": str(n), "unsafe": "x"} for n in (2, 3, 1)])
    assert [pair.id for pair in offered_by(config(pairs=[plain, attacked], limit=2)).pairs] == ["1", "2"]


def test_a_preview_counts_what_would_be_prepared_and_says_no_word_of_a_prompt():
    preview, refusal = preview_of(
        config(
            pairs=[sample("advbench.csv"), sample("judge_success_gpt4.json")],
            benign=[sample("prompts.jsonl"), sample("xstest.csv")],
            attack=sample("attacks.txt"),
            benign_ratio=None,
            batch_size=4,
        )
    )
    counts = preview.counts
    assert (counts.num_pairs, counts.num_goals, counts.num_benign, counts.num_benign_attacked) == (
        6,
        3,
        5,
        1,
    )  # one goal is in both files
    assert (counts.num_plain, counts.num_benign_in_batch, counts.num_attacked, counts.most_batches) == (1, 1, 2, 3)
    # Three batches of two pairs: each form with the other answer, four harmless prompts known in both forms
    assert (counts.num_replays, counts.num_extra_replays) == (12 + 20, 20)
    assert preview.refused is None and refusal is None
    shown = encode(preview).decode()
    assert not any(word in shown for word in ("zorp", "glim", "hesk", "flomp"))
    assert decode(DataPreview, shown, source="preview") == preview


def test_a_preview_has_no_extra_replays_where_they_are_off_and_refuses_what_they_alone_can_tell():
    preview, _ = preview_of(config(pairs=[sample("pairs.jsonl")], batch_size=2, extra_replays=False))
    assert preview.counts.num_extra_replays == 0
    assert preview.counts.num_replays == 2 * preview.counts.most_batches
    _, refusal = preview_of(config(pairs=[sample("pairs.jsonl")], batch_size=2, extra_replays=False, method="text"))
    assert refusal.hint == "leave out --set prepare.extra_replays=false"
    _, refusal = preview_of(config(pairs=[sample("pairs.jsonl")], batch_size=2, method="did"))
    assert refusal.message.startswith("did needs harmless prompts both plain and inside an attack")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"judges": ("harmbench",)}, "no judge (harmbench) can tell"),
        ({"judges": ("zorp",)}, "there is no judge"),
        ({"engine": "openai"}, "an endpoint is asked for, but none is named"),
    ],
)
def test_a_preview_ends_as_a_run_would_at_its_judges_and_its_endpoint(changes, reason):
    preview, refusal = preview_of(config(pairs=[sample("pairs.jsonl")], benign_ratio=None, batch_size=2, **changes))
    assert refusal is not None and reason in refusal.message and preview.refused == refusal.message
    assert preview.counts is not None


def test_a_preview_shows_bad_rows_and_the_refusal_together(tmp_path):
    preview, refusal = preview_of(config(pairs=bad_file(tmp_path, 8)))
    assert len(preview.sources[0].bad_rows) == 8 and preview.counts.num_pairs == 2
    assert preview.refused == refusal.message and refusal.message.startswith("8 bad rows")


def test_a_preview_of_what_cannot_be_read_has_no_counts(tmp_path):
    preview, refusal = preview_of(config(pairs=str(tmp_path / "none.csv")))
    assert (preview.sources, preview.counts) == ((), None)
    assert "there is no file" in preview.refused and refusal.exit_code == 2


def test_one_source_that_cannot_be_used_hides_no_other(tmp_path):
    empty = lines(tmp_path, "empty.jsonl", [])
    sources = [str(tmp_path / "none.csv"), sample("pairs.jsonl"), empty]
    preview, refusal = preview_of(config(pairs=sources, benign=sample("prompts.jsonl")))
    assert [(source.role, source.used) for source in preview.sources] == [("pairs", 2), ("benign", 3)]
    assert [source.name for source in preview.unreadable] == [sources[0], empty]
    assert refusal.message.startswith("2 sources cannot be used") and "holds no rows" in refusal.message


def test_a_list_of_an_object_may_be_the_templates_and_its_file_is_recorded(tmp_path):
    templates = lines(tmp_path, "t.json", [{"story": ["Story: {goal}"], "game": ["Game: {goal}"]}])
    goals = lines(tmp_path, "goals.jsonl", [{"goal": "zorp"}, {"goal": "flomp"}])
    offered = offered_by(config(pairs=goals, attack=f"{templates}#story"))
    assert {pair.unsafe[0].content for pair in offered.pairs} == {"Story: zorp", "Story: flomp"}
    assert offered.sources[1].sha256 == sha256((tmp_path / "t.json").read_bytes()).hexdigest()
