"""Journals of the stages of an evaluation, item by item, and reuse of earlier evaluations of the same weights.

A journal is named by a digest of everything that its records depend on (weights, items, settings, judge), never by a
path. So an interrupted evaluation resumes, and results of another checkpoint are never taken. What a complete
evaluation in a neighbouring directory has is checked, taken over as a whole, and reported to the user.

<evaluation>/stages/{answers,verdicts,drift,prompts,weights,capability}-<digest>.jsonl
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from moe_cli.artifacts import FinishedRun, Store, layout
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.journal import Journal, journal_name
from moe_cli.artifacts.registry import require_unchanged_run
from moe_cli.artifacts.run_directory import RunWriter
from moe_cli.codec import decode_lines
from moe_cli.errors import ArtifactError
from moe_cli.ranks import is_first
from moe_cli.records import Notice, Stage
from moe_cli.records.manifest import Notify

Record = TypeVar("Record")

FILE_OF: dict[Stage, str] = {
    "generate": "answers",
    "judge": "verdicts",
    "drift": "drift",
    "capability": "capability",
}


class StageCache:
    """The journals of one evaluation; of several processes the first alone asks for them."""

    def __init__(
        self, writer: RunWriter, again: Collection[Stage], notify: Notify, store: Store, *, reuse: bool = True
    ) -> None:
        """`again` are the stages that reuse nothing of an earlier evaluation; without `reuse` none does."""
        self.path = writer.path / layout.STAGES
        self.taken: dict[str, str] = {}  # "judge keywords" -> evaluation
        self.notify = notify
        self._store = store
        self._parents = writer.parents
        self._again = frozenset(again)
        self._earlier: list[FinishedRun] = []
        if is_first():
            self.path.mkdir(exist_ok=True)
            self._earlier = self._complete_beside(writer.path) if reuse else []

    def journal(
        self,
        stage: Stage,
        label: str,
        record_type: type[Record],
        *whose: object,
        file: str | None = None,
        why: str = "as nothing it depends on changed",
    ) -> Journal[Record]:
        """Journal of one piece of a stage.

        `whose` is everything that its records depend on, `label` names it in messages, `why` says in a message why
        records of an earlier evaluation may be reused.
        """
        name = journal_name(file or FILE_OF[stage], *whose)
        if stage not in self._again and not (self.path / name).is_file():
            self._take(label, name, record_type, why)
        return Journal(self.path / name, record_type)

    def _take(self, label: str, name: str, record_type: type[Record], why: str) -> None:
        file = f"{layout.STAGES}/{name}"
        for earlier in self._earlier:
            if file not in earlier.manifest.files:
                continue
            try:
                path = earlier.file(file)
                for _ in decode_lines(record_type, path):
                    pass  # another content under a digest that fits is not taken over
            except ArtifactError as damaged:
                self.notify(Notice(text=f"{label}: {damaged.message}; nothing of it is taken", warning=True))
                continue
            write_atomic(self.path / name, path.read_bytes())
            self._parents[f"evaluation {earlier.path.name}"] = earlier.digest
            self.taken[label] = earlier.path.name
            text = f"{label}: taken from the evaluation {earlier.path}, {why}"
            self.notify(Notice(text=text))
            return

    def _complete_beside(self, path: Path) -> list[FinishedRun]:
        """Complete evaluations in neighbouring directories, newest first; unreadable ones are reported and skipped."""
        runs = []
        for manifest in path.parent.glob(f"*/{layout.MANIFEST}"):
            if manifest.parent == path:
                continue
            try:
                runs.append(require_unchanged_run(manifest.parent, self._store, "evaluation"))
            except ArtifactError as unreadable:
                self.notify(Notice(text=f"{unreadable.message}; nothing of it is taken", warning=True))
        return sorted(runs, key=lambda run: (run.manifest.finished, run.manifest.id), reverse=True)
