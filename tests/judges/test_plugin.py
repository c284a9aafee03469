"""Judges of other packages: a really installed distribution, found by its entry point."""

from __future__ import annotations

import pytest

from moe_cli.config.sections import JudgeConfig
from moe_cli.errors import UsageError
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.deciding import verdicts_of
from tests.judges.exchanges import exchange

CODE = """
from moe_cli.judges.judge import revision_of
from moe_cli.records.judging import JudgeIdentity, Verdict


class Shouting:
    name = "shouting"
    questions = ("harm",)
    group = 10
    holds_weights = True

    def __init__(self, settings):
        self.threshold = settings.threshold

    @property
    def identity(self):
        return JudgeIdentity(name=self.name, revision=revision_of("shouting", 1), questions=self.questions,
                             tells_partial=False, source=None, published_accuracy=None, smoke_test=False)

    def check(self):
        pass

    def verdicts(self, exchanges):
        return [Verdict(label=None, harmful=one.answer.isupper(), reason="capitals") for one in exchanges]

    def release(self):
        pass


class Unchecked(Shouting):
    check = property()

    def __dir__(self):
        return [name for name in super().__dir__() if name != "check"]


def nothing(settings):
    return object()
"""
ENTRIES = """[moe_cli.judges]
shouting = PACKAGE:Shouting
nothing = PACKAGE:nothing
unchecked = PACKAGE:Unchecked
gone = PACKAGE:gone
lost = PACKAGE_that_is_not_there:judge
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put a package with its dist-info on the path."""

    def install(package, version="1.0"):
        site = tmp_path / package
        (site / f"{package}-{version}.dist-info").mkdir(parents=True)
        (site / f"{package}.py").write_text(CODE)
        (site / f"{package}-{version}.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        (site / f"{package}-{version}.dist-info" / "entry_points.txt").write_text(ENTRIES.replace("PACKAGE", package))
        monkeypatch.syspath_prepend(str(site))

    return install


def test_a_judge_of_an_installed_package_judges(installed):
    installed("shouting_judges")
    (judge,) = judges_of(["plugin:shouting"], JudgeConfig(threshold=0.75))
    found = verdicts_of(judge, [exchange("STOP IT."), exchange("Stop it.")])
    assert [one.harmful for one in found] == [True, False]
    assert (judge.threshold, judge.identity.name, judge.questions) == (0.75, "shouting", ("harm",))
    assert judge.holds_weights is True


def test_a_name_that_nobody_offers_is_refused_with_the_names_there_are(installed):
    installed("shouting_more")
    with pytest.raises(
        UsageError, match="plugin:whisper is not there exactly once; there are: gone, lost, nothing, sh"
    ):
        judges_of(["plugin:whisper"], JudgeConfig())


def test_a_name_that_two_packages_offer_is_refused(installed):
    installed("shouting_one")
    installed("shouting_two")
    with pytest.raises(UsageError, match="2 packages offer it"):
        judges_of(["plugin:shouting"], JudgeConfig())


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("lost", "cannot be imported"),
        ("gone", "cannot be imported"),
        ("nothing", "is no judge: it lacks name, questions"),
        ("unchecked", "is no judge: it lacks check$"),
    ],
)
def test_what_is_no_judge_is_refused(name, wrong, installed):
    installed(f"shouting_{name}")
    with pytest.raises(UsageError, match=wrong):
        judges_of([f"plugin:{name}"], JudgeConfig())
