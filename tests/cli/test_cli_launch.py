"""`moe launch`: scripts that a shell and a YAML reader take, of a command that is checked as if it were typed."""

from __future__ import annotations

import shlex
import subprocess

import pytest
import yaml

from moe_cli.cli.app import IN_SEVERAL_PROCESSES

COMMAND = ("train", "selective", "--prepared", "my prepared", "--num-epochs", "2")
ENDING = "-m moe_cli train selective --prepared 'my prepared' --num-epochs 2 --resume"


@pytest.mark.parametrize("scheduler", ["slurm", "torchrun"])
@pytest.mark.parametrize("nodes", ["1", "3"])
def test_a_script_is_one_that_a_shell_reads_and_ends_with_the_command_that_resumes(moe, scheduler, nodes):
    options = (
        "--nodes",
        nodes,
        "--gpus",
        "4",
        "--env",
        "HF_HOME=/data of all/hf",
        "--setup",
        "source venv/bin/activate",
    )
    done = moe("launch", scheduler, *options, "--", *COMMAND)
    assert done.code == 0
    assert subprocess.run(["bash", "-n"], input=done.out, text=True, check=False).returncode == 0
    *before, call = done.out.splitlines()
    assert call.endswith(f"--nproc-per-node=4 {ENDING}")
    assert "export HF_HOME='/data of all/hf'" in before
    assert before.index("source venv/bin/activate") == before.index("export HF_HOME='/data of all/hf'") + 1


def test_slurm_is_asked_for_the_nodes_the_cards_and_a_signal_before_the_end(moe):
    lines = moe(
        "launch", "slurm", "--nodes", "2", "--gpus", "8", "--time", "2-00:00:00", "--", *COMMAND
    ).out.splitlines()
    assert {"#SBATCH --nodes=2", "#SBATCH --gpus-per-node=8", "#SBATCH --time=2-00:00:00"} <= set(lines)
    assert {"#SBATCH --ntasks-per-node=1", "#SBATCH --signal=TERM@300"} <= set(lines)


def test_skypilot_gets_a_task_in_yaml(moe):
    done = moe("launch", "skypilot", "--nodes", "2", "--gpus", "8", "--accelerator", "A100-80GB", "--", *COMMAND)
    task = yaml.safe_load(done.out)
    assert (task["num_nodes"], task["resources"]) == (2, {"accelerators": "A100-80GB:8"})
    assert task["run"].splitlines()[-1].endswith(ENDING)
    assert subprocess.run(["bash", "-n"], input=task["run"], text=True, check=False).returncode == 0


def test_a_command_that_resumes_already_is_printed_as_it_is(moe):
    done = moe("launch", "torchrun", "--", "train", "baseline", "--resume")
    assert done.out.splitlines()[-1].endswith("-m moe_cli train baseline --resume")


def test_a_script_resumes_with_every_command_that_runs_in_several_processes(moe):
    words_of = {"train": ("selective",), "prepare": (), "evaluate": ("run",), "ablate": ("prepared",)}
    for name in IN_SEVERAL_PROCESSES:
        done = moe("launch", "slurm", "--", name, *words_of[name])
        assert done.out.splitlines()[-1].endswith(" ".join(("-m moe_cli", name, *words_of[name], "--resume")))


