"""What a checkpoint can do to the program by its files alone: many damages and mutations, each loaded and asked once.

    python -m tests.studies.foreign_checkpoints --mutations 400

Every JSON file of the tiny model is cut, replaced and mutated (a value of another type, a key less, values of great
depth), every chat template below is put in its place, and the weights are stored in other ways. The outcome is `works`,
`refused` (an error with the name of the checkpoint or of its file, and a hint), `nameless`, `traceback` or `hang`; the
last three are faults.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import torch
from safetensors.torch import load_file, save_file

from moe_cli.config import ModelConfig
from moe_cli.errors import MoeError
from moe_cli.model import rendering
from moe_cli.model.chat import encode_answered
from moe_cli.model.load import load_model
from moe_cli.records import Message
from moe_cli.tiny import CHECKPOINT_PATH

PATIENCE = 30  # seconds
FAULTS = ("nameless", "traceback", "hang")
JSON_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
DEEP = "[" * 100_000
CONTENTS = ("", "[]", "{}", "null", "1", '"a"', "{", DEEP, '{"a": ' + "9" * 5000 + "}", "\x80\x04]\x94.", "NaN", "\0")
VALUES: tuple[object, ...] = (
    *(None, True, -1, 0, 3, 10**9, 10**40, 1.5, "abc", "", [], {}, [1], {"a": 1}, float("nan"), float("inf")),
    "kernels-community/flash-attn",
)
ADDED: tuple[tuple[str, object], ...] = (
    *(("attn_implementation", value) for value in ("kernels-community/x", "flash_attention_2", 3, {"": "a/b"}, "no")),
    *(("experts_implementation", value) for value in ("kernels-community/x", "deepgemm", 3)),
    *(("quantization_config", {"quant_method": name}) for name in ("gptq", "awq", "fp8", "bitsandbytes", "no", None)),
    ("quantization_config", []),
    *(("dtype", value) for value in ("bf16", "int8", 3)),
    ("auto_map", {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}),
)
TEMPLATES = (
    *(
        "{{ 1/0 }}",
        "{{ 1 + 'a' }}",
        "{% import 'os' as o %}",
        "",
        "x",
        "{{ nothing.at.all }}",
        "{{ messages[9].role }}",
    ),
    *("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "{{ 'a' * 10**10 }}"),
    *("{{ 'a' * 9999999999 }}", "{{ '%9999999999d' % 1 }}", "{{ '{:>9999999999}'.format(1) }}", "{{ 9**9**9 }}"),
    *("{{ 'x'|center(9999999999) }}", "{{ range(9)|slice(9999999999)|select|list }}", "{{ [[1]]|sum(start=[]) }}"),
    "{% set n = namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=7) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    *("{{ ([range(99999)] * 99999)|map('sum')|list }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{" * 5000),
    *(
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ lipsum(n=99999) }}",
        "{% if %}",
        "{{ raise_exception('no') }}",
    ),
    *("{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ messages[0].content.0.text }}"),
    "{% for m in messages %}{% for part in m.content if part is mapping %}{{ part.text }}{% endfor %}{% endfor %}",
)


def outcome(directory: Path) -> tuple[str, str]:
    """What becomes of opening the checkpoint and asking it once; and what was said."""
    turns = (Message(role="user", content="zorp the glim"), Message(role="assistant", content="no"))

    def late(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        loaded = load_model(ModelConfig(name=str(directory), device="cpu"))
        encode_answered(loaded.tokenizer, turns)
    except MoeError as error:
        named = directory.name in error.message and error.hint and "\n" not in error.message
        return ("refused" if named else "nameless"), error.message
    except KeyboardInterrupt:
        return "hang", ""
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "works", ""


def contents(directory: Path) -> Iterator[str]:
    """Every JSON file in every wrong content, and missing; each yield is one checkpoint to try."""
    for name in JSON_FILES:
        for content in CONTENTS:
            (directory / name).write_text(content)
            yield f"{name}: {content[:20]!r}"
        whole = (CHECKPOINT_PATH / name).read_bytes()
        (directory / name).write_bytes(whole[: len(whole) // 2])
        yield f"{name}: cut"
        (directory / name).unlink()
        yield f"{name}: missing"
        shutil.copy(CHECKPOINT_PATH / name, directory / name)


def mutations(directory: Path, number: int, seed: int) -> Iterator[str]:
    """Values of other types at random places of the JSON files."""
    chance = random.Random(seed)
    for _ in range(number):
        name = chance.choice(JSON_FILES)
        tree = json.loads((CHECKPOINT_PATH / name).read_text())
        place, holder, key = _place_in(tree, chance)
        if chance.random() < 0.2:
            del holder[key]
            what = "removed"
        else:
            holder[key] = chance.choice(VALUES)
            what = repr(holder[key])
        (directory / name).write_text(json.dumps(tree))
        yield f"{name}: {place} = {what}"
        shutil.copy(CHECKPOINT_PATH / name, directory / name)


def _place_in(tree: object, chance: random.Random) -> tuple[str, dict | list, object]:
    path: list[str] = []
    while True:
        key = chance.choice(list(tree)) if isinstance(tree, dict) else chance.randrange(len(tree))
        path.append(str(key))
        below = tree[key]
        if not isinstance(below, (dict, list)) or not below or chance.random() < 0.3:
            return ".".join(path), tree, key
        tree = below


def additions(directory: Path) -> Iterator[str]:
    """Keys of a config that ask for kernels, packages, other types or code."""
    for key, value in ADDED:
        tree = json.loads((CHECKPOINT_PATH / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**tree, key: value}))
        yield f"config.json: {key} = {value!r}"
    shutil.copy(CHECKPOINT_PATH / "config.json", directory / "config.json")


def templates(directory: Path) -> Iterator[str]:
    """Programs in the place of the chat template."""
    file = directory / "chat_template.jinja"
    for template in TEMPLATES:
        file.write_text(template)
        yield f"template: {template[:60]}"
    shutil.copy(CHECKPOINT_PATH / file.name, file)


def weights(directory: Path) -> Iterator[str]:
    """Weights that are cut, of whole numbers, of other shapes, under other names, or not there."""
    file = directory / "model.safetensors"
    tensors = load_file(file)
    first = sorted(tensors)[0]
    changes: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "int8": lambda tensor: (tensor * 100).to(torch.int8),
        "another shape": lambda tensor: tensor[..., :1].contiguous(),
        "no rows": lambda tensor: tensor[:0].contiguous(),
    }
    for what, change in changes.items():
        save_file({**tensors, first: change(tensors[first])}, file)
        yield f"weights: {what}"
    save_file({**{name: tensor for name, tensor in tensors.items() if name != first}, "other": tensors[first]}, file)
    yield "weights: another name"
    for what, content in (("cut", file.read_bytes()[:1000]), ("empty", b""), ("header", b"\xff" * 100)):
        file.write_bytes(content)
        yield f"weights: {what}"
    file.unlink()
    for content in ("{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "../x.safetensors"}}', "{"):
        (directory / "model.safetensors.index.json").write_text(content)
        yield f"weights: index {content}"


def study(number: int, seed: int = 0, seconds: float = 1.0) -> Iterator[tuple[str, str, str, str]]:
    """(kind, case, outcome, what was said) of every case; `seconds`: the time that a template gets."""
    rendering.MOST_SECONDS = seconds
    kinds: dict[str, Callable[[Path], Iterator[str]]] = {
        "content": contents,
        "mutation": lambda directory: mutations(directory, number, seed),
        "addition": additions,
        "template": templates,
        "weights": weights,
    }
    for kind, cases in kinds.items():
        with tempfile.TemporaryDirectory() as place:
            directory = Path(place) / "stranger"
            shutil.copytree(CHECKPOINT_PATH, directory)
            for case in cases(directory):
                yield kind, case, *outcome(directory)


def main() -> None:
    """Print the counts by kind and outcome, and every fault."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--mutations", type=int, default=400)
    words.add_argument("--verbose", action="store_true")
    typed = words.parse_args()
    found: Counter[tuple[str, str]] = Counter()
    for kind, case, what, said in study(typed.mutations):
        found[kind, what] += 1
        if what in FAULTS or typed.verbose:
            print(f"{what}: {case}: {said[:200]}", flush=True)
    print(f"{'kind':10} {'works':>7} {'refused':>8} " + " ".join(f"{fault:>9}" for fault in FAULTS))
    for kind in dict.fromkeys(kind for kind, _ in found):
        counts = [found[kind, what] for what in ("works", "refused", *FAULTS)]
        print(f"{kind:10} {counts[0]:7} {counts[1]:8} " + " ".join(f"{count:9}" for count in counts[2:]))


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
