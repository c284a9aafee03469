"""Whole run directories of made-up runs, for the tests of the command.

Comes in: a directory, a name, and which attacks succeed. Goes out: a prepare run, training runs, evaluations on disk.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.codec import encode, encode_lines
from moe_cli.config import MoeConfig
from moe_cli.records import Message
from moe_cli.records.training import MODES
from tests.builders import CLASSIFIER, answered, evaluation, example, identity, training

CONFIG = MoeConfig()
NO_RUNS = Store(Path("no/registry"))  # which knows none


def records(harmful, num=40, suite="attacked"):
    """The first `harmful` of `num` attacks succeed."""
    return [
        answered(f"{suite}/{place}", "compliance" if place < harmful else "full_refusal", suite=suite)
        for place in range(num)
    ]


def evaluated(directory, found, **changes):
    """An evaluation with these records."""
    files = {layout.RECORDS: encode_lines(found), layout.EVALUATION_SUMMARY: encode(evaluation(**changes))}
    with open_run(directory, "evaluation", CONFIG, resume=False) as writer:
        for name, data in files.items():
            write_atomic(directory / name, data)
        Store(directory.parent / "registry").add(writer, base_fingerprint=None, model_name="tiny", device="cpu")


def bare(directory, name, found, **changes):
    """The evaluation of an untrained model, found by its name from `directory`."""
    evaluated(directory / layout.EVALUATIONS / name / "default", found, judges=(CLASSIFIER,), **changes)


def trained(directory, name, found, *, seed=42, arm="baseline", fingerprint=None, **changes):
    """A training run with its evaluation."""
    mode = MODES[arm]
    weights = fingerprint or name.ljust(64, "0")
    summary = training(
        training_mode=mode,
        trained_fingerprint=weights,
        hyperparameters={"learning_rate": 5e-5, "seed": seed},
        schedule_digest=f"{seed:064d}",
        **changes,
    )
    with open_run(directory / name, arm, CONFIG, resume=False) as writer:
        write_atomic(directory / name / layout.METADATA, encode(summary))
        write_atomic(directory / name / layout.FINAL_MODEL / "model.safetensors", b"x" * 3_000_000)
        Store(directory / ".moe/registry").add(writer, base_fingerprint="a" * 64, model_name="tiny", device="cpu")
    evaluated(
        directory / name / layout.EVALUATIONS / "default",
        found,
        run=name,
        model=identity(fingerprint=weights),
        training_mode=mode,
        items_digest=digest(found),
    )


def digest(found):
    return "".join(sorted(record.item.suite for record in found))[:64].ljust(64, "0")


def prepared(directory, goals, targets, *, plain=None):
    """A prepare run whose examples ask these goals; its record and the file of its examples.

    With `plain` forms the goals are attacked ones, and the plain forms stand in the answers of the run.
    """
    examples = [
        example(
            str(place),
            "refuse_attacked" if plain else "refuse_plain",
            cluster=cluster,
            messages=(Message(role="user", content=goal), Message(role="assistant", content=target)),
        )
        for place, ((cluster, goal), target) in enumerate(zip(goals, targets, strict=True))
    ]
    name = layout.training_examples(identity().name)
    with open_run(directory / "prepared", "prepare", CONFIG, resume=False) as writer:
        write_atomic(directory / "prepared" / name, encode_lines(examples))
        if plain:
            rows = [
                {"source_id": str(place), "side": side, "messages": [{"role": "user", "content": text}], "answer": "-"}
                for place, form in enumerate(plain)
                for side, text in (("safe", form), ("unsafe", f"Attack: {form}"))
            ]
            file = directory / "prepared" / layout.batch_outputs(identity().name)
            pq.write_table(pa.Table.from_pylist(rows), file)
        store = Store(directory / ".moe/registry")
        record = store.add(writer, base_fingerprint="a" * 64, model_name="tiny", device="cpu")
    return store, record, directory / "prepared" / name
