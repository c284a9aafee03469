"""From the first line that the program runs to its last, a signal ends it with words, or changes nothing."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from moe_cli import signals

ROOT = Path(__file__).parent.parent
AT_IMPORT = "import os, sys; import moe_cli.signals as s; s.listen(); os.kill(os.getpid(), {}); import moe_cli.cli.app"


@pytest.mark.parametrize("number", signals.ALL_SIGNALS)
@pytest.mark.parametrize(("words", "code"), [([], 130), (["--resume"], 75)])
def test_a_signal_before_the_command_works_says_what_to_type(number, words, code):
    program = [sys.executable, "-c", AT_IMPORT.format(int(number)), *words]
    done = subprocess.run(program, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["error", "hint"]


@pytest.mark.parametrize("number", signals.ALL_SIGNALS)
def test_a_working_command_is_interrupted_until_its_result_is_published(number):
    with signals.working_command(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    with signals.working_command():
        signals.publish()
        os.kill(os.getpid(), number)


def test_publishing_outside_of_a_command_leaves_signals_to_the_caller():
    signals.publish()
    with pytest.raises(KeyboardInterrupt), signals.stop_signals_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)


def test_the_program_listens_before_it_imports_what_takes_time():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"moe": "moe_cli.__main__:main"}
    program = (
        "import signal, sys, types; from moe_cli.__main__ import main\n"
        "assert 'typer' not in sys.modules\n"
        "shown = lambda: print(signal.getsignal(signal.SIGTERM))\n"
        "sys.modules['moe_cli.cli.app'] = types.SimpleNamespace(main=shown); main()"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "_outside" in done.stdout


@pytest.mark.parametrize("name", ["/usr/bin/moe", "moe", "-m", "/usr/bin/pytest", ""])
def test_a_program_that_imports_the_package_keeps_its_signals_whatever_its_name(name):
    program = (
        f"import signal, sys; sys.argv = [{name!r}]; numbers = (signal.SIGINT, signal.SIGTERM)\n"
        "before = [signal.getsignal(number) for number in numbers]\n"
        "import moe_cli, moe_cli.cli.app; assert [signal.getsignal(number) for number in numbers] == before"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
