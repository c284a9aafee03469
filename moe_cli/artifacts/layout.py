"""Every file name the program writes; the only maker of paths.

<prepare out>/     batch_outputs_{model}.parquet  risk_diff_{model}.parquet  sft_dataset_{model}.jsonl
                   risk_diff_{model}.png  risk_diff_{model}.svg
                   routing_{model}.npz  selection.json  batch_expert_masks.npy  summary.json
                   with --pickle: batch_outputs_{model}.pkl  risk_diff_{model}.pkl  sft_dataset_{model}.pkl
<selective out>/   final_model/  expert_delta.safetensors  training_metadata.json  batch_expert_masks.npy
                   steps.jsonl  checkpoint-*/  tensorboard/ where it was asked for
<alternating out>/ as <selective out>/; the delta holds the routers, too
<baseline out>/    final_model/  training_metadata.json  steps.jsonl  checkpoint-*/
<run>/evaluations/<name>/   items.jsonl  records.jsonl  restored.jsonl  drift.jsonl  prompt_drift.jsonl
                            capability.jsonl  summary.json  stages/{answers,verdicts,drift,prompts,capability}-*.jsonl
<comparison out>/  comparison.json  comparison.md  report.html
<ablation out>/    ablation.json  ablation.md  report.html  records.jsonl
                   stages/{answers,verdicts,losses}-*.jsonl
<sweep out>/       sweep.json  sweep.md  report.html
                   points/<digest of a point>/{prepared,selective,baseline}/  point-<digest>.yaml  log.txt
every directory    config.yaml and, written last, manifest.json; .run.json and .lock while the run works
"""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path

from moe_cli.errors import ArtifactError, refuse_non_file
from moe_cli.records.record import file_name

LONGEST_STEM = 200  # of the 255 bytes that systems give the name of a file, with what stands around it
MANIFEST = "manifest.json"
CONFIG = "config.yaml"
STARTED = ".run.json"
LOCK = ".lock"

SELECTION = "selection.json"
MASKS = "batch_expert_masks.npy"
PREPARE_SUMMARY = "summary.json"

FINAL_MODEL = "final_model"
DELTA = "expert_delta.safetensors"
METADATA = "training_metadata.json"
STEPS = "steps.jsonl"
TENSORBOARD = "tensorboard"

STAGES = "stages"
ITEMS = "items.jsonl"
RESTORED = "restored.jsonl"
RECORDS = "records.jsonl"
DRIFT = "drift.jsonl"
PROMPT_DRIFT = "prompt_drift.jsonl"
CAPABILITY = "capability.jsonl"
EVALUATION_SUMMARY = "summary.json"
EVALUATIONS = "evaluations"

COMPARISON = "comparison.json"
COMPARISON_PAGE = "comparison.md"
REPORT = "report.html"

ABLATION = "ablation.json"
ABLATION_PAGE = "ablation.md"

SWEEP = "sweep.json"
SWEEP_PAGE = "sweep.md"
POINTS = "points"  # of a sweep: runs of their own inside it
RUNS_INSIDE = (EVALUATIONS, POINTS)
POINT_LOG = "log.txt"


def path_in(directory: Path, name: str) -> Path:
    """The path of `name`, a name from an artifact, below `directory`.

    Raises:
        ArtifactError: the name, or a link on the way, leads out of the directory.
    """
    try:
        path = directory / file_name(name)
    except ValueError as error:
        raise ArtifactError(f"{directory} names a file outside of it: {error}", hint="make the run again") from error
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory)):
        raise ArtifactError(
            f"{path} is a link that leads out of {directory}", hint="put what it points to in its place, or remove it"
        )
    return path


def refuse_links_out(directory: Path) -> None:
    """Refuse a directory that is to be written to where a link in it leads out of it, or a pipe or a device is in it.

    Raises:
        ArtifactError: there is one.
    """
    for place, directories, files in os.walk(directory):
        for entry in sorted(Path(place, name) for name in (*directories, *files)):
            if entry.is_symlink():
                path_in(directory, entry.relative_to(directory).as_posix())
            if not entry.is_dir():
                refuse_non_file(entry, hint="remove it: whatever reads or writes it would wait")


def file_stem(model_name: str) -> str:
    """The model's name as part of a file name: `/` becomes `--`, anything unsafe `-`; no dot or dash comes first.

    A name that is too long for the file system is cut, and ends with a digest of the whole.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", model_name.strip("/").replace("/", "--")).lstrip(".-") or "model"
    if len(stem) <= LONGEST_STEM:
        return stem
    return f"{stem[: LONGEST_STEM - 17]}-{sha256(model_name.encode()).hexdigest()[:16]}"


def batch_outputs(model_name: str) -> str:
    """File name of all prompts with their answers."""
    return f"batch_outputs_{file_stem(model_name)}.parquet"


def risk_table(model_name: str) -> str:
    """File name of the risk differences: one row per (batch, layer, expert), and the aggregate."""
    return f"risk_diff_{file_stem(model_name)}.parquet"


def training_examples(model_name: str) -> str:
    """File name of the training examples."""
    return f"sft_dataset_{file_stem(model_name)}.jsonl"


def routing_counts(model_name: str) -> str:
    """File name of the integer routing counts per side, with answer and prompt tokens apart."""
    return f"routing_{file_stem(model_name)}.npz"


def risk_pictures(model_name: str) -> tuple[str, str]:
    """File names of the pictures of every expert's risk difference, PNG and SVG."""
    return f"risk_diff_{file_stem(model_name)}.png", f"risk_diff_{file_stem(model_name)}.svg"


def pickle_of(path: Path) -> Path:
    """Path of the same file in the pickle format of the original scripts."""
    return path.with_suffix(".pkl")


def point_settings(digest: str) -> str:
    """File name of the settings of a point's commands."""
    return f"point-{digest}.yaml"


def beside(path: Path, suffix: str) -> Path:
    """The path with `suffix` appended to its name, which also works for `.`."""
    resolved = path if path.name else path.resolve()
    return resolved.with_name(f"{resolved.name}{suffix}")


def evaluation_directory(run: Path | None, model_name: str, name: str) -> Path:
    """Directory of an evaluation: below the evaluated run, or `./evaluations/<model>/<name>/` for a bare model.

    Raises:
        ArtifactError: the run's `evaluations` is a link that leads out of it.
    """
    if run is None:
        return Path(EVALUATIONS) / file_stem(model_name) / name
    return path_in(run, f"{EVALUATIONS}/{name}")
