"""`moe launch`: prints a script that runs a command in several processes of many machines, by torchrun. Runs nothing.

The script is for SLURM, for SkyPilot, or for a shell on every machine. It asks for a signal before the time is over, so
that a checkpoint is saved, and resumes: submitted again, it goes on where it stopped, or says that all is done. Words
and settings of the command are those it takes; data, runs and models may be on other machines and are not looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from shlex import join, quote
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from moe_cli.cli.boundary import catch_errors
from moe_cli.cli.evaluate import refuse_targets, stages_named
from moe_cli.cli.options import typed_settings
from moe_cli.errors import UsageError

Scheduler = Literal["slurm", "skypilot", "torchrun"]
PORT = 29500
GRACE = 300  # seconds before the end of the time in which a step and a checkpoint must end
TIME = re.compile(r"((?P<days>\d{1,4})-)?(?P<rest>\d{1,6}(:\d{2}){0,2})")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SHARED = "The working directory must lie on a file system that all machines share."
MOST = 2**16
RESUME = "--resume"
TIME_HINT = "write it as 24:00:00 or 2-00:00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked of a scheduler."""

    name: str  # "moe-train-selective"
    words: tuple[str, ...]  # of the command, "train", "selective", "--resume"
    nodes: int
    gpus: int  # of each node, and processes on it
    time: str  # "24:00:00"
    accelerator: str  # "H100"
    exports: tuple[tuple[str, str], ...]
    setup: tuple[str, ...]  # lines of shell

    def torchrun(self, *rendezvous: str) -> str:
        """The call of torchrun; `rendezvous` are options, written as the shell reads them."""
        options = [*rendezvous, f"--nproc-per-node={self.gpus}", "-m", "moe_cli"]
        return " ".join(["torchrun", *options, join(self.words)])

    def preparation(self) -> list[str]:
        """Lines that come before the call."""
        return [*(f"export {name}={quote(value)}" for name, value in self.exports), *self.setup]


def slurm_script(job: Job) -> str:
    """A batch script for `sbatch`."""
    call = job.torchrun(
        '--nnodes="$SLURM_NNODES"',
        "--rdzv-backend=c10d",
        '--rdzv-id="$SLURM_JOB_ID"',
        f'--rdzv-endpoint="$HEAD:{PORT}"',
    )
    return _lines(
        "#!/bin/bash",
        f"#SBATCH --job-name={job.name}",
        f"#SBATCH --nodes={job.nodes}",
        "#SBATCH --ntasks-per-node=1",
        f"#SBATCH --gpus-per-node={job.gpus}",
        f"#SBATCH --time={job.time}",
        f"#SBATCH --signal=TERM@{GRACE}",
        f"# {SHARED}",
        "# Stopped by the time limit, it has saved a checkpoint: submit the same script again to go on.",
        "set -e",
        *job.preparation(),
        'HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        f"export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={GRACE - 60}",
        f"srun {call}",
    )


def skypilot_script(job: Job) -> str:
    """A task for `sky launch`."""
    call = job.torchrun(
        '--nnodes="$SKYPILOT_NUM_NODES"',
        '--node-rank="$SKYPILOT_NODE_RANK"',
        '--master-addr="$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"',
        f"--master-port={PORT}",
    )
    run = [*job.preparation(), f"export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={GRACE - 60}", call]
    return _lines(
        f"# {SHARED}",
        f"name: {job.name}",
        f"num_nodes: {job.nodes}",
        "resources:",
        f"  accelerators: {job.accelerator}:{job.gpus}",
        "run: |",
        *(f"  {line}" for line in "\n".join(run).split("\n")),  # a word may have several
    )


def torchrun_script(job: Job) -> str:
    """Lines for a shell on every machine."""
    if job.nodes == 1:
        return _lines("#!/bin/bash", "set -e", *job.preparation(), job.torchrun("--standalone"))
    call = job.torchrun(
        f"--nnodes={job.nodes}", "--rdzv-backend=c10d", f"--rdzv-id={job.name}", f'--rdzv-endpoint="$HEAD:{PORT}"'
    )
    return _lines(
        "#!/bin/bash",
        f"# Run it on each of the {job.nodes} machines, with the name of one of them in HEAD.",
        f"# {SHARED}",
        "set -e",
        *job.preparation(),
        ': "${HEAD:?set HEAD to the name of one of the machines}"',
        call,
    )


SCRIPTS: dict[Scheduler, Callable[[Job], str]] = {
    "slurm": slurm_script,
    "skypilot": skypilot_script,
    "torchrun": torchrun_script,
}


