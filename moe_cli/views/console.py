"""The two consoles and the reporter of a running stage.

Comes in: records that a stage hands to `notify`. Goes out: progress, steps and notices on stderr; tables and data on
stdout. Always holds: stdout carries data only; without a terminal no line is redrawn.
"""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBars

from moe_cli.records import Notice, Progress, StepRecord, TrainingPlan
from moe_cli.views.safe import safe_text
from moe_cli.views.training import plan_view

TASK_NAMES = {
    "answers": "answering prompts",
    "benign": "answering benign prompts",
    "refusals": "having refusals written",
    "routing": "counting routing",
    "drift": "measuring drift",
}
SPEED_SECONDS = 600.0  # what the remaining time is estimated from; a batch of answers may take minutes
MIN_WIDTH = 80


def stdout_console() -> Console:
    """For tables and data; never narrower than 80 columns, so that a pipe gets whole tables."""
    console = Console(markup=False, highlight=False, emoji=False)
    console.width = max(console.width, MIN_WIDTH)
    return console


def stderr_console() -> Console:
    """For talk."""
    return Console(file=sys.stderr, markup=False, highlight=False, emoji=False)


class Reporter:
    """Draws what a stage notifies; call it with a record."""

    def __init__(self, *, tables: bool) -> None:
        """`tables` is off with `--json`: then the plan goes to stderr, too."""
        self.talk = stderr_console()
        self.data = stdout_console() if tables else self.talk
        self.bars = ProgressBars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[more]}"),
            console=self.talk,
            speed_estimate_period=SPEED_SECONDS,
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.tasks:
            self.bars.stop()

    def __call__(self, record: object) -> None:
        match record:
            case Progress(task=task, done=done, total=total, tokens_per_second=speed, num_cut_off=cut_off):
                shown = ("" if speed is None else f"{speed:,.0f} tokens/s", f"{cut_off} cut off" if cut_off else "")
                self._bar(TASK_NAMES.get(task, task), done, total, more=", ".join(filter(None, shown)))
            case TrainingPlan():
                self.show(record_view=plan_view(record))
                self._bar("training steps", record.first_step - 1, record.num_steps)
            case StepRecord(step=step, loss=loss):
                self._bar("training steps", step, None, more=f"loss {loss:.3f}")
            case Notice(text=text, warning=warning):
                self.talk.print(safe_text(f"warning: {text}" if warning else text, style="yellow" if warning else ""))
            case _:
                raise TypeError(f"no view for {type(record).__name__}")

    def show(self, record_view: RenderableType) -> None:
        """Print a table while bars may be running."""
        self.data.print(record_view)

    def _bar(self, name: str, done: int, total: int | None, *, more: str = "") -> None:
        if not self.tasks:
            self.bars.start()
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=total, more=more)
        self.bars.update(self.tasks[name], completed=done, total=total, more=more)
