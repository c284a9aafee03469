"""`moe evaluate` without a loaded model: an endpoint answers (`--engine openai`), or files hold answers (`--answers`).

The answers are judged and summarised. Drift, capability and the router test need weights, so they are left out. Which
weights an endpoint serves cannot be checked: the summary holds the run or model that the user named and the endpoint's
address and model name, but no fingerprint. Of answers from files neither weights nor settings are known.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.journal import resumable
from moe_cli.artifacts.run_directory import free_directory
from moe_cli.config import MoeConfig
from moe_cli.data.source_names import kind_and_source, source_of
from moe_cli.evaluate.cache import StageCache
from moe_cli.evaluate.evaluation_files import EvaluationOutput, Subject, judge_without_weights
from moe_cli.evaluate.evaluation_items import load_items, notices_of_repeats
from moe_cli.evaluate.given_answers import GivenAnswers, read_given_answers
from moe_cli.evaluate.preview import NO_MODEL, NOT_HERE, refuse_what_needs_weights
from moe_cli.evaluate.suite_rates import refuse_unscored
from moe_cli.evaluate.target import EvaluationTarget, count_trained_goals, resolve_target
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.deciding import refuse_undecided
from moe_cli.model.chat_endpoint import ChatEndpoint, Completion, chat_endpoint
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import request_completions
from moe_cli.records import AnswerServer, AnswerSettings, EvaluationItem, Notice, Progress, ServedAnswer, Stage
from moe_cli.records.manifest import Notify
from moe_cli.records.training import IMPORTED

UNCHECKED = (
    "as endpoint, model name and settings are the same; that the weights are is not known (--again generate asks anew)"
)


def evaluate_served(
    target_name: str,
    config: MoeConfig,
    store: Store,
    notify: Notify,
    *,
    resume: bool = False,
    again: Collection[Stage] = (),
) -> EvaluationOutput:
    """Evaluate what the endpoint serves under the name of the run or model that `target_name` names.

    Raises:
        UsageError: no items, an endpoint that is not named or refuses, or something that needs weights.
        ArtifactError: an interrupted evaluation of this name is there.
        EnvironmentFaultError: the endpoint cannot be reached or keeps failing.
        UnscoredError: too many answers without a verdict; the results are written all the same.
    """
    store.refuse_unwritable()
    settings = config.evaluate
    refuse_what_needs_weights(settings, NOT_HERE)
    judges = judges_of(settings.judges, config.judge)
    target = resolve_target(target_name, config.model, store, loads=False)
    endpoint = chat_endpoint(config.endpoint, target.model.name)
    items = load_items(settings, target.base_name)
    for notice in notices_of_repeats(items):
        notify(notice)
    to_answer = [item for item in items if item.kind != "text"]
    refuse_undecided(judges, {item.kind for item in to_answer if item.kind != "text"})
    for judge in judges:
        judge.check()
    directory = layout.evaluation_directory(target.run.path if target.run else None, target_name, settings.name)
    output = free_directory(directory, "evaluation", config if resume else None)
    with open_run(output, "evaluation", config, resume=resume) as writer, resumable(output, f"{layout.STAGES}/*"):
        started = time.monotonic()
        work = StageCache(writer, again, notify, store)
        answering = served_answer_settings(config, endpoint)
        answers = _answers(endpoint, answering, config.endpoint.concurrency, to_answer, work)
        summary, records = judge_without_weights(
            writer,
            _subject_of_endpoint(target_name, target, answering, endpoint, settings.epochs),
            items,
            answers,
            judges,
            work,
            settings=settings,
            trained=count_trained_goals(target, to_answer, store, notify),
            started=started,
        )
        if target.run is not None:
            writer.parents["run"] = target.run.digest
        store.add(writer, base_fingerprint=None, model_name=target.base_name, device="none")
    refuse_unscored(records, settings.max_unscored, output)
    return EvaluationOutput(output, summary)


def served_answer_settings(config: MoeConfig, endpoint: ChatEndpoint) -> AnswerSettings:
    """The known settings of the endpoint's answers."""
    settings, sampling = config.evaluate, config.evaluate.temperature > 0
    return AnswerSettings(
        engine="openai",
        base_url=endpoint.url,
        api_model=endpoint.model,
        decoding="sampling" if sampling else "greedy",
        temperature=settings.temperature,
        top_p=settings.sampling_top_p if sampling else 1.0,
        seed=config.seed if sampling else None,
        max_new_tokens=settings.max_new_tokens,
        batch_size=None,
        batch_tokens=None,
        answer_ids="retokenised",
    )


def _answers(
    endpoint: ChatEndpoint,
    settings: AnswerSettings,
    concurrency: int,
    items: Sequence[EvaluationItem],
    work: StageCache,
) -> dict[str, ServedAnswer]:
    prompts = tuple(Prompt(item.id, item.messages) for item in items)
    journal = work.journal("generate", "generate", ServedAnswer, "endpoint", prompts, settings, why=UNCHECKED)
    done = {answer.prompt_id: answer for answer in journal.records()}
    work.notify(Progress(task="answers", done=len(done), total=len(prompts)))
    for group in request_completions(endpoint, settings, concurrency, prompts, tuple(done)):
        answers = [_served_answer(prompt, completion) for prompt, completion in group]
        journal.append(answers)
        done |= {answer.prompt_id: answer for answer in answers}
        work.notify(Progress(task="answers", done=len(done), total=len(prompts)))
    return done


def _served_answer(prompt: Prompt, completion: Completion) -> ServedAnswer:
    return ServedAnswer(
        prompt_id=prompt.id,
        text=completion.text,
        finished=completion.finished,
        num_tokens=completion.num_tokens,
    )


def _subject_of_endpoint(
    target_name: str, target: EvaluationTarget, answering: AnswerSettings, endpoint: ChatEndpoint, epochs: int
) -> Subject:
    """Subject with the requested settings only; others are unknown."""
    return Subject(
        model=None,
        run=target.run.path if target.run else None,
        training_mode=target.training_mode,
        base=None,
        epochs=epochs,
        generation={
            "decoding": answering.decoding,
            "temperature": answering.temperature,
            "top_p": answering.top_p,
            "seed": answering.seed,
            "max_new_tokens": answering.max_new_tokens,
        },
        name=target_name,
        server=AnswerServer(url=endpoint.url, model=endpoint.model),
    )


def evaluate_answers(
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


def subject_of_files(config: MoeConfig, given: GivenAnswers) -> Subject:
    """Subject of answers from files: neither weights nor settings are known."""
    return Subject(
        model=None,
        run=None,
        training_mode=IMPORTED,
        base=None,
        epochs=given.epochs,
        name=name_of_files(config),
        answer_files=given.files,
        unanswered=given.unanswered,
    )


def name_of_files(config: MoeConfig) -> str:
    """Name after the answer files, such as `completions`; `moe compare` finds the evaluation under it."""
    names = [Path(source_of(kind_and_source(argument)[1]).place).stem for argument in config.evaluate.answers]
    return layout.file_stem("+".join(names))
