"""What every artifact can do to the commands that read it: many damages of every file, each read by one command.

    python -m tests.studies.artifact_damage --mutations 2000

The files are those of the small experiment; each is damaged in two forms: under the digest that its manifest has
(`kept`), and with that digest adapted in the manifest, the registry, the seals and whatever was made from it (`fits`).
The outcome is `works`, `refused` (an exit code of the program and an error that names the artifact or its file, with a
hint; or a line that names it while the rest goes on), `nameless`, `traceback`, `hang`, or `silent`: a damaged file was
read as if it were whole, or a number that is none was printed or written. The last four are faults.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from moe_cli.artifacts.files import SEAL, write_checksums
from moe_cli.errors import ExitCode
from moe_cli.train import stage as training
from tests.studies.file_damage import damage, kind_of, structure
from tests.studies.in_process import MANY, NINE, OPENED, Ended, Sandbox, Words, experiment, run

FAULTS = ("nameless", "traceback", "hang", "silent")
UNKNOWN = "is not known"  # which of the goals a run was trained on, where its prepare run is changed
NO_GOALS = re.compile(r'"goals_trained_on": ?null')
FITTED = (training, "fit_arm")  # by then a training has read all that it reads
NO_NUMBER = re.compile(rb"(?<![A-Za-z_])(NaN|nan|[Ii]nf|Infinity)(?![A-Za-z_])")
DIGEST = re.compile(rb"[0-9a-f]{64}")
TEXTS = (".json", ".jsonl", ".yaml", ".md", ".csv")

COMPARED: Words = ("compare", "tiny", "selective", "baseline", "--evaluation", "default", "-o", "new", "--json")
COMPARED_MANY: Words = ("compare", "tiny", "selective", "--evaluation", "many", "-o", "new")
LISTED: Words = ("runs", "list", "--json")
TRAINS = tuple(("train", arm, "--prepared", "{}", "-o", "new") for arm in ("selective", "baseline"))
READERS: dict[str, tuple[Words, ...]] = {
    "prepared": (
        *(*TRAINS, *TRAINS),
        ("select", "{}", "-o", "new", "--threshold", "0.2"),
        ("select", "{}", "-o", "new", "--method", "esft-gate", "--json"),
        *(COMPARED, ("evaluate", "selective", "--output-name", "new")),
        *(("export", "selective", "-o", "new"), ("push", "selective", "owner/name", "--dry-run", "--json")),
    ),
    "selected": (*TRAINS, ("select", "{}", "-o", "new", "--threshold", "0.3")),
    "selective": (
        *(COMPARED, ("evaluate", "{}", "--output-name", "new"), ("export", "{}", "-o", "new")),
        ("export", "{}/final_model", "--delta", "--model-name", "tiny", "-o", "new.safetensors"),
        *(("push", "{}", "owner/name", "--dry-run", "--json"), ("push", "{}", "owner/name", "--dry-run", "--delta")),
        ("evaluate", "{}/final_model", "--output-name", "new"),
    ),
    "baseline": (
        *(COMPARED, ("evaluate", "{}", "--output-name", "new"), ("push", "{}", "owner/name", "--dry-run")),
        ("compare", "baseline", "selective", "-o", "new", "--markdown"),
    ),
    "selective/evaluations/default": (
        *(COMPARED, ("compare", "{}", "baseline", "-o", "new", "--json")),
        *(("evaluate", "selective", "--output-name", "new"), ("push", "selective", "owner/name", "--dry-run")),
    ),
    "selective/evaluations/many": (COMPARED_MANY, ("evaluate", "selective", *MANY[2:], "--output-name", "new")),
    "evaluations/tiny/default": (COMPARED, ("evaluate", "tiny", "--output-name", "new")),
    "evaluations/tiny/many": (
        ("label", "tiny", "selective", "--evaluation", "many", "--metric", "asr", "--draw", "50", "-o", "new.csv"),
        (*COMPARED_MANY, "--labels", "labels.csv"),
    ),
    "comparison": (),
    "stopped_selective": (("train", "selective", "--prepared", "prepared", "-o", "{}", "--resume"),),
    "stopped_baseline": (("train", "baseline", "--prepared", "prepared", "-o", "{}", "--resume"),),
    "stopped_prepare": (("prepare", "-o", "{}", "--resume"),),
    "baseline/evaluations/stopped": (
        ("evaluate", "baseline", "--output-name", "stopped", "--resume", *NINE),
        ("evaluate", "baseline", "--output-name", "new"),
    ),
    "exported": (
        ("evaluate", "{}", "--output-name", "new"),
        ("export", "{}", "--delta", "--model-name", "tiny", "-o", "new.safetensors"),
    ),
    "delta.safetensors": (("export", "{}", "-o", "new"),),
    "labels.csv": ((*COMPARED_MANY, "--labels", "{}"),),
    ".moe/registry": (
        *(LISTED, TRAINS[0], COMPARED, ("runs", "verify", "selective"), ("export", "selective", "-o", "new")),
        *(("evaluate", "selective", "--output-name", "new"), ("runs", "show", "selective", "--json")),
    ),
}
WITHOUT_MANIFEST = ("exported", "delta.safetensors", "labels.csv", ".moe/registry")
RUNS = (("runs", "verify", "{}", "--json"), ("runs", "show", "{}", "--json"), LISTED)


@dataclass(frozen=True)
class Case:
    """One damage, and what a command made of it."""

    artifact: str
    file: str
    form: str  # "kept" or "fits"
    damage: str
    words: Words
    outcome: str
    text: str  # what was said


def cases(box: Sandbox, number: int, seed: int) -> Iterator[Case]:
    """Damage `number` times and put back; the current directory is the one in the box."""
    files = _files_of(box.work)
    chance = random.Random(seed)
    for _ in range(number):
        yield _case(box, files, chance)
        box.restore()


def _files_of(work: Path) -> dict[str, list[Path]]:
    """The files of every artifact; of several whose directory they are in, the innermost has them."""
    found: dict[str, list[Path]] = {name: [] for name in READERS if (work / name).exists()}
    for file in sorted(path for path in work.rglob("*") if path.is_file()):
        owners = [name for name in found if (work / name) in (file, *file.parents)]
        if owners and file.name != ".lock":
            found[max(owners, key=len)].append(file)
    return found


def _case(box: Sandbox, files: dict[str, list[Path]], chance: random.Random) -> Case:
    artifact = chance.choice(list(files))
    file = chance.choice(files[artifact])
    readers = READERS[artifact] if artifact in WITHOUT_MANIFEST else (*READERS[artifact] * 2, *RUNS)
    words = tuple(word.format(artifact) for word in chance.choice(readers))
    form = chance.choice(("kept", "fits"))
    if chance.random() < 0.1:
        form, what = "kept", structure(file, chance)
    else:
        what = damage(file, chance)
    same = file.is_file() and file.read_bytes() == (box.original / file.relative_to(box.work)).read_bytes()
    if form == "fits":
        fit_digests(box)
    box.note()
    ended = run(words, until=FITTED if words in [tuple(w.format(artifact) for w in t) for t in TRAINS] else None)
    outcome = "works" if same and ended.code == 0 else _outcome(box, artifact, file, form, ended)
    return Case(artifact, str(file.relative_to(box.work)), form, what, words, outcome, ended.err[-1500:])


def fit_digests(box: Sandbox) -> None:
    """Put the digests of changed files into every seal, manifest and record that names them, and so on upwards."""
    work, original = box.work, box.original
    for place in {file.parent for file in work.rglob(SEAL)}:
        if any(_differs(file, original / file.relative_to(work)) for file in place.iterdir() if file.name != SEAL):
            (place / SEAL).unlink()
            write_checksums(place)
    contents = {file: file.read_bytes() for file in work.rglob("*") if file.suffix in TEXTS and file.is_file()}
    new = {
        sha256((original / file.relative_to(work)).read_bytes()).hexdigest().encode(): _digest(file)
        for file in box.changed()
        if file.is_file() and (original / file.relative_to(work)).is_file()
    }
    while new:
        later: dict[bytes, bytes] = {}
        for file, content in contents.items():
            changed = _replaced(content, new)
            if changed != content:
                later[sha256(content).hexdigest().encode()] = sha256(changed).hexdigest().encode()
                file.write_bytes(changed)
                contents[file] = changed
        new = later


def _replaced(content: bytes, digests: dict[bytes, bytes]) -> bytes:
    return DIGEST.sub(lambda match: digests.get(match[0], match[0]), content)


def _differs(file: Path, original: Path) -> bool:
    return not file.is_file() or file.read_bytes() != original.read_bytes()


def _digest(file: Path) -> bytes:
    return sha256(file.read_bytes()).hexdigest().encode()


def _outcome(box: Sandbox, artifact: str, file: Path, form: str, ended: Ended) -> str:
    if ended.how in ("traceback", "hang"):
        return ended.how
    told = ended.err + ended.out
    named = file.stem in told or str(file.parent.relative_to(box.work)) in told
    if ended.code is not None and ended.code not in (ExitCode.OK, ExitCode.THRESHOLD, ExitCode.UNSCORED):
        lines = ended.err.splitlines()
        error = next((line for line in lines if line.startswith("error: ")), "")
        about = any(name in error for name in (file.stem, artifact, Path(artifact).name, _model_of(artifact)))
        known = ended.code in list(ExitCode) and ended.code != ExitCode.BUG
        return "refused" if about and known and any(line.startswith("hint: ") for line in lines) else "nameless"
    if holds_not_finite(box, ended):
        return "silent"
    read = str(file) in OPENED.paths
    sealed = artifact not in WITHOUT_MANIFEST and not artifact.rpartition("/")[2].startswith("stopped")
    said = named or UNKNOWN in ended.err or len(NO_GOALS.findall(ended.out)) > 1  # the base itself has none
    if form == "kept" and read and sealed and file.name != "manifest.json" and not said:
        return "silent"
    return "refused" if named and ("warning" in ended.err or "problem" in ended.out) else "works"


def _model_of(artifact: str) -> str:
    """Evaluations of a bare model are named by it."""
    parts = artifact.split("/")
    return parts[1] if parts[0] == "evaluations" else parts[0]


def holds_not_finite(box: Sandbox, ended: Ended) -> bool:
    """Whether a number that is none was printed, or is in a file that the command wrote."""
    if NO_NUMBER.search(ended.out.encode()):
        return True
    for file in box.changed():
        if file.suffix in (*TEXTS, ".html") and file.is_file() and NO_NUMBER.search(file.read_bytes()):
            return True
        if file.suffix in (".safetensors", ".npz", ".parquet") and file.is_file() and not _finite(file):
            return True
    return False


def _finite(file: Path) -> bool:
    if file.suffix == ".safetensors":
        return all(bool(torch.isfinite(tensor.float()).all()) for tensor in load_file(file).values())
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            return all(bool(np.isfinite(arrays[name]).all()) for name in arrays if arrays[name].dtype.kind == "f")
    floats = [column for column in pq.read_table(file).columns if pa.types.is_floating(column.type)]
    return all(pc.all(pc.is_finite(column.drop_null())).as_py() in (True, None) for column in floats)


def main() -> None:
    """Print the counts by kind of file and outcome, and every fault."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--mutations", type=int, default=2000)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--verbose", action="store_true")
    typed = words.parse_args()
    torch.set_num_threads(1)
    counts: Counter[tuple[str, str, str]] = Counter()
    began = time.monotonic()
    with experiment() as box:
        for number, case in enumerate(cases(box, typed.mutations, typed.seed)):
            counts[kind_of(Path(case.file)), case.form, case.outcome] += 1
            if number % 100 == 99:
                print(f"{number + 1} of {typed.mutations}", file=sys.stderr, flush=True)
            if case.outcome in FAULTS or typed.verbose:
                about = f"{number} {case.outcome}: {case.file} ({case.form}): {case.damage}: moe {' '.join(case.words)}"
                print(f"{about}\n    {json.dumps(case.text[-600:])}", flush=True)
    outcomes = ("works", "refused", *FAULTS)
    print(f"{'file':12} {'digest':6} " + " ".join(f"{outcome:>9}" for outcome in outcomes))
    for kind, form in sorted({(kind, form) for kind, form, _ in counts}):
        print(f"{kind:12} {form:6} " + " ".join(f"{counts[kind, form, outcome]:9}" for outcome in outcomes))
    total = [sum(count for key, count in counts.items() if key[2] == outcome) for outcome in outcomes]
    print(f"{'all':12} {'':6} " + " ".join(f"{count:9}" for count in total))
    print(f"{sum(total)} in {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
