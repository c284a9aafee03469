"""One NaN or infinity, put wherever numbers enter or leave: weights, training state, counts, scores, tables, settings.

    python -m tests.studies.not_finite

Each is put in alone, under digests that fit, and one command is run that reads it; or it comes up in the middle of the
work. The outcome is `refused` (an exit code of the program, an error that names the place, a hint), `works` (nothing
that is no number was printed or written), or a fault: `accepted` (a weight, moment, gradient or setting that is no
number was worked with), `nameless`, `traceback`, `hang`, and `written` where a file or the output holds one. Whatever
the outcome, every file that the command wrote is looked at, checkpoints included.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from moe_cli.config import MoeConfig
from moe_cli.errors import ExitCode
from moe_cli.model.routing import RoutingRecorder
from moe_cli.prepare import replays
from moe_cli.tiny import CHECKPOINT_PATH
from moe_cli.train import checkpoint
from moe_cli.train.trainer import FixedBatchTrainer
from tests.studies.artifact_damage import COMPARED, COMPARED_MANY, FITTED, TRAINS, fit_digests, holds_not_finite
from tests.studies.in_process import Ended, Sandbox, Words, experiment, run

VALUES = {"NaN": math.nan, "+inf": math.inf, "-inf": -math.inf}
JSON_WORDS = {"NaN": "NaN", "+inf": "Infinity", "-inf": "-Infinity", "1e999": "1e999"}
FAULTS = ("accepted", "nameless", "traceback", "hang", "written")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PARTS = ("embed_tokens", "lm_head", "q_proj", "o_proj", "norm", "mlp.gate.", "experts")
NUM_EXPERTS, SMALLEST_HEAD = 16, 400  # rows of the routers and of the head of the tiny model
LARGEST = torch.finfo(torch.float32).max  # bfloat16 rounds it to infinity
NEW = ("--output-name", "new")
ITEMS = ("--items", "items.jsonl")
NUMERIC = ExitCode.NUMERIC


@dataclass(frozen=True)
class Injection:
    """A number that is none, and the command that meets it."""

    kind: str
    place: str  # what the error is to name: parts of which one is enough, apart by "|"
    about: str
    words: Words
    put: Callable[[], None] = lambda: None  # into the files of the current directory
    while_at_work: Callable[[], AbstractContextManager[object]] = nullcontext
    until: tuple[object, str] | None = None
    strict: bool = True  # it must be refused
    code: int | None = None  # with this exit code


@dataclass(frozen=True)
class Outcome:
    """What the command made of it."""

    injection: Injection
    outcome: str
    text: str


def outcomes(box: Sandbox, *, every: int = 1, only: str = "") -> Iterator[Outcome]:
    """One of each `every` injections whose kind holds `only`; the current directory is the one in the box."""
    chosen = [injection for injection in injections() if only in injection.kind]
    for injection in chosen[::every]:
        yield _outcome(box, injection)
        box.restore()


def _outcome(box: Sandbox, injection: Injection) -> Outcome:
    injection.put()
    fit_digests(box)
    box.note()
    with injection.while_at_work():
        ended = run(injection.words, until=injection.until)
    return Outcome(injection, _judged(box, injection, ended), ended.err[-1500:])


def _judged(box: Sandbox, injection: Injection, ended: Ended) -> str:
    if ended.how in ("traceback", "hang"):
        return ended.how
    if holds_not_finite(box, ended):
        return "written"
    if ended.code in (None, ExitCode.OK, ExitCode.THRESHOLD, ExitCode.UNSCORED):
        return "accepted" if injection.strict else "works"
    lines = ended.err.splitlines()
    error = " ".join(line for line in lines if not line.startswith(("hint", "warning")))
    named = any(name in error for name in injection.place.split("|")) and injection.code in (None, ended.code)
    return "refused" if named and any(line.startswith("hint: ") for line in lines) else "nameless"


def injections() -> Iterator[Injection]:
    """All of them; each puts its number into a directory as it was."""
    yield from _bases()
    yield from _states()
    yield from _weights_of_runs()
    yield from _selections()
    yield from _records()
    yield from _tables()
    yield from _settings()
    yield from _while_training()
    yield from _while_answering()


def _bases() -> Iterator[Injection]:
    for dtype in DTYPES:
        for part in PARTS:
            for name, value in VALUES.items():
                put = _base(dtype, part, value)
                yield Injection(
                    "base", "base", f"{part} {dtype} {name}", ("evaluate", "base", *NEW, *ITEMS), put, code=NUMERIC
                )
    for words in (
        ("prepare", "--model-name", "base", "--pairs", "pairs.jsonl", "-o", "new"),
        ("export", "base", "--delta", "-m", "tiny", "-o", "n"),
    ):
        put = _base("float32", "experts", math.nan)
        yield Injection("base", "base", f"experts NaN {words[0]}", words, put, code=NUMERIC)
    for name, value in VALUES.items():
        trains = [tuple(word.format("of_base") for word in words) for words in TRAINS]
        for words in (*trains, ("export", "delta.safetensors", "-m", "base", "-o", "new")):
            yield Injection("unopened", "vision", f"{words[:2]} {name}", words, _unopened(value), code=NUMERIC)


def _base(dtype: str, part: str, value: float) -> Callable[[], None]:
    def put() -> None:
        shutil.copytree(CHECKPOINT_PATH, "base")
        rows = ({"id": str(n), "goal": f"zorp {n}", "safe": f"zorp {n}", "unsafe": f"do zorp {n}"} for n in range(9))
        Path("pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        _edit(Path("base/model.safetensors"), part, value, DTYPES[dtype])
        config = json.loads(Path("base/config.json").read_text())
        Path("base/config.json").write_text(json.dumps({**config, "dtype": dtype}))

    return put


def _unopened(value: float) -> Callable[[], None]:
    """A base with a tensor that the model does not open, in the place of the tiny one, and a prepare run of it."""

    def put() -> None:
        shutil.copytree(CHECKPOINT_PATH, "base")
        file = Path("base/model.safetensors")
        with safe_open(file, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        save_file({**tensors, "vision.weight": torch.tensor([1.0, value])}, file, metadata={"format": "pt"})
        settings = Path("moe.yaml").read_text().replace("name: tiny", "name: base")
        Path("moe.yaml").write_text(settings)
        shutil.copytree("prepared", "of_base")

    return put


def _edit(file: Path, part: str, value: float, dtype: torch.dtype | None = None) -> None:
    with safe_open(file, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        metadata = stored.metadata()
    if dtype is not None:
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    chosen = next(name for name, tensor in sorted(tensors.items()) if part in name and tensor.is_floating_point())
    flat = tensors[chosen].reshape(-1).clone()
    flat[len(flat) // 2] = value
    save_file({**tensors, chosen: flat.reshape(tensors[chosen].shape)}, file, metadata=metadata)


def _tensor(file: str, part: str, value: float) -> Callable[[], None]:
    return lambda: _edit(Path(file), part, value)


def _json(file: str, number: int, word: str) -> Callable[[], None]:
    """Another word in the place of one of the numbers of a JSON file."""

    def put() -> None:
        text = Path(file).read_text()
        match = list(FLOAT.finditer(text))[number]
        Path(file).write_text(text[: match.start()] + word + text[match.end() :])

    return put


FLOAT = re.compile(r"(?<=[:\[,\s])-?\d+(\.\d+)?([eE][-+]?\d+)?(?=\s*[,}\]\n])")


def _numbers(file: str, most: int) -> list[int]:
    """Places of numbers in a JSON file, spread over it."""
    count = len(FLOAT.findall(Path(file).read_text()))
    return sorted({count * place // most for place in range(most)}) if count else []


def _states() -> Iterator[Injection]:
    for arm in ("selective", "baseline"):
        run_path = f"stopped_{arm}"
        (path,) = Path(run_path).glob("checkpoint-*")
        words = ("train", arm, "--prepared", "prepared", "-o", run_path, "--resume")
        for name, value in VALUES.items():
            for file, part in (
                (checkpoint.PARAMETERS, ""),
                *((checkpoint.OPTIMIZER, entry) for entry in ("exp_avg", "exp_avg_sq", "step")),
            ):
                put = _tensor(str(path / file), part, value)
                yield Injection("checkpoint", path.name, f"{arm} {part or file} {name}", words, put, code=NUMERIC)
        for file in (checkpoint.STATE, checkpoint.TRAINER_STATE, "steps.jsonl"):
            for number in _numbers(str(path / file), 5):
                for name, word in JSON_WORDS.items():
                    put = _json(str(path / file), number, word)
                    yield Injection("checkpoint", path.name, f"{arm} {file} {number} {name}", words, put)


def _weights_of_runs() -> Iterator[Injection]:
    for name, value in VALUES.items():
        for part in ("gate_up_proj", "down_proj"):
            for file, source in (("delta.safetensors",) * 2, ("selective/expert_delta.safetensors", "selective")):
                put = _tensor(file, part, value)
                yield Injection("delta", "delta", f"{part} {name}", ("export", source, "-o", "new"), put, code=NUMERIC)
        for arm in ("selective", "baseline"):
            file = f"{arm}/final_model/model.safetensors"
            for part in PARTS:
                put = _tensor(file, part, value)
                words = ("evaluate", arm, *NEW)
                yield Injection("final model", "final_model", f"{arm} {part} {name}", words, put, code=NUMERIC)
            words = ("export", f"{arm}/final_model", "--delta", "--model-name", "tiny", "-o", "new.safetensors")
            yield Injection(
                "final model", "final_model", f"{arm} {name}", words, _tensor(file, "experts", value), code=NUMERIC
            )


def _selections() -> Iterator[Injection]:
    with np.load("prepared/routing_tiny.npz") as arrays:
        names = {name: array.dtype.kind for name, array in arrays.items() if array.dtype.kind in "if"}
    for array in names:
        for name, value in VALUES.items():
            for method in ("risk_diff", "esft-gate", "text"):
                words = ("select", "prepared", "--method", method, "-o", "new")
                put = _array("prepared/routing_tiny.npz", array, value)
                yield Injection("counts", "routing_tiny.npz", f"{array} {method} {name}", words, put)
    for column in ("risk_diff", "lower", "p_value", "text"):
        for name, value in VALUES.items():
            put = _column("prepared/risk_diff_tiny.parquet", column, value)
            yield Injection("risk table", "risk_diff", f"{column} {name}", COMPARED, put, strict=False)
    for name, value in VALUES.items():
        put = _array("prepared/batch_expert_masks.npy", None, value)
        yield Injection("masks", "batch_expert_masks.npy", name, COMPARED, put)


def _array(file: str, name: str | None, value: float) -> Callable[[], None]:
    def put() -> None:
        if name is None:
            array = np.load(file).astype(np.float64)
            array.reshape(-1)[0] = value
            np.save(file, array)
            return
        with np.load(file) as stored:
            arrays = dict(stored)
        changed = arrays[name].astype(np.float64)
        changed.reshape(-1)[changed.size // 2] = value
        np.savez(file, **{**arrays, name: changed})

    return put


def _column(file: str, name: str, value: float) -> Callable[[], None]:
    def put() -> None:
        table = pq.read_table(file)
        values = table.column(name).to_pylist()
        values[-1] = value
        pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(values, pa.float64())), file)

    return put


def _records() -> Iterator[Injection]:
    evaluated = "selective/evaluations/default"
    (drift,) = Path(f"{evaluated}/stages").glob("drift-*")
    (weights,) = Path(f"{evaluated}/stages").glob("weights-*")
    again = ("evaluate", "selective", *NEW)
    for file, words in (
        ("prepared/selection.json", TRAINS[0]),
        ("prepared/summary.json", ("select", "prepared", "-o", "new")),
        ("prepared/sft_dataset_tiny.jsonl", TRAINS[1]),
        ("selective/training_metadata.json", COMPARED),
        ("selective/training_metadata.json", ("runs", "list", "--json")),
        ("selective/steps.jsonl", COMPARED),
        *((f"{evaluated}/{name}", COMPARED) for name in ("summary.json", "drift.jsonl", "records.jsonl")),
        (str(drift), again),
        (str(weights), again),
        ("comparison/comparison.json", ("runs", "list", "--json")),
        ("selective/manifest.json", COMPARED),
    ):
        for number in _numbers(file, 8):
            for name, word in JSON_WORDS.items():
                about = f"{file} {number} {name} {words[0]}"
                words_of = tuple(each.format("prepared") for each in words)
                until = FITTED if words[0] == "train" else None
                strict = words[:2] != ("runs", "list") and words is not again  # which say so and go on without it
                yield Injection(
                    "records", Path(file).name, about, words_of, _json(file, number, word), until=until, strict=strict
                )


def _tables() -> Iterator[Injection]:
    for word in ("nan", "NaN", "inf", "-inf", "Infinity", "1e999", "-1e999"):
        missing = word.lower() == "nan"  # which is how tables say that there is no number
        table = "item,base,tuned\n" + "".join(f"{n},{n % 2},{(n + 1) % 2}\n" for n in range(20)) + f"x,{word},1\n"
        yield Injection(
            "table", "t.csv", word, ("compare", "t.csv", "-o", "new"), _text("t.csv", table), strict=not missing
        )
        rows = "".join(f'{{"item": {n}, "base": {n % 2}, "tuned": 1}}\n' for n in range(20))
        row = f'{{"item": "x", "base": {word}, "tuned": 1}}\n'
        yield Injection(
            "table",
            "t.jsonl",
            word,
            ("compare", "t.jsonl", "-o", "new"),
            _text("t.jsonl", rows + row),
            strict=not missing,
        )
        counts = "layer,expert,a1,a2,d1,d2\n0,0,3,9,1,9\n0,1,{},{},1,9\n"
        for cells in ((word, "9"), ("3", word)):
            words = ("select", "--from-counts", "c.csv", "-o", "new.csv")
            yield Injection("counts table", "c.csv", word, words, _text("c.csv", counts.format(*cells)))
        for scores in ('{{"0": {{"0": 0.3, "1": {}}}}}', '{{"top_p": {}, "gate_scores": {{"0": [0.3, 0.4]}}}}'):
            words = ("select", "--from-scores", "s.json", "-o", "new.csv")
            yield Injection(
                "scores table",
                "s.json",
                word,
                words,
                _text("s.json", scores.format(word)),
                strict="top_p" not in scores,
            )
        if Path("labels.csv").exists():
            words = (*COMPARED_MANY, "--labels", "labels.csv")
            for column in (7, 5):
                yield Injection("labels", "labels.csv", f"{column} {word}", words, _cell("labels.csv", column, word))
        for fail in ("asr>{}", "asr<{}", "accuracy>{}"):
            words = (*COMPARED, "--fail-if", fail.format(word))
            yield Injection("threshold", word, fail, words)
        selection = f"rank,layer,expert,risk_diff,selected\n1,0,0,{word},1\n"
        words = ("select", "prepared", "--method", "file", "--selection-file", "f.csv", "-o", "new")
        yield Injection("selection file", "f.csv", word, words, _text("f.csv", selection), strict=False)


def _text(file: str, text: str) -> Callable[[], None]:
    return lambda: Path(file).write_text(text) and None


def _cell(file: str, column: int, word: str) -> Callable[[], None]:
    def put() -> None:
        import csv

        with Path(file).open(newline="", encoding="utf-8-sig") as sheet:
            rows = list(csv.reader(sheet))
        rows[1][column] = word
        with Path(file).open("w", newline="", encoding="utf-8") as sheet:
            csv.writer(sheet).writerows(rows)

    return put


def _settings() -> Iterator[Injection]:
    """Every setting that takes a number, by assignment, by file and by the options for them."""
    for word in ("nan", ".nan", "inf", ".inf", "-.inf", "1e999", "NaN"):
        for name in _numeric(MoeConfig.model_json_schema()):
            words = ("config", "show", "--json", "--set", f"{name}={word}")
            yield Injection("settings", name, word, words)
        for option, command in (
            *(("--learning-rate", ("train", "selective")), ("--max-share", ("train", "selective"))),
            *(("--threshold", ("prepare",)), ("--budget", ("prepare",)), ("--stability", ("prepare",))),
            *(("--margin", ("compare", "tiny")), ("--scale", ("compare", "t.csv")), ("--temperature", ("prepare",))),
            *(("--flip-factor", ("label", "a", "b")), ("--top-p", ("prepare",)), ("--safe-ratio", ("prepare",))),
        ):
            place = f"{option}|{option.strip('-').replace('-', '_')}"
            yield Injection("options", place, f"{command} {word}", (*command, option, word, "--dry-run"))
    for setting in ("learning_rate=3e38", "learning_rate=1e300", "weight_decay=3e38", "weight_decay=1e300"):
        for arm in ("selective", "baseline"):
            words = ("train", arm, "--prepared", "prepared", "-o", "new", "--set", f"train.{setting}")
            yield Injection("large settings", "step|learning_rate|weight_decay", f"{arm} {setting}", words)
    for setting in ("max_grad_norm=1e300", "max_grad_norm=1e-320"):
        words = ("train", "selective", "--prepared", "prepared", "-o", "new", "--set", f"train.{setting}")
        yield Injection("large settings", "step|max_grad_norm", setting, words, strict=False)


def _numeric(schema: dict[str, Any]) -> Iterator[str]:
    """Names of all settings that take a fraction."""
    parts = schema["$defs"]
    for section, content in schema["properties"].items():
        reference = content.get("$ref", content.get("allOf", [{}])[0].get("$ref", "")).rpartition("/")[2]
        for name, field in parts.get(reference, {}).get("properties", {}).items():
            kinds = [field, *field.get("anyOf", ())]
            if any(kind.get("type") == "number" for kind in kinds):
                yield f"{section}.{name}"


def _while_training() -> Iterator[Injection]:
    for arm in ("selective", "baseline"):
        words = ("train", arm, "--prepared", "prepared", "-o", "new")
        for name, value in VALUES.items():
            for step in (1, 2, 4):
                for what in ("gradient", "weight", "exp_avg", "exp_avg_sq", "logits"):
                    hook, about = _hook(what, step, value), f"{arm} {what} {step} {name}"
                    matters = step < 4 or not what.startswith("exp")  # moments of the last step are no part of anything
                    yield Injection("training", "step", about, words, while_at_work=hook, strict=matters, code=NUMERIC)
            held_out = (*words, "--set", "train.validation_batches=1")
            hook = _hook("held-out logits", 1, value)
            yield Injection(
                "training", "held-out", f"{arm} held-out {name}", held_out, while_at_work=hook, code=NUMERIC
            )
        # a finite master that its cast makes infinite; in float16 no arm trains
        for dtype, place in (("float16", "in float16"), ("bfloat16", "the final model")):
            put, hook = _prepared_in(dtype), _hook("weight", 4, LARGEST)
            yield Injection("casts", place, f"{arm} {dtype}", (*words, "--set", f"model.dtype={dtype}"), put, hook)


def _prepared_in(dtype: str) -> Callable[[], None]:
    def put() -> None:
        shutil.rmtree("prepared")
        ended = run(("prepare", "--set", f"model.dtype={dtype}"))
        if ended.code != 0:
            raise RuntimeError(ended.err)

    return put


def _hook(what: str, step: int, value: float) -> Callable[[], AbstractContextManager[object]]:
    """Inside the block the number comes up in the training at this step."""

    @contextmanager
    def poisoned() -> Iterator[None]:
        original = FixedBatchTrainer.create_optimizer
        forward = nn.Linear.forward
        trainers: list[FixedBatchTrainer] = []

        def create(trainer: FixedBatchTrainer, *words: object) -> object:
            trainers.append(trainer)
            optimizer = original(trainer, *words)
            after = optimizer.step

            def stepped(*inner: object, **named: object) -> object:
                made = after(*inner, **named)
                if trainer.state.global_step + 1 == step:
                    _poison(trainer, optimizer, what, value)
                return made

            optimizer.step = stepped
            if what == "gradient":
                for parameter in list(trainer.trained.values())[:1]:
                    parameter.register_hook(lambda found: _with(found, value, trainer, step))
            return optimizer

        def linear(module: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
            made = forward(module, inputs)
            if not trainers or module is not trainers[0].model.get_output_embeddings():
                return made
            trains = module.training
            due = trains and what == "logits" and trainers[0].state.global_step + 1 == step
            return made + value * 0 + value if due or (not trains and what == "held-out logits") else made

        with patch.object(FixedBatchTrainer, "create_optimizer", create), patch.object(nn.Linear, "forward", linear):
            yield

    return poisoned


def _with(gradient: torch.Tensor, value: float, trainer: FixedBatchTrainer, step: int) -> torch.Tensor:
    if trainer.state.global_step + 1 != step:
        return gradient
    changed = gradient.clone()
    changed.reshape(-1)[0] = value
    return changed


def _poison(trainer: FixedBatchTrainer, optimizer: torch.optim.Optimizer, what: str, value: float) -> None:
    parameter = next(p for p in trainer.trained.values() if optimizer.state.get(p))
    tensor = parameter.data if what == "weight" else optimizer.state[parameter].get(what)
    if tensor is not None and what in ("weight", "exp_avg", "exp_avg_sq"):
        tensor.reshape(-1)[0] = value


def _while_answering() -> Iterator[Injection]:
    """A model whose router or head says what is no number, in one forward: answering, replaying or for a gradient."""
    prepare: Words = ("prepare", "-o", "new")
    evaluate: Words = ("evaluate", "baseline", *NEW, "--again", "drift", "--again", "generate")
    for name, value in VALUES.items():
        for words, phase, parts in (
            (prepare, "answers", {"head": (1, 3, 12), "router": (1, 9, 40)}),
            (evaluate, "answers", {"head": (1, 3), "router": (1, 9)}),
            (prepare, "replays", {"router": (1, 4, 9)}),
            (evaluate, "replays", {"head": (1, 2), "router": (1, 4, 5)}),
            ((*prepare, "--scores", "gradient"), "gradients", {"head": (1, 3), "router": (1, 4)}),
        ):
            for part, calls in parts.items():
                for call in calls:
                    about = f"{words[0]} {phase} {part} {call} {name}"
                    hook, matters = _forward(phase, part, call, value), name != "-inf"  # a choice that has no chance
                    place = "logits|router's weights|probabilities|gradients"
                    yield Injection("answering", place, about, words, while_at_work=hook, strict=matters, code=NUMERIC)


def _forward(phase: str, part: str, call: int, value: float) -> Callable[[], AbstractContextManager[object]]:
    """Inside the block the number is in what the `call`-th router or head of the phase says of every token."""

    @contextmanager
    def poisoned() -> Iterator[None]:
        original, calls, begun = nn.functional.linear, [0], [phase == "answers"]

        def linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
            made = original(inputs, weight, bias)
            rows = weight.shape[0]
            if begun[0] and ((part == "router" and rows == NUM_EXPERTS) or (part == "head" and rows > SMALLEST_HEAD)):
                calls[0] += 1
                if calls[0] == call:
                    return made.masked_fill(torch.arange(rows) == 0, value)
            return made

        def beginning(function: Callable[..., object]) -> Callable[..., object]:
            def begin(*words: object, **named: object) -> object:
                begun[0] = True
                return function(*words, **named)

            return begin

        with patch.object(nn.functional, "linear", linear):
            if phase == "replays":
                with patch.object(RoutingRecorder, "watch", beginning(RoutingRecorder.watch)):
                    yield
            else:
                measure = beginning(replays.measure_gradient_norms)
                with patch.object(replays, "measure_gradient_norms", measure):
                    yield

    return poisoned


def main() -> None:
    """Print the counts by kind and outcome, and every fault."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--every", type=int, default=1, help="one of so many injections")
    words.add_argument("--only", default="", help="kinds that hold this text")
    words.add_argument("--verbose", action="store_true")
    typed = words.parse_args()
    torch.set_num_threads(1)
    counts: Counter[tuple[str, str]] = Counter()
    began = time.monotonic()
    with experiment() as box:
        for made in outcomes(box, every=typed.every, only=typed.only):
            counts[made.injection.kind, made.outcome] += 1
            if made.outcome in FAULTS or typed.verbose:
                about = (
                    f"{made.outcome}: {made.injection.kind}: {made.injection.about}: {' '.join(made.injection.words)}"
                )
                print(f"{about}\n    {json.dumps(made.text[-600:])}", flush=True)
    kinds = ("works", "refused", *FAULTS)
    print(f"{'place':16} " + " ".join(f"{kind:>9}" for kind in kinds))
    for place in dict.fromkeys(place for place, _ in counts):
        print(f"{place:16} " + " ".join(f"{counts[place, kind]:9}" for kind in kinds))
    print(f"{'all':16} " + " ".join(f"{sum(c for (_, k), c in counts.items() if k == kind):9}" for kind in kinds))
    print(f"{counts.total()} in {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
