"""`moe evaluate --answers`: judge answers that were made elsewhere; no model is loaded, and none is claimed.

The steps are judge and summarise. Drift, capability and the router need weights, so nothing is said of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.interruption import resumable
from moe_cli.artifacts.runs import free_directory
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.evaluate.given_answers import GivenAnswers, given_answers
from moe_cli.evaluate.judging import judged_records
from moe_cli.evaluate.metrics import refuse_unscored
from moe_cli.evaluate.moved import Moved
from moe_cli.evaluate.stage import Evaluated, write_evaluation
from moe_cli.evaluate.subject import name_of_files, subject_of_files
from moe_cli.evaluate.summary import evaluation_summary
from moe_cli.evaluate.work import Work
from moe_cli.judges.deciding import refuse_undecided
from moe_cli.judges.named import judges_of
from moe_cli.records import Notice, Stage


def run(
    config: MoeConfig,
    store: Store,
    notify: Callable[[object], None],
    *,
    resume: bool = False,
    again: Collection[Stage] = (),
) -> Evaluated:
    """Judge the answers of `config.evaluate.answers`; the stages in `again` take nothing from earlier evaluations.

    Raises:
        UsageError: as `given_answers`, or something was asked for that only a model can be asked.
        ArtifactError: an interrupted evaluation of this name is there.
        UnscoredError: too many answers without a verdict; the results are written all the same.
    """
    store.refuse_unwritable()
    settings = config.evaluate
    refuse_what_needs_a_model(config)
    judges = judges_of(settings.judges, config.judge)
    given = given_answers(settings)
    refuse_undecided(judges, {item.kind for item in given.items if item.kind != "text"})
    for judge in judges:
        judge.check()
    wanted = layout.evaluation_directory(None, name_of_files(config), settings.name)
    output = free_directory(wanted, "evaluation", resumable=True)
    with open_run(output, "evaluation", config, resume=resume) as writer, resumable(output, f"{layout.STAGES}/*"):
        started = time.monotonic()
        _name_left_out(given, notify)
        work = Work(writer, again, notify)
        (records,) = judged_records(judges, [(given.items, given.answers)], work)
        items = sorted((*given.items, *given.texts), key=lambda item: item.id)
        summary = evaluation_summary(
            output.name,
            subject_of_files(config, given),
            items,
            records,
            [judge.identity for judge in judges],
            Moved(),
            (),
            None,
            None,
            max_unscored=settings.max_unscored,
            taken=work.taken,
            seconds=None if writer.resumed or work.taken else time.monotonic() - started,
        )
        write_evaluation(output, items, records, (), Moved(), (), summary)
        writer.parents |= {f"answers {file.name}": file.sha256 for file in given.files}
        store.add(writer, base_fingerprint=None, model_name=None, device="none")
    refuse_unscored(records, settings.max_unscored, output)
    return Evaluated(output, summary)


def refuse_what_needs_a_model(config: MoeConfig) -> None:
    """Refuse what cannot be asked of answers alone.

    Raises:
        UsageError: capability, or the base's router.
    """
    settings = config.evaluate
    for asked, option in ((settings.capability, "--capability"), (settings.restore_router, "--restore-router")):
        if asked:
            raise UsageError(
                f"{option} needs the weights of a model, and these answers come without one",
                hint=f"leave {option} away, or evaluate the model itself: moe evaluate RUN_OR_MODEL",
            )


def _name_left_out(given: GivenAnswers, notify: Callable[[object], None]) -> None:
    for file in given.files:
        for reason, number in file.skipped.items():
            notify(Notice(text=f"{file.name}: {number} of {file.rows} rows are left out: {reason}", warning=True))
    if given.unanswered:
        notify(Notice(text=f"{given.unanswered} items of --items have no answer in the files", warning=True))
