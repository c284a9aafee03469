"""The command tree: everything has a help text, and nothing heavy is imported to show it."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from moe_cli.cli.app import IN_FLOW, app, hyphenated
from moe_cli.config import load_config
from moe_cli.errors import ExitCode
from tests.studies import reference

DOCS = Path(__file__).parents[2] / "docs"


def commands(command, name="moe"):
    if not isinstance(command, TyperGroup):
        return [(name, command)]
    own = [(name, command)] if command.invoke_without_command else []
    return own + [found for word in command.commands for found in commands(command.commands[word], f"{name} {word}")]


TREE = typer.main.get_command(app)
COMMANDS = commands(TREE)


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_says_what_it_does_shows_an_example_and_explains_every_option(name, command):
    first, *rest = command.help.split("\n\n")
    assert first.endswith(".") or "? " in first
    assert [text for text in rest if text.startswith(f"Example: {name}")]
    for parameter in command.params:
        assert (parameter.help or "").endswith("."), (name, parameter.name)


def test_help_is_wrapped_by_the_terminal_and_cut_nowhere(moe):
    shown = moe("prepare", "--help").out
    assert "selects experts per batch, and writes batches, masks" in " ".join(shown.split())
    assert "writes\n" not in shown.replace(" \n", "\n") and "…" not in shown


def test_every_group_says_what_it_holds():
    groups = [TREE, *(command for command in TREE.commands.values() if isinstance(command, TyperGroup))]
    assert len(groups) == 4
    assert all(group.help.split("\n\n")[0].endswith(".") for group in groups)


def test_the_commands_stand_in_the_order_of_the_experiment():
    assert TREE.list_commands(typer.Context(TREE)) == list(IN_FLOW)
    assert set(IN_FLOW) == set(TREE.commands)


@pytest.mark.parametrize("name", reference.pages(DOCS))
def test_the_page_in_docs_is_what_the_program_makes(name):
    assert (DOCS / name).read_text() == reference.pages(DOCS)[name], "run: make docs"


def test_the_pages_name_every_command_option_setting_and_exit_code():
    cli, configuration = reference.pages(DOCS)["cli.md"], reference.pages(DOCS)["configuration.md"]
    for name, command in COMMANDS:
        section = cli.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section
        assert all(f"`{word}`" in section for option in command.params for word in option.opts if word.startswith("-"))
    assert all(f"`{name}`" in configuration for name in reference.setting_names())
    assert all(f"\n| {int(code)} | " in cli for code in ExitCode)


def test_the_example_in_the_configuration_page_is_a_valid_file(tmp_path):
    page = (DOCS / "configuration.md").read_text()
    (tmp_path / "moe.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    config = load_config(file=tmp_path / "moe.yaml", environment={}, assignments=(), flags={})
    assert (config.model.gpu, config.prepare.budget, config.train.learning_rate) == ("0", 0.05, 2e-5)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--model_name", "a_b"], ["--model-name", "a_b"]),
        (["--model_name=a_b"], ["--model-name=a_b"]),
        (["--set=train.num_epochs=1"], ["--set=train.num_epochs=1"]),
        (["--set", "train.num_epochs=1"], ["--set", "train.num_epochs=1"]),
        (["my_run", "-o", "out_dir"], ["my_run", "-o", "out_dir"]),
        (["--dry_run", "--", "--my_run"], ["--dry-run", "--", "--my_run"]),
        (["--", "x"], ["--", "x"]),
        ([], []),
    ],
)
def test_underscores_in_the_name_of_an_option_are_hyphens_and_elsewhere_stay(typed, meant):
    assert hyphenated(typed) == meant


LIGHT = (
    ["--help"],
    ["--version"],
    ["runs", "list"],
    ["runs", "show", "nothing"],
    ["config", "show"],
    ["config", "schema"],
    ["compare", "--help"],
    ["compare", "a", "b"],
    ["prepare", "--model", "tiny", "--dry-run"],
    ["train", "baseline", "--dry-run"],
    ["evaluate", "tiny", "--dry-run"],
    ["demo", "--help"],
    ["bench", "--help"],
    ["bench", "--hidden", "30"],
)


def test_light_commands_start_without_torch(tmp_path):
    code = f"""
import sys
from moe_cli.cli.app import main
for words in {LIGHT!r}:
    sys.argv = ["moe", *words]
    try:
        main()
    except SystemExit:
        pass
    heavy = sorted({{"torch", "transformers", "datasets"}} & set(sys.modules))
    print(f"heavy after {{words}}: {{heavy}}", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    said = [line for line in done.stderr.splitlines() if line.startswith("heavy after")]
    assert said == [f"heavy after {words}: []" for words in LIGHT]


@pytest.mark.parametrize(
    "words", [["--help"], ["compare", "--help"], ["prepare", "--help"], ["runs", "list", "--help"]]
)
def test_a_help_text_needs_no_numbers_no_records_and_no_judges(tmp_path, words):
    code = f"""
import sys
from moe_cli.__main__ import main
sys.argv = ["moe", *{words!r}]
try:
    main()
except SystemExit:
    pass
heavy = ("numpy", "scipy", "moe_cli.records", "moe_cli.judges", "moe_cli.compare.stage", "moe_cli.data")
print(*(name for name in heavy if name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert (done.stderr.strip(), "Usage: moe" in done.stdout) == ("", True)