@catch_errors
def launch(
    ctx: typer.Context,
    scheduler: Annotated[Scheduler, typer.Argument(help="What runs it: `slurm`, `skypilot`, or a shell: `torchrun`.")],
    words: Annotated[list[str], typer.Argument(help="The command, after `--`: `-- train selective ...`.")],
    nodes: Annotated[int, typer.Option(min=1, max=MOST, help="Machines.")] = 1,
    gpus: Annotated[int, typer.Option(min=1, max=MOST, help="Cards of each machine, a process for each.")] = 8,
    time: Annotated[str, typer.Option(help="Time limit, as SLURM writes it.")] = "24:00:00",
    accelerator: Annotated[str, typer.Option(help="Kind of card, as SkyPilot names it.")] = "H100",
    env: Annotated[list[str] | None, typer.Option(help="Variable to export: `HF_HOME=/data/hf`. Repeatable.")] = None,
    setup: Annotated[
        list[str] | None, typer.Option(help="Line of shell before it: `source venv/bin/activate`. Repeatable.")
    ] = None,
) -> None:
    """Print a script that runs a command in several processes of many machines; nothing is run.

    Example: moe launch slurm --nodes 2 --gpus 8 -- train selective --prepared prepared > job.sh

    Example: moe launch skypilot --gpus 8 --accelerator H100 -- train baseline --placement sharded > task.yaml

    Example: moe launch torchrun --gpus 4 -- train selective
    """
    exports = tuple(map(_variable, env or ()))
    of_command, resuming = _checked(ctx, tuple(words), {**os.environ, **dict(exports)})
    job = Job(
        name="-".join(("moe", *of_command)),
        words=resuming,
        nodes=nodes,
        gpus=gpus,
        time=_time(time),
        accelerator=_one_word(accelerator, "--accelerator"),
        exports=exports,
        setup=tuple(_one_line(line) for line in setup or ()),
    )
    print(SCRIPTS[scheduler](job), end="")


def _checked(
    ctx: typer.Context, words: tuple[str, ...], environment: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The name of a command that can run in several processes, and all words as they are typed, with `--resume`.

    Raises:
        UsageError: another command, settings that it refuses, or what torchrun or the scheduler decides.
        typer.BadParameter: or what it is made from: the command does not take these words.
    """
    from moe_cli.cli.app import IN_SEVERAL_PROCESSES, hyphenated

    name = words[0] if words else ""
    if name not in IN_SEVERAL_PROCESSES:
        raise UsageError(
            f"moe launch runs {' or '.join(IN_SEVERAL_PROCESSES)} in several processes, not {name or 'nothing'}",
            hint="name the command after --, such as: moe launch slurm -- train selective",
        )
    root = ctx.find_root()
    command, rest = root.command, hyphenated(list(words))
    while isinstance(command, TyperGroup) and rest:
        _, found, rest = command.resolve_command(root, rest)
        command = found or command
    if isinstance(command, TyperGroup):
        raise UsageError(f"moe {name} needs the name of one of its commands", hint=f"moe {name} --help lists them")
    of_command = words[: len(words) - len(rest)]
    given = command.make_context(" ".join(of_command), rest, parent=root).params
    _refuse_settings(of_command, given, environment)
    resumes = any(RESUME in parameter.opts for parameter in command.params)
    end = words.index("--") if "--" in words else len(words)  # no word after it is an option
    return of_command, (*words[:end], RESUME, *words[end:]) if resumes and not given["resume"] else words


def _refuse_settings(of_command: tuple[str, ...], given: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Refuse what the command refuses before it looks at data or a model, and what the script decides.

    Of `moe ablate` the settings of its prepare run are not among them.
    """
    from moe_cli.cli.session import resolved_config

    typed, named = typed_settings(given), []
    if of_command[0] == "evaluate":
        named = [word for word in (given["run_or_model"], given["model_path"]) if word is not None]
        typed = typed.having("model.name", next(iter(named), None))
    config = resolved_config(typed, environment)
    for option, value in (("--nproc", given["nproc"]), ("--gpu", config.model.gpu)):
        if value is not None:
            raise UsageError(
                f"{option} is decided by the script: a process for each card of --gpus",
                hint=f"leave {option} out of the command after --, and model.gpu out of its settings",
            )
    if of_command == ("train", "alternating"):
        config.refuse_for_alternating()
    if of_command[0] == "ablate":
        config.refuse_for_ablation()
    if of_command[0] == "evaluate":
        stages_named(given["again"])
        refuse_targets(named, bool(config.evaluate.answers))


def _time(text: str) -> str:
    """A time limit as SLURM reads it: minutes[:seconds], hours:minutes:seconds, or days-hours[:minutes[:seconds]].

    Raises:
        UsageError: it is none, or none that leaves time before the signal.
    """
    read = TIME.fullmatch(text)
    if read is None:
        raise UsageError(f"--time {text} is no time limit of SLURM", hint=TIME_HINT)
    first, *later = map(int, read["rest"].split(":"))
    days = read["days"]
    if any(part > 59 for part in later) or (days is not None and first > 23):
        raise UsageError(
            f"--time {text} has more than 23 hours of a day, or than 59 minutes or seconds", hint=TIME_HINT
        )
    units = (3600, 60, 1) if days is not None or len(later) == 2 else (60, 1)
    seconds = int(days or 0) * 86_400 + sum(unit * part for unit, part in zip(units, (first, *later), strict=False))
    if seconds <= GRACE:
        raise UsageError(
            f"--time {text} is over before the signal to save a checkpoint, {GRACE // 60} minutes before its end",
            hint=TIME_HINT,
        )
    return text


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not NAME.fullmatch(name):
        raise UsageError(f"--env {text} is no variable", hint="write it as NAME=VALUE")
    return name, _one_line(value)


def _one_word(text: str, option: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", text):
        raise UsageError(f"{option} {text!r} is no name of a card", hint="write it as SkyPilot does: H100, A100-80GB")
    return text


def _one_line(text: str) -> str:
    if len(text.splitlines()) > 1 or not text.isprintable():
        raise UsageError(f"{text!r} is not one line of text", hint="give every line by itself")
    return text


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
