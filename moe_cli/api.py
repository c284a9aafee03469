"""The four commands as functions: the same settings, the same registry, the same files.

Nothing heavy is imported before a function is called. A function reads no environment variable and no config file. What
a command would print as a warning is given to `notify`, or issued as a `UserWarning` if there is none.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_cli.artifacts import Store
    from moe_cli.compare.stage import ComparisonOutput
    from moe_cli.config import MoeConfig
    from moe_cli.evaluate.evaluation_files import EvaluationOutput
    from moe_cli.prepare.stage import PrepareOutput
    from moe_cli.records import Arm, Stage
    from moe_cli.records.manifest import Notify
    from moe_cli.train.stage import TrainOutput

    Settings = MoeConfig | Mapping[str, object]

Place = str | Path
OUTPUTS_OF_ARMS = {  # setting of where each arm writes
    "selective": "train.selective_dir",
    "baseline": "train.baseline_dir",
    "alternating": "alternating.output_dir",
}


def prepare(
    settings: Settings | None = None,
    *,
    output_dir: Place | None = None,
    notify: Notify | None = None,
    resume: bool = False,
) -> PrepareOutput:
    """Find the experts that are more active while the model complies inside attacks, as `moe prepare`.

    `settings` are a `MoeConfig`, or values by the names that `--set` takes: `{"model.name": "tiny"}`. `notify` is given
    records of progress and notices.

    Raises:
        MoeError: whatever a person can fix, with a hint and the exit code of the command.
    """
    config = _config(settings, {"prepare.output_dir": output_dir})
    from moe_cli.prepare import stage

    return stage.run(config, _store(config), notify or _warn, resume=resume)


def train(
    arm: Arm,
    settings: Settings | None = None,
    *,
    output_dir: Place | None = None,
    notify: Notify | None = None,
    resume: bool = False,
) -> TrainOutput:
    """Train one arm, "selective", "baseline" or "alternating", as `moe train`; the rest as in `prepare`."""
    if arm not in OUTPUTS_OF_ARMS:
        raise ValueError(f"{arm!r} is no arm: there are {', '.join(OUTPUTS_OF_ARMS)}")
    config = _config(settings, {OUTPUTS_OF_ARMS[arm]: output_dir})
    from moe_cli.prepare.round_selection import round_selector
    from moe_cli.train import stage

    selector = round_selector(config.alternating.reselect)
    return stage.run(arm, config, _store(config), notify or _warn, resume=resume, reselect=selector)


def evaluate(
    run_or_model: Place,
    settings: Settings | None = None,
    *,
    output_name: str | None = None,
    notify: Notify | None = None,
    resume: bool = False,
    again: Sequence[Stage] = (),
) -> EvaluationOutput:
    """Measure a training run or a model, as `moe evaluate`; it is written beside what it measures, as `output_name`.

    The rest as in `prepare`; the stages in `again` take nothing from earlier evaluations.
    """
    config = _config(settings, {"model.name": str(run_or_model), "evaluate.name": output_name})
    from moe_cli.evaluate import stage

    return stage.run(str(run_or_model), config, _store(config), notify or _warn, resume=resume, again=again)


def compare(
    *runs: Place,
    settings: Settings | None = None,
    against: Sequence[Place] = (),
    base: Place | None = None,
    output_dir: Place | None = None,
    notify: Notify | None = None,
) -> ComparisonOutput:
    """Compare runs on the same items, as `moe compare`: each pair of `runs`, or all of `runs` with all of `against`.

    The rest as in `prepare`. The result holds the conclusion whether a threshold of `compare.fail_if` failed or not.
    """
    config = _config(settings, {"compare.output_dir": output_dir})
    from moe_cli.compare import stage
    from moe_cli.views.compared import compared_markdown
    from moe_cli.views.report.page import report_page

    return stage.run(
        [str(run) for run in runs],
        config,
        _store(config),
        notify or _warn,
        against=[str(run) for run in against],
        base=None if base is None else str(base),
        pages=stage.Pages(markdown=compared_markdown, report=report_page),
    )


def _config(settings: Settings | None, arguments: Mapping[str, object]) -> MoeConfig:
    """The settings with the given arguments.

    Raises:
        UsageError: any problem in any setting; or GPUs are selected, which only a command can do.
    """
    from moe_cli.config import MoeConfig, load_config
    from moe_cli.errors import UsageError

    base = settings.model_dump() if isinstance(settings, MoeConfig) else dict(settings or {})
    changes = {name: value for name, value in arguments.items() if value is not None}
    config = load_config(file=None, environment={}, assignments=(), flags={**base, **changes})
    if config.model.gpu is not None:
        raise UsageError(
            "model.gpu chooses cards before torch is imported, which a running program cannot do",
            hint='set CUDA_VISIBLE_DEVICES before Python starts, or model.device to "cuda:1"',
        )
    return config


def _store(config: MoeConfig) -> Store:
    from moe_cli.artifacts import Store, registry_path

    return Store(registry_path(config.registry, Path.cwd()))


def _warn(record: object) -> None:
    from moe_cli.records import Notice

    if isinstance(record, Notice) and record.warning:
        warnings.warn(record.text, stacklevel=2)
