"""Whether an attack succeeded: read as the published files write it, and never guessed."""

import pytest

from moe_cli.data.labels import attack_succeeded
from moe_cli.data.rows import BadRowError


@pytest.mark.parametrize(
    "value", [1, 1.0, 0.4, 10, True, "1", "1.0", "10", "true", " True ", "yes", "jailbroken", "Unsafe", {"score": 5}]
)
def test_these_say_that_it_did(value):
    assert attack_succeeded({"judge_result": value}, "judge_result") is True


@pytest.mark.parametrize("value", [0, 0.0, False, "0", "0.0", "false", "No", "safe", "not jailbroken", {"score": 0}])
def test_these_say_that_it_did_not(value):
    assert attack_succeeded({"judge_result": value}, "judge_result") is False


@pytest.mark.parametrize(
    "value", [None, "", -1, "-1", "perhaps", "1.2.3", float("nan"), [], [1], {}, {"score": None}, {"score": "x"}]
)
def test_everything_else_is_a_bad_row(value):
    with pytest.raises(BadRowError, match=r"`judge_result` is .* not a verdict"):
        attack_succeeded({"judge_result": value}, "judge_result")


def test_a_row_without_a_verdict_is_a_bad_row():
    with pytest.raises(BadRowError, match="`judge_result` is None"):
        attack_succeeded({}, "judge_result")
