"""`moe evaluate --answers`: judge answers that were made elsewhere, without loading a model.

The steps are judge and summarise. Drift, capability and the router test need weights, so they are left out.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.journal import resumable
from moe_cli.artifacts.run_directory import free_directory
from moe_cli.config import MoeConfig
from moe_cli.evaluate.cache import StageCache
from moe_cli.evaluate.evaluation_files import EvaluationOutput, judge_without_weights
from moe_cli.evaluate.evaluation_items import notices_of_repeats
from moe_cli.evaluate.given_answers import GivenAnswers, read_given_answers
from moe_cli.evaluate.preview import refuse_what_needs_weights
from moe_cli.evaluate.subject import NO_MODEL, name_of_files, subject_of_files
from moe_cli.evaluate.suite_rates import refuse_unscored
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.deciding import refuse_undecided
from moe_cli.records import Notice, Stage
from moe_cli.records.manifest import Notify


def run(
    config: MoeConfig,
    store: Store,
    notify: Notify,
    *,
    resume: bool = False,
    again: Collection[Stage] = (),
) -> EvaluationOutput:
    """Judge the answers of `config.evaluate.answers`; stages in `again` reuse nothing from earlier evaluations.

    Raises:
        UsageError: as `read_given_answers`, or something was asked for that needs a model.
        ArtifactError: an interrupted evaluation of this name is there.
        UnscoredError: too many answers without a verdict; the results are written all the same.
    """
    store.refuse_unwritable()
    settings = config.evaluate
    refuse_what_needs_weights(settings, NO_MODEL)
    judges = judges_of(settings.judges, config.judge)
    given_answers = read_given_answers(settings)
    for notice in notices_of_repeats(given_answers.items):
        notify(notice)
    refuse_undecided(judges, {item.kind for item in given_answers.items if item.kind != "text"})
    for judge in judges:
        judge.check()
    directory = layout.evaluation_directory(None, name_of_files(config), settings.name)
    output = free_directory(directory, "evaluation", config if resume else None)
    with open_run(output, "evaluation", config, resume=resume) as writer, resumable(output, f"{layout.STAGES}/*"):
        started = time.monotonic()
        _name_left_out(given_answers, notify)
        work = StageCache(writer, again, notify, store)
        summary, records = judge_without_weights(
            writer,
            subject_of_files(config, given_answers),
            sorted((*given_answers.items, *given_answers.texts), key=lambda item: item.id),
            given_answers.answers,
            judges,
            work,
            settings=settings,
            trained=None,
            started=started,
        )
        writer.parents |= {f"answers {file.name}": file.sha256 for file in given_answers.files}
        store.add(writer, base_fingerprint=None, model_name=None, device="none")
    refuse_unscored(records, settings.max_unscored, output)
    return EvaluationOutput(output, summary)


def _name_left_out(given: GivenAnswers, notify: Notify) -> None:
    for file in given.files:
        for reason, number in file.skipped.items():
            notify(Notice(text=f"{file.name}: {number} of {file.rows} rows are left out: {reason}", warning=True))
    if given.unanswered:
        notify(Notice(text=f"{given.unanswered} items of --items have no answer in the files", warning=True))
