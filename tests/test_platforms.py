"""What other systems lack is not needed to import the program: Windows has neither fcntl nor resource nor SIGUSR1."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

IMPORT_WITHOUT = """
import builtins, enum, importlib, os, pkgutil, select, signal, sys
import moe_cli

modules = [found.name for found in pkgutil.walk_packages(moe_cli.__path__, "moe_cli.")]
modules = [name for name in modules if not name.endswith("__main__")]

def import_all():
    for name in modules:
        importlib.import_module(name)

import_all()  # with whatever other packages import: that is their own affair
for name in [name for name in sys.modules if name.partition(".")[0] == "moe_cli"]:
    del sys.modules[name]

MISSING = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"}
imported = builtins.__import__

def without(name, globals=None, locals=None, fromlist=(), level=0):
    if name.partition(".")[0] in MISSING and str((globals or {}).get("__name__")).startswith("moe_cli"):
        raise ModuleNotFoundError(f"{globals['__name__']} imports {name}")
    return imported(name, globals, locals, fromlist, level)

builtins.__import__ = without
known = signal.Signals
signal.Signals = enum.IntEnum("Signals", [(s.name, s.value) for s in known if s.name in ("SIGINT", "SIGTERM")])
for module, names in (
    (signal, ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGALRM")),
    (os, ("fork", "killpg", "sched_getaffinity")),
    (select, ("PIPE_BUF", "poll")),
):
    for name in names:
        delattr(module, name)
import_all()
print(len(modules))
"""


def test_every_file_imports_without_what_only_posix_has():
    done = subprocess.run([sys.executable, "-c", IMPORT_WITHOUT], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200


WITHOUT_EXTRAS = """
import importlib, pathlib, sys
for name in ("lm_eval", "peft", "tensorboard", "hypothesis", "statsmodels", "pytest"):
    sys.modules[name] = None  # as if it were not installed
files = sorted(pathlib.Path("moe_cli").rglob("*.py"))
modules = [".".join(path.with_suffix("").parts) for path in files if path.name not in ("__init__.py", "__main__.py")]
modules.remove("moe_cli.evaluate.capability_tasks")  # what is imported where a task is asked for
for module in modules:
    importlib.import_module(module)
print(len(modules))
"""


def test_every_file_but_the_tasks_of_lm_eval_imports_without_the_packages_of_the_extras():
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200


def test_no_written_name_has_a_sign_that_windows_refuses(tmp_path):
    from moe_cli.artifacts import Store, layout, open_run
    from moe_cli.config import MoeConfig

    with open_run(tmp_path / "out", "prepare", MoeConfig(), resume=False) as writer:
        record = Store(tmp_path / "registry").add(writer, base_fingerprint=None, model_name="a:b/c", device="cpu")
    names = [record.id, *(path.name for path in tmp_path.rglob("*")), layout.batch_outputs('o/w:n"e*r?<n>|\\')]
    assert len(names) >= 5
    assert not [name for name in names if set(name) & set('<>:"/\\|?*')]
