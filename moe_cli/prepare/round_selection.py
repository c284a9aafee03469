"""How the experts of the rounds of a training are selected anew on the model as trained so far, and by what.

`replay`: the prepare run's answers go through the model, and its rule is applied to the new counts
(`replayed_selection.py`). `gradient`: as `replay`, but experts are ranked by the gradients of the refusals. Batches and
budget are always those of the prepare run.

`answers`: the model as it is now answers both forms of the batched pairs again, and what the filters of the prepare run
keep is counted. Judges, token limit, decoding and filters are those of the prepare run, and so are the batches: pairs
that the filters drop choose no experts, and their examples train all the same. A batch of which no pair is left selects
by all that are left. With fewer pairs than one batch touches nothing is selected. The answers are kept nowhere: after a
stop they are made again, and greedy ones, or sampled ones of the same seed, are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from moe_cli.artifacts import FinishedRun, layout
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.judges.catalog import judges_of
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import answering_engine
from moe_cli.model.load import LoadedModel
from moe_cli.prepare.filtering import (
    Jury,
    answered_prompts,
    drop_reasons,
    exchanges_of,
    jury_of,
    questions_of,
    refuse_unable,
    verdicts_on,
)
from moe_cli.prepare.replayed_selection import (
    batched_pairs,
    gradient_selection,
    refuse_fixed_selection,
    refuse_no_budget,
    replayed_selection,
    routing_of,
    select_within_budget,
    settings_of,
)
from moe_cli.records import (
    AnsweredPrompt,
    Expert,
    Generation,
    PrepareSummary,
    Progress,
    PromptPair,
    RoundSelection,
    Selection,
)
from moe_cli.records.manifest import Notify
from moe_cli.records.training import Reselection
from moe_cli.rounds import alone

Select = Callable[[LoadedModel, FinishedRun, Collection[Expert], Notify], RoundSelection]


def refuse_other_filters(prepared: FinishedRun) -> None:
    """Refuse a prepare run that other judges filtered than those there are now, or whose rule pairs do not decide.

    Raises:
        UsageError: as `refuse_fixed_selection`; or a judge is not there, or not the one that the prepare run had.
    """
    refuse_fixed_selection(prepared)
    _jury(prepared, settings_of(prepared))


def answered_selection(
    loaded: LoadedModel, prepared: FinishedRun, trained: Collection[Expert], notify: Notify
) -> RoundSelection:
    """The experts of every batch by the answers of `loaded` as it is now; `trained` are those of earlier rounds.

    Several processes call it at once and share out the answers and the replays; the first asks the judges.

    Raises:
        UsageError: as `refuse_other_filters`, or the filters leave fewer pairs than one batch touches.
        ArtifactError: a file of the prepare run is damaged.
    """
    config, before = settings_of(prepared), prepared.record(layout.SELECTION, Selection)
    batches = batched_pairs(prepared)
    pairs = [pair for batch in batches for pair in batch]
    answers = _answers(config, loaded, pairs, notify)
    kept = alone(lambda: _kept_pairs(config, prepared, pairs, answers, len(batches[0]), notify))
    left = [pair for pair in pairs if pair.id in kept]
    place = {pair.id: index for index, pair in enumerate(left)}
    everyone = range(len(left))
    of_batches = [[place[pair.id] for pair in batch if pair.id in kept] or everyone for batch in batches]
    counts = routing_of(config, loaded, left, answers, notify)
    return alone(lambda: select_within_budget(config, before, counts, of_batches, trained))


def _answers(
    config: MoeConfig, loaded: LoadedModel, pairs: Sequence[PromptPair], notify: Notify
) -> dict[str, Generation]:
    """The model's own answers to both forms of the pairs, whatever answered for the prepare run; the first has all."""
    prompts = [Prompt(question.id, question.messages) for question in questions_of(pairs, ())]
    answers: dict[str, Generation] = {}
    for group in answering_engine(config, loaded, None).answers(prompts):
        answers |= {answer.prompt_id: answer for answer in group}
        notify(Progress(task="answers", done=len(answers), total=len(prompts)))
    return alone(lambda: answers)


def _kept_pairs(
    config: MoeConfig,
    prepared: FinishedRun,
    pairs: Sequence[PromptPair],
    answers: Mapping[str, Generation],
    of_batch: int,
    notify: Notify,
) -> set[str]:
    """Ids of the pairs that the filters keep.

    Raises:
        UsageError: fewer than one batch touches.
    """
    jury, questions = _jury(prepared, config), questions_of(pairs, ())
    with TemporaryDirectory() as journals:
        verdicts = verdicts_on(exchanges_of(questions, answers), jury, Path(journals), notify)
    rows = answered_prompts(questions, answers, verdicts, by_harm=jury.by_harm, keep_all=config.prepare.keep_all)
    kept = {row.source_id for row in rows if row.kept}
    if len(kept) < of_batch:
        _refuse_too_few(len(kept), len(pairs), of_batch, rows)
    return kept


def _refuse_too_few(num_left: int, num_pairs: int, of_batch: int, rows: Sequence[AnsweredPrompt]) -> None:
    dropped = "".join(f"\n  - {number} dropped: {reason}" for reason, number in drop_reasons(rows).items())
    raise UsageError(
        f"answered anew, {num_left} of {num_pairs} pairs are left, and one batch touches {of_batch}: too few to select "
        f"experts by{dropped}",
        hint="the state before this round is saved: --resume --reselect none goes on with the experts of the last "
        "round, --resume --reselect replay selects without new answers",
    )


def _jury(prepared: FinishedRun, config: MoeConfig) -> Jury:
    """The judges of the prepare run.

    Raises:
        UsageError: one is not there, or is another one by now.
    """
    judges = judges_of(config.prepare.judges, config.judge)
    refuse_unable(judges)
    jury = jury_of(judges)
    recorded = tuple(side.judge for side in prepared.record(layout.PREPARE_SUMMARY, PrepareSummary).judges)
    if recorded != jury.identities:
        changed = [judge.name for judge in jury.identities if judge not in recorded]
        raise UsageError(
            f"the judges of {prepared.path} are other ones by now ({', '.join(changed)}), so their filter is, too",
            hint="train with --reselect replay, which asks no judge, or prepare again",
        )
    return jury


@dataclass(frozen=True, slots=True)
class RoundSelector:
    """What a training selects its experts anew with."""

    refuse: Callable[[FinishedRun], None]  # a prepare run whose selection cannot be made anew in this way
    select: Select  # for the model as it is; also given the experts of earlier rounds


SELECTORS: Mapping[Reselection, RoundSelector] = {
    "replay": RoundSelector(refuse_fixed_selection, replayed_selection),
    "answers": RoundSelector(refuse_other_filters, answered_selection),
    "gradient": RoundSelector(refuse_no_budget, gradient_selection),
}


def round_selector(way: Reselection) -> RoundSelector | None:
    """What selects anew in this way; None where nothing is selected anew."""
    return SELECTORS.get(way)
