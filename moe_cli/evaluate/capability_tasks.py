"""Tasks of lm-eval, found by name; imported only where lm-eval is installed.

An unknown name is refused with the nearest known ones; a definition in the user's directory comes before lm-eval's own;
code that a model writes is never run.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lm_eval.tasks import TaskManager

from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.spelling import nearest

KNOWN = ("arc_easy", "hellaswag", "mmlu")  # where no name is near

Loaded = dict[str, dict[str, object]]


class TaskSet(TaskManager):
    """Task manager whose errors tell the user what to fix."""

    def load(self, task_list: object) -> Loaded:
        """Load tasks as lm-eval does.

        Raises:
            EnvironmentFaultError: a package or the data of a task is missing.
            UsageError: a task runs what the model writes.
        """
        names = ", ".join(map(str, task_list)) if isinstance(task_list, list) else str(task_list)
        try:
            loaded: Loaded = super().load(task_list)
        except ImportError as error:
            raise EnvironmentFaultError(
                f"the task {names} needs more than lm-eval: {error}", hint="install the package that it names"
            ) from error
        except OSError as error:
            raise EnvironmentFaultError(
                f"the data of the task {names} cannot be loaded: {error}",
                hint="let the machine reach the hub once (HF_HUB_OFFLINE=0), or name a directory of tasks with local "
                "data: --capability-tasks",
            ) from error
        _refuse_code(loaded)
        return loaded


def make_task_manager(task: str, include_path: Path | None) -> TaskManager:
    """A manager that knows the task; lm-eval's many definitions are read only if the directory lacks it.

    Raises:
        UsageError: no such directory, or no such task.
    """
    if include_path is not None:
        if not include_path.is_dir():
            raise UsageError(f"{include_path} is no directory of task definitions", hint="check --capability-tasks")
        own = TaskSet(include_path=str(include_path), include_defaults=False)
        if task in own.all_tasks:
            return own
    every = _every(None if include_path is None else str(include_path))
    if task not in every.all_tasks:
        near = nearest(task, every.all_tasks, num=5) or KNOWN
        raise UsageError(f"lm-eval has no task {task}", hint=f"did you mean one of: {', '.join(near)}")
    return every


@cache
def _every(include_path: str | None) -> TaskManager:
    """Manager of all definitions; reading lm-eval's thousands takes seconds."""
    return TaskSet(include_path=include_path)


def _refuse_code(loaded: Loaded) -> None:
    unsafe = sorted(name for name, task in loaded["tasks"].items() if getattr(task, "UNSAFE_CODE", False))
    if unsafe:
        raise UsageError(f"{', '.join(unsafe)} would run code that the model writes", hint="choose another task")
