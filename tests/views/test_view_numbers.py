"""Every proportion with its count; no data is a dash."""

import pytest

from moe_cli.records import Estimate, PrepareResult, Rate, TrainableCount
from moe_cli.views.run_tables import result_text
from moe_cli.views.text import (
    age_text,
    bytes_text,
    count_of,
    estimate_text,
    optional_text,
    rate_text,
    seconds_text,
    trainable_text,
)


def rate(k, n, unscored=0, **changes):
    values = {"rate": k / n if n else None, "lower": 0.072 if n else None, "upper": 0.204 if n else None}
    return Rate(k=k, n=n, unscored=unscored, lowest=None, highest=None, **(values | changes))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "-"),
        (rate(12, 97), "12.4 % (12/97) [7.2, 20.4]"),
        (rate(0, 97), "0.0 % (0/97) [7.2, 20.4]"),
        (rate(12, 97, unscored=3), "12.4 % (12/97, 3 unscored) [7.2, 20.4]"),
        (rate(0, 0), "- (0 scored)"),
        (rate(0, 0, unscored=5), "- (0 scored, 5 unscored)"),
    ],
)
def test_a_rate_stands_with_its_counts_and_its_interval(given, text):
    assert rate_text(given) == text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "-"),
        (Estimate(value=1.0214, lower=1.0019, upper=1.0432, n=60), "1.021 (n 60) [1.002, 1.043]"),
        (Estimate(value=1.0214, lower=None, upper=None, n=1), "1.021 (n 1)"),
    ],
)
def test_an_estimate_stands_with_its_n_and_its_interval(given, text):
    assert estimate_text(given) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.04, "0.0 s"), (99.9, "99.9 s"), (200, "3 min 20 s"), (5999.6, "1 h 40 min"), (7500, "2 h 05 min")],
)
def test_times_are_read_at_a_glance(seconds, text):
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (0, "0"),
        (294_912, "294.9 kB"),
        (999_600, "1 MB"),
        (812_000_000, "812 MB"),
        (999_999_999, "1.00 GB"),
        (13_840_000_000, "13.84 GB"),
    ],
)
def test_sizes_are_in_powers_of_ten(size, text):
    assert bytes_text(size) == text


def test_counts_and_numbers_that_are_missing_are_a_dash():
    assert (count_of(12, 64), count_of(None, 64), count_of(0, 64)) == ("12 / 64", "-", "0 / 64")
    assert (optional_text(0.12345, 3), optional_text(None, 3), optional_text(0.0, 3)) == ("0.123", "-", "0.000")


def test_the_line_that_everyone_recognises():
    count = TrainableCount(
        trainable_params=1024, total_params=9216, trainable_ratio=1024 / 9216, experts_per_layer=(), num_experts=4
    )
    assert trainable_text(count) == "trainable params: 1,024 || all params: 9,216 || trainable%: 11.1111"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (47 * 3600, "47 h ago"),
        (48 * 3600, "2 days ago"),
        (400 * 86400, "400 days ago"),
    ],
)
def test_ages_are_in_one_unit(seconds, text):
    assert age_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0, "0.0000"), (0.00003, "3e-05"), (-0.00003, "-3e-05"), (0.00006, "0.0001")]
)
def test_a_number_that_is_not_zero_is_never_shown_as_zero(value, text):
    assert optional_text(value, 4) == text
    assert result_text(PrepareResult(method="risk_diff", num_selected=12, num_experts=64, null_union_mean=0.01)) == (
        "12 of 64 experts, 0.01 by chance"
    )