@pytest.mark.parametrize("named", ["my run", "far/run; touch FAULT", "run: of # it", "two\nlines", "-odd"])
@pytest.mark.parametrize("scheduler", ["slurm", "torchrun", "skypilot"])
def test_a_script_runs_the_command_with_the_very_words_whatever_they_hold(moe, tmp_path, scheduler, named):
    done = moe("launch", scheduler, "--nodes", "2", "--", "evaluate", "--limit", "3", "--", named)
    script = yaml.safe_load(done.out)["run"] if scheduler == "skypilot" else done.out
    assert scheduler == "torchrun" or "moe-evaluate\n" in done.out  # the name of the job
    shown = tmp_path / "bin"
    shown.mkdir()
    for name, body in (("torchrun", """printf '%s\\0' "$@" """), ("srun", '"$@"'), ("scontrol", "echo node-1")):
        (shown / name).write_text(f"#!/bin/bash\n{body}\n")
        (shown / name).chmod(0o755)
    environment = {"PATH": f"{shown}:/usr/bin:/bin", "HEAD": "node-1", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    ran = subprocess.run(
        ["bash"], input=script, text=True, capture_output=True, env=environment, cwd=tmp_path, check=False
    )
    assert (ran.returncode, ran.stderr, [path.name for path in tmp_path.glob("FAULT")]) == (0, "", [])
    words = ran.stdout.split("\0")[:-1]
    assert words[words.index("-m") :] == ["-m", "moe_cli", "evaluate", "--limit", "3", "--resume", "--", named]
    assert "--rdzv-id=moe-evaluate" in words or scheduler != "torchrun"


def test_the_settings_of_this_machine_and_of_the_script_are_those_of_the_command(moe, tmp_path):
    (tmp_path / "moe.yaml").write_text("train:\n  num_epochs: 0\n")
    done = moe("launch", "slurm", "--", "train", "selective", "--config", "moe.yaml")
    assert (done.code, done.out) == (2, "") and "train.num_epochs" in done.err
    done = moe("launch", "slurm", "--env", "MOE_TRAIN__NUM_EPOCHS=0", "--", "train", "selective")
    assert (done.code, done.out) == (2, "") and "the environment" in done.err


def test_data_runs_and_models_may_be_on_other_machines(moe):
    for words in (
        ("prepare", "--pairs", "far/pairs.jsonl", "--benign", "far/benign.jsonl", "--model", "far/model"),
        ("train", "alternating", "--prepared", "far/prepared", "--reselect", "replay"),
        ("evaluate", "far/run", "--items", "far/items.jsonl", "--again", "judge", "--steer", "far/steer.json"),
        ("ablate", "far/prepared", "--on", "far/run"),
    ):
        assert moe("launch", "torchrun", "--", *words).code == 0


def test_the_underscore_spellings_are_taken_as_when_they_are_typed(moe):
    done = moe("launch", "torchrun", "--", "train", "selective", "--num_epochs", "2")
    assert done.out.splitlines()[-1].endswith("train selective --num_epochs 2 --resume")


@pytest.mark.parametrize("time", ["30", "5:01", "45:00", "24:00:00", "100:00:00", "2-0", "1-12:30", "2-23:59:59"])
def test_time_limits_of_slurm_are_printed_as_they_are_written(moe, time):
    assert f"#SBATCH --time={time}" in moe("launch", "slurm", "--time", time, "--", *COMMAND).out.splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("slurm -- compare a b", "not compare"),
        ("slurm -- train", "needs the name of one of its commands"),
        ("slurm -- train both", "No such command 'both'"),
        ("slurm -- train selective --lerning-rate 3", "No such option"),
        ("slurm -- train selective --num-epochs many", "--num-epochs"),
        ("slurm -- train selective --nproc 2", "--nproc is decided by the script"),
        ("slurm -- train selective --gpu=0", "--gpu is decided by the script"),
        ("slurm -- train selective --set model.gpu=0", "--gpu is decided by the script"),
        ("slurm --env MOE_MODEL__GPU=0 -- train selective", "--gpu is decided by the script"),
        ("slurm -- train selective --set train.learning_rate=abc", "train.learning_rate"),
        ("slurm -- train selective --set train.lerning_rate=1", "train.lerning_rate"),
        ("slurm -- train selective --config none.yaml", "none.yaml"),
        ("slurm -- train alternating --placement sharded", "alternating arm trains routers"),
        ("slurm -- train alternating --reselect replay --max-share 0.1", "limits one selection"),
        ("slurm -- ablate prepared --set evaluate.scale=0.5", "evaluate.scale says otherwise"),
        ("slurm -- evaluate", "exactly one run or model"),
        ("slurm -- evaluate run --again answers", "no stage"),
        ("slurm -- evaluate run --answers answers.csv", "nothing shows that run gave them"),
        ("slurm --time soon -- train selective", "no time limit of SLURM"),
        ("slurm --time 1:2 -- train selective", "no time limit of SLURM"),
        ("slurm --time 99:99:99 -- train selective", "59 minutes"),
        ("slurm --time 1-24:00:00 -- train selective", "23 hours"),
        ("slurm --time 0 -- train selective", "before the signal"),
        ("slurm --time 5 -- train selective", "before the signal"),
        ("skypilot --accelerator 'H100: 8' -- train selective", "no name of a card"),
        ("torchrun --env '1=2' -- train selective", "no variable"),
        ("torchrun --env 'A=b\nc' -- train selective", "not one line of text"),
        ("torchrun --setup 'a\nb' -- train selective", "not one line of text"),
        ("pbs -- train selective", "pbs"),
    ],
)
def test_what_no_script_can_be_made_of_is_refused_and_nothing_is_printed(moe, words, message):
    done = moe("launch", *shlex.split(words))
    assert (done.code, done.out) == (2, "")
    assert message in done.err
