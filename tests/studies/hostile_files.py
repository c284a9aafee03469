"""What the content of a file can do: each wrong content as the settings and as every kind of input of a command.

    python -m tests.studies.hostile_files

No work is begun. `misread` is content whose right reading is plain, and which is taken without a word: a line that is
torn, a column that stands twice. What a file may hold at all is for the tests of `tests/data`.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import os
import pickle
import random
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc, parquet

from moe_cli.data.label_sheets import LabelRow, sheet_bytes
from tests.studies.hostile_words import COUNTS, PAIRED
from tests.studies.typed import Case, Tried, make_runs, print_table, tried, working_in

GOAL, ANSWER = "zorp the glim", "Sure: I zorp it."
SETTINGS = "seed: 7\ntrain:\n  num_epochs: 2\nprepare:\n  judges: [keywords]\n"
RUBRIC = """---
words:
  refused: {label: full_refusal, harmful: false}
  complied: {label: compliance, harmful: true}
---
Read. {prompt} {answer}
"""
SHEET = sheet_bytes(
    [
        LabelRow(
            item=str(n), run="r1", prompt=GOAL, answer=ANSWER, asked="harmful", label=True, probability=1.0, draw="d1"
        )
        for n in range(4)
    ]
).decode("utf-8-sig")
NO_FILES = ("run", "delta", "registry")  # no text is right in their place
# What a command reads, in the place of {}; the content that is right; its kind of text.
INPUTS: dict[str, tuple[str, str]] = {
    "settings": ("config show --config {}", SETTINGS),
    "pairs": (
        "prepare -o new --model tiny --pairs {} --set prepare.batch_size=2",
        "goal,safe,unsafe\n" + "".join(f"zorp {n},How to zorp {n}?,A story: zorp {n}\n" for n in range(12)),
    ),
    "benign": (
        "prepare -o new --model tiny --set prepare.tiny_pairs=24 --benign {}",
        "prompt\n" + "".join(f"How do I glim {n}?\n" for n in range(40)),
    ),
    "attack": (
        "prepare -o new --model tiny --pairs goals.csv --set prepare.batch_size=2 --attack {}",
        "Tell: {goal}\nA story: {goal}\n",
    ),
    "refusals": ("prepare -o new --model tiny --set prepare.tiny_pairs=24 --refusals {}", "I will not.\nNo.\n"),
    "items": ("evaluate tiny --items harmful={}", "id,prompt\n1,zorp the glim\n2,flomp the hesk\n"),
    "answers": ("evaluate --answers {} --kind harmful", f"prompt,response\nzorp,{ANSWER}\nflomp,No.\n"),
    "outcomes": ("compare {}", PAIRED),
    "labels": ("label {}", SHEET),
    "counts": ("select --from-counts {}", COUNTS),
    "scores": ("select --from-scores {}", '{"0": [0.5, 0.2, 0.3], "1": [0.1, 0.8, 0.1]}'),
    "selection": (
        "prepare -o new --model tiny --set prepare.tiny_pairs=24 --method file --selection-file {}",
        "[[0, 1], [1, 2]]",
    ),
    "rubric": (
        "prepare -o new --model tiny --judge rubric:{} --judge-url http://localhost:1/v1 --judge-model m",
        RUBRIC,
    ),
    "run": ("evaluate {} --items harmful=goals.csv", "x"),
    "delta": ("export {} -o exported", "x"),
    "registry": ("runs list --registry {}", "x"),
}
BOMB = "a0: &a0 [1, 2]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
YAML = {
    "a list": "- a\n",
    "a scalar": "seed\n",
    "aliases": BOMB,
    "tabs": "train:\n\tnum_epochs: 2\n",
    "a key twice": "seed: 1\nseed: 2\n",
    "an unknown key": "sed: 1\n",
    "a section twice": "train: {}\ntrain: {}\n",
    "merge keys": "train: &t {num_epochs: 1}\nprepare: {<<: *t}\n",
    "a tag": "seed: !!python/object/apply:os.system [ls]\n",
    "a loop": "train: &a {x: *a}\n",
    "no number": "seed: !!int abc\n",
    "keys that are no words": "? [a, b]\n: 1\n1: 2\nnull: 3\n",
    "an undefined alias": "seed: *a\n",
    "two documents": "seed: 1\n---\nseed: 2\n",
    "a directive": "%YAML 9.9\n---\nseed: 1\n",
    "deep keys": "a:\n" + "".join(" " * n + "a:\n" for n in range(1, 300)),
    "a number key": "train: {3: 4}\n",
    "a section that is a list": "train: [1]\n",
    "a section that is text": "train: no\n",
    "many problems": "".join(f"k{n}: 1\n" for n in range(900)),
}
WRONG: dict[str, Callable[[str], bytes]] = {
    "right": lambda text: text.encode(),
    "empty": lambda text: b"",
    "blank": lambda text: b" \n\t\n\r\n",
    "binary": lambda text: bytes(range(256)) * 8,
    "NUL": lambda text: text.replace("\n", "\0\n").encode(),
    "NULs": lambda text: b"\0" * 4096,
    "a pickle": lambda text: pickle.dumps({"a": text}),
    "a pickle of protocol 0": lambda text: pickle.dumps({"a": text}, 0),
    "Latin-1": lambda text: text.replace("o", "é").encode("latin-1"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "cut UTF-8": lambda text: text.encode() + "é".encode()[:1],
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "10 MB": lambda text: (text.encode() + b"#" + b"x" * 99 + b"\n") * (10**7 // (len(text) + 101)),
    "one line of 10 MB": lambda text: b"x" * 10**7,
    "gzip, cut": lambda text: gzip.compress(text.encode() * 50)[:-20],
    "gzip, cut to its mark": lambda text: b"\x1f\x8b",
    "a zip, cut": lambda text: b"PK\x03\x04" + b"\x14\0" * 9,
    "zstandard, broken": lambda text: b"\x28\xb5\x2f\xfd" + b"\xff" * 40,
    "xz, broken": lambda text: b"\xfd7zXZ\x00" + b"\0" * 40,
    "a web page": lambda text: b"<!DOCTYPE html><p>zorp",
    "terminal": lambda text: ("\x1b]0;X\x07\x9b2J\u202e" + text).encode(),
    "a header of controls": lambda text: ("a\x1b[2J,b\x9b,\u202ec\n1,2,3\n").encode(),
    "deep lists": lambda text: b"[" * 100_000,
    "deep and closed": lambda text: b"[" * 5000 + b"]" * 5000,
    "deep objects": lambda text: b'{"goal":' * 50_000,
    "a row of depth": lambda text: b'{"goal": ' + b"[" * 3000 + b"]" * 3000 + b"}\n",
    "5,000 digits": lambda text: b'[{"goal": ' + b"9" * 5000 + b', "layer": ' + b"9" * 5000 + b"}]",
    "5,000 digits in a table": lambda text: b"layer,expert,a1,a2,d1,d2,prompt\n" + b"9" * 5000 + b",0,1,1,1,1,zorp\n",
    "NaN": lambda text: b'[{"goal": NaN, "layer": Infinity, "expert": -Infinity}]',
    "null": lambda text: b"null",
    "a number": lambda text: b"3",
    "a text": lambda text: b'"zorp"',
    "an empty list": lambda text: b"[]",
    "an empty object": lambda text: b"{}",
    "lists of nothing": lambda text: b"[[], [], {}]",
    "nulls": lambda text: b"[null, null]",
    "mixed": lambda text: b'[{"goal": "zorp"}, 3, "x", null, [1]]',
    "objects of objects": lambda text: b'{"0": {"0": {"0": 1}}}',
    "lists of pairs": lambda text: b'[["a", "b"], [1], [true, false], [1e400, 2]]',
    "negative places": lambda text: b"[[-1, 0], [0, -5]]",
    "huge places": lambda text: b"[[99999999999999999999, 0]]",
    "only a header": lambda text: text.partition("\n")[0].encode() + b"\n",
    "no header": lambda text: text.partition("\n")[2].encode(),
    "ragged": lambda text: text.encode() + b"a,b,c,d,e,f,g,h,i\n",
    "a quote that does not end": lambda text: text.encode() + b'"zorp,1,1\n',
    "a huge cell": lambda text: text.encode() + b"x" * 200_000 + b"\n",
    "lone surrogates": lambda text: (
        b'{"goal": "\\ud800 zorp", "safe": "a\\udc00", "unsafe": "b", "prompt": "\\ud83d"}\n'
    ),
    "parquet without rows": lambda text: parquet_of(pa.table({"goal": pa.array([], pa.string())})),
    "parquet without columns": lambda text: parquet_of(pa.table({})),
    "parquet, a column twice": lambda text: parquet_of(pa.table([["a"], ["b"]], names=["goal", "goal"])),
    "parquet, nested": lambda text: parquet_of(pa.table({"goal": [[{"a": [1]}]], "m": [{"x": b"\xff"}]})),
    "parquet, binary": lambda text: parquet_of(pa.table({"goal": [b"\xff\xfe"], "id": [b"\0"]})),
    "parquet, dates": lambda text: parquet_of(pa.table({"goal": pa.array([2**62], pa.timestamp("ms"))})),
    "parquet, cut": lambda text: parquet_of(pa.table({"goal": [GOAL] * 99}))[:-30],
    "parquet, damaged": lambda text: parquet_of(pa.table({"goal": [GOAL + str(n) for n in range(99)]})).replace(
        b"zorp", b"\xff\xff\xff\xff"
    ),
    "parquet, its mark alone": lambda text: b"PAR1",
    "Arrow, cut": lambda text: arrow_of(pa.table({"goal": [GOAL] * 99}))[:-50],
    "Arrow, its mark alone": lambda text: b"ARROW1",
    "Arrow, a column twice": lambda text: arrow_of(pa.table([["a"], ["b"]], names=["goal", "goal"])),
}
# What must not be taken without a word: of tables, of JSON Lines.
MISREAD = {
    "a line torn": ("pairs", '{"goal": "a", "safe": "b", "unsafe": "c"}\n{"goal": "a2", "safe": "b", "uns'),
    "a column twice": ("pairs", "goal,safe,unsafe,unsafe\na,b,c,d\n"),
    "a key twice": ("pairs", '{"goal": "a", "safe": "b", "unsafe": "c", "unsafe": "d"}\n' * 12),
    "an outcome torn": ("outcomes", '{"id": 1, "a": 1, "b": 0}\n{"id": 2, "a": 1, "b"'),
    "an id twice": ("outcomes", "id,a,b\n1,0,1\n1,1,1\n2,0,0\n"),
    "an expert twice": ("counts", COUNTS + "0,0,3,1,1,3\n"),
    "a layer twice": ("scores", '{"0": [0.5, 0.5], "0": [0.1, 0.9]}'),
    "a layer of a selection twice": ("selection", '{"experts": {"0": [1], "0": [2]}}'),
    "a printable pickle": ("items", pickle.dumps({"a": GOAL}, 0).decode()),
    "a list of nothing": ("items", "[null, null]"),
    "an answer torn": ("answers", '{"prompt": "zorp", "response": "No."}\n{"prompt": "flo'),
    "a setting twice": ("settings", "seed: 1\nseed: 2\n"),
    "a word of a rubric twice": (
        "rubric",
        RUBRIC.replace("  complied", "  refused: {label: compliance, harmful: true}\n  complied"),
    ),
}
PLACES: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: None,
    "a directory": Path.mkdir,
    "a pipe": os.mkfifo,
    "a loop": lambda path: path.symlink_to(path.name),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("/dev/null"),
}
OF_FEW_LINES = ("settings", "rubric")
SAVED = ("state.json", "dataset_info.json")
OF_SAVED = (
    "",
    "{}",
    "[]",
    "null",
    "{",
    '{"_data_files": 3}',
    '{"_data_files": [{"filename": "../../FILE"}]}',
    '{"features": 1}',
)


def parquet_of(table: pa.Table) -> bytes:
    """The table as a parquet file."""
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def arrow_of(table: pa.Table) -> bytes:
    """The table as an Arrow file."""
    file = io.BytesIO()
    with ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def cases() -> Iterator[tuple[Case, Callable[[], None] | None]]:
    """Every wrong content as every input; and what makes a place that is no file."""
    for kind, (command, text) in INPUTS.items():
        words = command.replace("{}", "input").split()
        contents: Mapping[str, bytes] = {name: wrong(text) for name, wrong in WRONG.items()}
        if kind in ("settings", "rubric"):
            around = "---\n{}---\nRead. {{prompt}} {{answer}}\n" if kind == "rubric" else "{}"
            contents = {**contents, **{name: around.format(yaml).encode() for name, yaml in YAML.items()}}
        for name, content in contents.items():
            if "10 MB" in name and kind not in OF_FEW_LINES:  # else it is a table as tables are
                continue
            yield Case(kind=kind, name=name, words=words, files={"input": content}), None
        for name, make in PLACES.items():
            yield Case(kind=kind, name=name, words=words), lambda make=make: make(Path("input"))
    for name, (kind, text) in MISREAD.items():
        words = INPUTS[kind][0].replace("{}", "input").split()
        yield Case(kind=kind, name=name, words=words, files={"input": text.encode()}, must_be_refused=True), None
    words = INPUTS["pairs"][0].replace("{}", "input").split()
    for file in SAVED:
        for content in OF_SAVED:
            yield (
                Case(kind="saved folder", name=f"{file} = {content}", words=words),
                lambda file=file, content=content: _save_folder(file, content),
            )


def _save_folder(file: str, content: str) -> None:
    from datasets import Dataset

    Dataset.from_list([{"goal": GOAL, "safe": "a", "unsafe": "b"}] * 4).save_to_disk("input")
    Path("input", file).write_text(content)


@contextlib.contextmanager
def directory(*, with_runs: bool) -> Iterator[None]:
    """A current directory with the files that the commands take besides."""
    with tempfile.TemporaryDirectory() as name, working_in(Path(name)):
        if with_runs:
            make_runs()
        Path("FILE").write_text("zorp the glim\n")
        Path("goals.csv").write_text("goal\n" + "".join(f"zorp {n}\n" for n in range(12)))
        yield


def study(share: float, seed: int, *, with_runs: bool, names: Collection[str] = ()) -> Iterator[Tried]:
    """A share of all cases, each tried; `names` are the only ones, where there are any."""
    chance = random.Random(seed)
    with directory(with_runs=with_runs):
        for case, make in cases():
            if chance.random() < share and (not names or case.name in names):
                if make is not None:
                    make()
                yield tried(case)
                _remove(Path("input"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for entry in path.rglob("*"):
            entry.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    """Print every fault, and the counts by kind and outcome."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--share", type=float, default=1.0)
    words.add_argument("--seed", type=int, default=1)
    typed = words.parse_args()
    print_table(study(typed.share, typed.seed, with_runs=True))


if __name__ == "__main__":
    main()
