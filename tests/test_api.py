"""The four functions: there whatever was imported before, light to import, and the same as the commands."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import moe_cli
from moe_cli import api
from moe_cli.artifacts import Store, finished_run
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.evaluate import stage as evaluate_stage
from moe_cli.prepare import stage as prepare_stage
from moe_cli.records import Notice, Progress
from tests.small_experiment import settings_of_small_experiment

ROOT = Path(__file__).parent.parent
IMPORTS = (
    "from moe_cli import prepare, train, evaluate, compare",
    "from moe_cli.compare.stage import compare as of_the_room",
    "import moe_cli.compare.stage",
    "import moe_cli.cli.app",
    "from moe_cli.evaluate import suite_rates",
)


def test_the_functions_are_there_in_whatever_order_rooms_are_imported():
    code = "import sys, moe_cli\n"
    for first in range(len(IMPORTS)):  # every one of them is the first once
        code += "for name in [name for name in sys.modules if name.startswith('moe_cli')]: del sys.modules[name]\n"
        code += "\n".join([*IMPORTS[first:], *IMPORTS[:first], ""])
        code += "from moe_cli import prepare, train, evaluate, compare\n"
        code += "from moe_cli.compare import stage\n"
        code += "functions = prepare, train, evaluate, compare\n"
        code += "assert [f.__module__ for f in functions] == ['moe_cli.api'] * 4, functions\n"
        code += "assert [f.__name__ for f in functions] == ['prepare', 'train', 'evaluate', 'compare']\n"
        code += "assert stage.__name__ == 'moe_cli.compare.stage'\n"
    code += "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_nothing_but_the_standard_library():
    code = "import sys; before = set(sys.modules); import moe_cli; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    others = {name.partition(".")[0] for name in done.stdout.split()} - {"moe_cli"}
    assert others <= sys.stdlib_module_names


def test_the_example_of_the_guide_runs_and_registers_what_the_commands_would(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    section = (ROOT / "docs/guide.md").read_text(encoding="utf-8").partition("## Use it from Python")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(example, "docs/guide.md", "exec"), {})
    shown = capsys.readouterr()
    assert shown.err == ""  # no bar of a library
    printed = shown.out.splitlines()
    assert len(printed) == 2 and printed[1].endswith(".")
    runs = Store(tmp_path / ".moe/registry").records()
    assert [run.kind for run in runs] == ["prepare", "baseline", "selective", *["evaluation"] * 3, "comparison"]
    assert [finished_run(Path(run.path)).damaged() for run in runs] == [()] * 7
    assert (tmp_path / "comparison/report.html").is_file() and (tmp_path / "comparison/comparison.md").is_file()


def resolved(monkeypatch, *arguments, **named):
    """The config that `prepare` hands to its room."""
    monkeypatch.setattr(prepare_stage, "run", lambda config, store, notify, **_: (config, store, notify))
    return moe_cli.prepare(*arguments, **named)


def test_settings_are_names_or_a_config_and_arguments_win(monkeypatch, tmp_path):
    config = settings_of_small_experiment(tmp_path, train={"report_to": "tensorboard"})
    assert resolved(monkeypatch, config)[0] == config
    changed, _, _ = resolved(monkeypatch, config, output_dir=tmp_path / "elsewhere")
    assert changed.prepare.output_dir == tmp_path / "elsewhere" and changed.train == config.train
    assert resolved(monkeypatch, {"seed": 7, "registry": tmp_path / "r"})[1].registry == tmp_path / "r"
    assert resolved(monkeypatch)[0] == MoeConfig()
    with pytest.raises(UsageError, match=r"train\.num_epoch: unknown key, did you mean train\.num_epochs\?"):
        resolved(monkeypatch, {"train.num_epoch": 1})


def test_the_environment_is_not_read(monkeypatch):
    monkeypatch.setenv("MOE_SEED", "7")
    assert resolved(monkeypatch)[0].seed == 42


def test_cards_are_refused_since_torch_may_be_imported(monkeypatch):
    with pytest.raises(UsageError, match="before torch is imported"):
        resolved(monkeypatch, {"model.gpu": "0"})


def test_warnings_are_pythons_unless_somebody_listens(monkeypatch):
    notify = resolved(monkeypatch)[2]
    with pytest.warns(UserWarning, match="zorp"):
        notify(Notice(text="zorp", warning=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notify(Notice(text="zorp"))
        notify(Progress(task="answers", done=1, total=2))
    listener: list[object] = []
    assert resolved(monkeypatch, notify=listener.append)[2] == listener.append


def test_what_is_evaluated_is_the_model_and_an_arm_is_one_of_two(monkeypatch):
    monkeypatch.setattr(evaluate_stage, "run", lambda words, config, *_, **__: (words, config))
    words, config = moe_cli.evaluate(Path("out"), {"model.name": "tiny"}, output_name="second")
    assert (words, config.model.name, config.evaluate.name) == ("out", "out", "second")
    with pytest.raises(ValueError, match="'selectve' is no arm"):
        api.train("selectve")
