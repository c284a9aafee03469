"""A key is in nothing that a command keeps or shows, whatever a server repeats and wherever a person types it.

    python -m tests.studies.secrets [--every 1] [--commands "evaluate judges,prepare answers"]

*Requests*: a server repeats the key in every place of a reply, in every form, to one request for an answer and one for
a verdict, whose outcomes are searched; all of them, always. This is where every command gets the words of a server.

*Replies*: a server repeats the key that it is sent in every place of a reply (`key_replies.py`), in every form
(`tests/coded_keys.py`), from the first request on or from the second, to every command that asks one. `--every 10` is
one in ten of all these. *Mistakes*: a person types the key, or puts it into a file or a variable, where something else
belongs (`key_mistakes.py`); all of them, always.

After each command every file below its directory, which holds the registry, its home and its temporary files too, and
all that it wrote to the terminal are searched for the key in all those forms, and for parts of it. `clean` is a command
that ended without a trace of it; `leaked`, `traceback` and `hang` are faults. Not tried is what nobody can undo: a key
that a server turns around, mixes or cuts into pieces itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, product
from pathlib import Path

from pyarrow import ArrowException, parquet

from moe_cli.config import dump_yaml
from moe_cli.errors import MoeError
from moe_cli.judges.endpoint_judge import EndpointJudge
from moe_cli.judges.judge import Exchange
from moe_cli.judges.rubrics import xstest_rubric
from moe_cli.model.chat_endpoint import ChatEndpoint
from moe_cli.records import Message
from tests.coded_keys import FORMS, KEY, KEY_OF_A_SERVICE, visible
from tests.model.served import Asked, Reply, completion, served
from tests.small_experiment import settings_of_small_experiment
from tests.studies.commands import TRACEBACK, run
from tests.studies.key_mistakes import MISTAKES, Mistake
from tests.studies.key_replies import REPLIES

PATIENCE = 120  # seconds
VARIABLE = "THE_KEY"
ANSWERED = ("--engine", "openai", "--base-url", "URL", "--api-key-env", VARIABLE)
JUDGED = ("--judge", "strongreject", "--judge", "xstest", "--judge-url", "URL", "--judge-model", "m")
COMMANDS = {
    "prepare answers": ("prepare", *ANSWERED, "--keep-all"),
    "prepare refusals": ("prepare", "--refusals", "endpoint", *ANSWERED[2:], "--keep-all"),
    "prepare judges": ("prepare", *JUDGED, "--judge-key-env", VARIABLE, "--keep-all"),
    "evaluate answers": ("evaluate", "tiny", *ANSWERED, "--json"),
    "evaluate judges": ("evaluate", "tiny", *JUDGED, "--judge-key-env", VARIABLE),
    "evaluate judges of answers": ("evaluate", "--answers", "answers.jsonl", *JUDGED, "--judge-key-env", VARIABLE),
}
FAULTS = ("leaked", "traceback", "hang")


@dataclass(frozen=True)
class Surroundings:
    """What is set in the process of a command."""

    variables: Mapping[str, str] = field(default_factory=dict)

    def begin(self, directory: str, notes: str) -> None:
        """Set it, with a home and temporary files below the directory, and an end."""
        os.environ |= {"HOME": directory, "TMPDIR": directory, **self.variables}
        tempfile.tempdir = None
        signal.alarm(PATIENCE)


@dataclass(frozen=True)
class Trial:
    """One command, and what came of it."""

    kind: str  # the command, or "mistake"
    way: str  # "401 text, in capitals, from request 2 on"
    outcome: str  # "clean", or one of FAULTS
    where: str  # of what leaked: "stderr: sk-Zorp0"


def requests(*, every: int = 1) -> Iterator[Trial]:
    """An answer and a verdict for every `every`-th of all places and forms."""
    replied = Reply()
    exchange = Exchange(kind="harmful", messages=(Message(role="user", content="Zorp the glim."),), answer="I zorp it.")
    with served(lambda asked, number: replied) as server:
        endpoint = ChatEndpoint(server.url, "m", KEY, 5.0, 0)
        judge = EndpointJudge(xstest_rubric(), endpoint, max_tokens=9, tries=1, concurrency=1)
        for part, form in list(product(REPLIES, FORMS))[::every]:
            replied = REPLIES[part](FORMS[form](KEY))
            for kind, ask in (
                ("answer", lambda: endpoint.complete(exchange.messages)),
                ("verdict", lambda: judge.verdicts([exchange])),
            ):
                outcome, where = _asked(ask)
                yield Trial(f"request for a{'n' * (kind == 'answer')} {kind}", f"{part}, {form}", outcome, where)


def _asked(ask: Callable[[], object]) -> tuple[str, str]:
    """What came of one request."""
    try:
        text = repr(ask())
    except MoeError as error:
        text = f"{error.message}\n{error.hint}"
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    found = visible(text)
    return ("clean", "") if found is None else ("leaked", f"{found} in {text[:200]}")


def replies(place: Path, commands: tuple[str, ...], *, every: int, first: int = 0) -> Iterator[Trial]:
    """Every `every`-th of all commands, places, forms and first requests."""
    ways = list(product(commands, REPLIES, FORMS, (0, 1)))
    for command, part, form, start in ways[first::every]:
        text = FORMS[form](KEY)

        def reply(asked: Asked, number: int, part: str = part, start: int = start, text: str = text) -> Reply:
            return completion("1_full_compliance") if number < start else REPLIES[part](text)

        with served(reply) as server:
            words = tuple(server.url if word == "URL" else word for word in COMMANDS[command])
            outcome, where = _outcome(place, KEY, words, {VARIABLE: KEY}, {})
        yield Trial(command, f"{part}, {form}, from request {start + 1} on", outcome, where)


def mistakes(place: Path, names: tuple[str, ...] = tuple(MISTAKES)) -> Iterator[Trial]:
    """Every mistake of these names."""
    for name in names:
        made: Mistake = MISTAKES[name]
        with served(lambda asked, number: completion("1_full_compliance")) as server:
            words = tuple(word.replace("URL", server.url) for word in made.words)
            outcome, where = _outcome(place, KEY_OF_A_SERVICE, words, made.variables, made.files)
        yield Trial("mistake", name, outcome, where)


def _outcome(
    place: Path, key: str, words: tuple[str, ...], variables: Mapping[str, str], files: Mapping[str, str]
) -> tuple[str, str]:
    """What came of the command, and the first place with the key in it."""
    directory = place / "run"
    _fill(directory, files)
    try:
        done = run(words, directory, Surroundings(variables))
        texts = {"terminal": done.text} | {
            str(path.relative_to(directory)): _text(path)
            for path in sorted(directory.rglob("*"))
            if path.is_file() and path.name not in files
        }
        names = "\n".join(str(path.relative_to(directory)) for path in directory.rglob("*"))
        leaks = {where: found for where, text in {**texts, "names": names}.items() if (found := visible(text, key))}
    finally:
        shutil.rmtree(directory)
    if done.exit_code == -signal.SIGALRM:
        return "hang", ""
    if leaks:
        return "leaked", ", ".join(f"{where}: {found}" for where, found in leaks.items())
    return ("traceback", done.error) if TRACEBACK in done.text else ("clean", "")


def _fill(directory: Path, files: Mapping[str, str]) -> None:
    settings = settings_of_small_experiment(
        Path(),
        model={"threads": 1},
        prepare={"tiny_pairs": 6, "batch_size": 4, "resamples": 10, "null_draws": 5, "max_new_tokens": 8},
        evaluate={"tiny_items": 1, "max_new_tokens": 8},
        endpoint={"retries": 0, "timeout": 5.0, "model": "m"},
        judge={"retries": 0, "timeout": 5.0},
    )
    (directory / ".moe").mkdir(parents=True)
    (directory / "moe.yaml").write_text(dump_yaml(settings))
    rows = ({"kind": "harmful", "prompt": f"Zorp the glim {n}.", "response": "I zorp it."} for n in range(3))
    (directory / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in files.items():
        (directory / name).write_text(text)


def _text(path: Path) -> str:
    """What a file says; of a table, which is compressed, its values."""
    with suppress(ArrowException):
        if path.suffix == ".parquet":
            return json.dumps(parquet.read_table(path).to_pylist(), default=str, ensure_ascii=False)
    return path.read_bytes().decode(errors="replace")


def main() -> None:
    """Print every fault, and the counts of every kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--commands", default=",".join(("requests", "mistakes", *COMMANDS)))
    asked = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as place:  # the counts so far
        commands = tuple(asked.commands.split(","))
        asked_for = requests() if "requests" in commands else ()
        typed = mistakes(Path(place)) if "mistakes" in commands else ()
        asking = tuple(name for name in commands if name in COMMANDS)
        for trial in chain(asked_for, typed, replies(Path(place), asking, every=asked.every, first=asked.first)):
            counts[trial.kind, trial.outcome] += 1
            if trial.outcome in FAULTS:
                print(f"{trial.kind}: {trial.way}: {trial.outcome}: {trial.where}", flush=True)
    for kind in dict.fromkeys(kind for kind, _ in counts):
        found = ", ".join(f"{counts[kind, outcome]} {outcome}" for outcome in ("clean", *FAULTS))
        print(f"{kind}: {found}")


if __name__ == "__main__":
    main()
