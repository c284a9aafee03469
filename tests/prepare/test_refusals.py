"""Refusals that an endpoint writes: asked by the goal, used if they are refusals, else replaced and counted."""

from __future__ import annotations

import pytest

from moe_cli.artifacts import Store
from moe_cli.codec import decode_lines
from moe_cli.errors import EnvironmentFaultError
from moe_cli.judges.deciding import verdicts_of
from moe_cli.judges.judge import unscored
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.prepare import stage
from moe_cli.prepare.refusals import (
    CUT_OFF,
    NO_REFUSAL,
    UNJUDGED,
    EndpointRefusals,
    refusal_prompts,
    refusal_targets,
    written_exchanges,
    written_refusals,
)
from moe_cli.records import Generation, Progress, TrainingExample
from moe_cli.tiny.language import tiny_pairs
from tests.builders import generation
from tests.model.served import Reply, completion, served
from tests.prepare.test_batches import pairs
from tests.prepare.test_filtering import COMPLIANCE, REFUSAL, rows

KIND = "I am sorry, but I cannot help with goal {}."


def answers(texts: dict[str, tuple[str, bool]]) -> dict[str, Generation]:
    return {
        f"{name}#refusal": generation(f"{name}#refusal", text, finished=finished, answer_ids="retokenised")
        for name, (text, finished) in texts.items()
    }


def test_the_endpoint_is_asked_for_a_refusal_of_the_goal_alone():
    (prompt,) = refusal_prompts(pairs(1))
    assert prompt.id == "p00#refusal"
    assert prompt.messages[-1].content.endswith("Request: goal 0")
    assert "attacked" not in prompt.messages[-1].content


def test_only_whole_refusals_are_used_and_the_other_reasons_are_counted():
    written = answers(
        {
            "p00": (KIND.format(0), True),
            "p01": (KIND.format(1), False),
            "p02": (COMPLIANCE, True),
            "p03": ("", True),
            "p04": (KIND.format(4), True),
        }
    )
    exchanges = {name: exchange for name, (_, exchange) in written_exchanges(pairs(5), written).items()}
    verdicts = dict(zip(exchanges, verdicts_of(KeywordJudge(), list(exchanges.values())), strict=True))
    verdicts["p04#refusal"] = unscored("late")
    found = written_refusals(pairs(5), written, verdicts)
    assert found == EndpointRefusals({"p00": KIND.format(0)}, {NO_REFUSAL: 2, CUT_OFF: 1, UNJUDGED: 1})


def test_without_a_written_refusal_the_target_is_the_model_s_own():
    texts = {f"p0{n}#{side}": REFUSAL if side == "safe" else COMPLIANCE for n in (0, 1) for side in ("safe", "unsafe")}
    found = refusal_targets(rows(texts, num_pairs=2), None, EndpointRefusals({"p00": KIND.format(0)}, {CUT_OFF: 1}))
    assert found.targets == {"p00": KIND.format(0), "p01": REFUSAL}
    assert (found.num_own, len(found.written.refusals)) == (1, 1)


@pytest.fixture
def settings(small_settings, tmp_path):
    def made(url: str):
        return small_settings(
            tmp_path,
            prepare={"tiny_pairs": 12, "refusals": "endpoint"},
            endpoint={"base_url": url, "retries": 0, "concurrency": 1},
        )

    return made


def refused_by_goal(asked, number):
    goal = asked.prompt.partition("Request: ")[2]
    return completion(f"I am sorry, but I cannot help with this: {goal}")


def test_prepare_teaches_what_the_endpoint_wrote_and_goes_on_where_it_failed(settings, tmp_path):
    store, seen = Store(tmp_path / "registry"), list[Progress]()
    with served(lambda asked, number: refused_by_goal(asked, number) if number != 3 else Reply(500)) as server:
        config = settings(server.url)
        with pytest.raises(EnvironmentFaultError, match="failed once"):
            stage.run(config, store, lambda _: None)
        made = stage.run(config, store, seen.append, resume=True)
    goals = {pair.id: pair.goal for pair in tiny_pairs(12, config.seed)}
    examples = list(decode_lines(TrainingExample, made.path / "sft_dataset_tiny.jsonl"))
    taught = {e.id.rpartition("#")[0]: e.messages[-1].content for e in examples if e.kind != "benign"}
    assert taught == {name: f"I am sorry, but I cannot help with this: {goals[name]}" for name in taught}
    assert made.summary.written_refusals == len(taught) == made.summary.distinct_targets
    assert (made.summary.own_refusals, made.summary.unwritten_refusals) == (made.summary.num_pairs_left_over, {})
    assert next((p.done, p.total) for p in seen if p.task == "refusals") == (3, len(taught))
    assert len(server.asked) == len(taught) + 1
    assert made.summary.answering.engine == "transformers"
