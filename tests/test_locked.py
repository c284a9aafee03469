"""What `make demo` and `make test` install: every package that pyproject.toml names, at one version in its range."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PLAIN = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+")  # no path, no host, no local version such as +cpu


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements() -> list[Requirement]:
    named = project()
    extras = named["project"]["optional-dependencies"].values()
    lists = (named["build-system"]["requires"], named["project"]["dependencies"], *extras)
    return [Requirement(line) for line in chain.from_iterable(lists)]


def locked(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / ".ci" / name).read_text().splitlines() if not line.startswith("#")]
    assert all(map(PLAIN.fullmatch, lines)), name
    return {canonicalize_name(package): version for package, version in (line.split("==") for line in lines)}


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_locked_in_its_range(requirement):
    version = locked("constraints.txt").get(canonicalize_name(requirement.name))
    assert version is not None, "run make lock"
    assert requirement.specifier.contains(version), "run make lock"


def test_the_lowest_environment_has_the_lowest_transformers_of_the_range():
    (floor,) = [
        bound.version
        for requirement in requirements()
        for bound in requirement.specifier
        if requirement.name == "transformers" and bound.operator == ">="
    ]
    assert Requirement(f"transformers=={floor}.*").specifier.contains(locked("lowest.txt")["transformers"])
