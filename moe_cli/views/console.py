"""The two consoles, and the reporter of a running stage.

Tables and data go to stdout, and nothing else does; progress, steps and notices go to stderr. Without a terminal no
line is redrawn. On a terminal an activity of more than two seconds has a line while it runs.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from threading import RLock, Timer
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as ProgressBars
from rich.text import Text

from moe_cli.activity import Activity, listening_to
from moe_cli.characters import escape_unsafe
from moe_cli.views.text import bytes_text, safe_text

TASK_NAMES = {
    "answers": "answering prompts",
    "benign": "answering benign prompts",
    "refusals": "having refusals written",
    "harmless": "answering harmless forms",
    "routing": "counting routing",
    "drift": "measuring drift",
    "conditions": "conditions of the ablation",
    "points": "points of the sweep",
}
SPEED_SECONDS = 600.0  # what the remaining time is estimated from; a batch of answers may take minutes
MIN_WIDTH = 80
SILENCE = 2.0  # seconds that an activity goes on before it has a line


def stdout_console() -> Console:
    """Console for tables and data; never narrower than 80 columns, so that a pipe gets whole tables."""
    console = Console(markup=False, highlight=False, emoji=False)
    console.width = max(console.width, MIN_WIDTH)
    return console


def stderr_console() -> Console:
    """Console for progress and notices."""
    return Console(file=sys.stderr, markup=False, highlight=False, emoji=False)


class CountColumn(MofNCompleteColumn):
    """The progress of a task, or the count of an activity, which is read whenever a line is drawn."""

    def render(self, task: Task) -> Text:
        """Progress as text: `64/384`, or `1.2 GB of 14 GB`."""
        activity: Activity | None = task.fields.get("activity")
        return super().render(task) if activity is None else Text(count_text(activity), style="progress.download")


def count_text(activity: Activity) -> str:
    """How much an activity has done so far; empty if it counts nothing."""
    show = bytes_text if activity.unit == "bytes" else "{:,}".format
    if activity.total is not None:
        return f"{show(activity.done)} of {show(activity.total)}"
    return show(activity.done) if activity.done else ""


class Reporter:
    """Draws the records that a stage passes to it. Inside its block it draws activities, too."""

    def __init__(self, *, tables: bool, silence: float = SILENCE) -> None:
        """`tables` is off with `--json`: then the plan goes to stderr, too."""
        self.talk = stderr_console()
        self.data = stdout_console() if tables else self.talk
        self.bars = ProgressBars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            CountColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[more]}"),
            console=self.talk,
            speed_estimate_period=SPEED_SECONDS,
        )
        self.tasks: dict[str, TaskID] = {}
        self.silence = silence
        self.lines: dict[Activity, tuple[TaskID, Timer]] = {}  # a line is hidden until its timer fires
        self._lock = RLock()  # of `lines`: a timer fires in a thread of its own
        self._block = ExitStack()

    def __enter__(self) -> Reporter:
        self._block.enter_context(listening_to(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.close()
        if self.tasks:
            self.bars.stop()

    def began(self, activity: Activity) -> None:
        """Show a line for the activity, if it does not end soon."""
        if not self.talk.is_terminal:
            return
        timer = Timer(self.silence, self._draw, [activity])
        timer.daemon = True
        with self._lock:
            line = self.bars.add_task(
                escape_unsafe(activity.text), total=None, visible=False, more="", activity=activity
            )
            self.lines[activity] = (line, timer)
        timer.start()

    def ended(self, activity: Activity) -> None:
        """Remove the activity's line."""
        with self._lock:
            if activity in self.lines:
                line, timer = self.lines.pop(activity)
                timer.cancel()
                self.bars.remove_task(line)
                self._clear()

    def _draw(self, activity: Activity) -> None:
        with self._lock:
            if activity in self.lines:
                self.bars.start()
                self.bars.update(self.lines[activity][0], visible=True)

    def _clear(self) -> None:
        """Stop the display if no line is left, without leaving an empty line: tables may follow."""
        if not any(task.visible for task in self.bars.tasks):
            self.bars.live.transient = True
            self.bars.stop()
            self.bars.live.transient = False

    def __call__(self, record: object) -> None:
        # Here, as an error or a help text is shown without any record.
        from moe_cli.records import Notice, Progress, StepRecord, TrainingPlan
        from moe_cli.views.trained import plan_view

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
