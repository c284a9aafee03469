"""Exit codes are part of the interface."""

import subprocess
import sys

import pytest

from moe_cli import errors
from moe_cli.errors import ExitCode, MoeError, RunCompleteError

HOUSE_RULES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 75, 130}
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MoeError)]


def test_the_exit_codes_are_those_of_the_house_rules():
    assert set(map(int, ExitCode)) == HOUSE_RULES


def test_each_kind_of_error_has_an_exit_code_of_its_own():
    codes = [kind.exit_code for kind in KINDS if kind is not MoeError]
    assert len(set(codes)) == len(codes)
    assert ExitCode.BUG not in codes
    assert RunCompleteError.exit_code == ExitCode.OK


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_cannot_be_made_without_a_hint(kind):
    with pytest.raises(TypeError):
        kind("what is wrong")
    error = kind("what is wrong", hint="what to do")
    assert (str(error), error.message, error.hint) == ("what is wrong", "what is wrong", "what to do")


def test_errors_import_nothing_of_the_program():
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1]); "
        "print([name for name in sys.modules if name.partition('.')[0] == 'moe_cli'])"
    )
    words = [sys.executable, "-c", code, errors.__file__]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
