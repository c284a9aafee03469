"""`moe plan` as typed: tables for people, one document for programs, and sizes as people write them."""

import orjson
import pytest

from tests.bench.shared_plans import followed_once  # noqa: F401

pytestmark = pytest.mark.xdist_group("plans")


def test_the_tables_say_what_is_needed_what_fits_and_what_is_arithmetic(moe):
    done = moe("plan", "tiny", "--length", "48", "--memory", "28MB", "--batches", "23")
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= 80
    words = " ".join(done.out.split())
    for text in (
        "trained selectively: 4 experts, by prepare.budget",
        "fits in 28 MB (--memory)",
        "selective with --set train.gradient_checkpointing=true:",
        "The rows of several processes (moe train --nproc N --placement ...) are arithmetic, not a measurement.",
        "nothing was loaded; next: moe prepare --model tiny",
    ):
        assert text in words
    assert "Several processes, selective" in words and "steps are not known" not in words


def test_one_document_for_programs(moe):
    done = moe("plan", "tiny", "--length", "48", "--experts", "2", "--ranks", "3", "--json")
    document = orjson.loads(done.out)
    assert document["selected"] == 8 and document["selected_by"] == "experts per layer"
    assert [need["ranks"] for need in document["arms"][0]["ranks"]] == [1, 3, 3]
    assert document["memory_of"] == "this machine"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--memory", "80 bananas"), "--memory 80 bananas is no size"),
        (("--memory", "0GB"), "--memory 0GB is no size"),
        (("--ranks", "1,0"), "--ranks 1,0 is no list of numbers of processes"),
        (("--experts", "99"), "--experts 99 are more than the 16 experts of a layer"),
        (("--length", "1048577"), "a row of 1,048,577 tokens is longer than"),
        (("--set", "train.max_length=2147483647"), "a row of 2,147,483,647 tokens is longer than"),
        (("--batches", "9" * 400), "Invalid value for '--batches'"),
        (("--set", "model.dtype=float16"), "tiny is in float16, in which gradients underflow"),
        (("--bench", "none.json"), "there is no file none.json"),
        (("--prepared", "nowhere"), "nowhere"),
        (("--prepared", "nowhere", "--batch-size", "8"), "--batch-size is given, and the batches of nowhere are made"),
    ],
)
def test_words_that_mean_nothing_are_refused_before_a_step_is_followed(moe, words, fault):
    done = moe("plan", "tiny", *words)
    assert done.code in (2, 3) and fault in done.err and "hint: " in done.err


def test_sizes_are_decimal_or_binary_as_written(moe):
    sizes = {"1GB": 10**9, "1GiB": 2**30, "0.5 gb": 5 * 10**8, "1000000000": 10**9}
    for text, size in sizes.items():
        document = orjson.loads(moe("plan", "tiny", "--length", "8", "--memory", text, "--ranks", "1", "--json").out)
        assert document["memory"] == size
