"""The model of a prepare run and its answers to pairs and benign prompts, each kind with its own token limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.config import ModelConfig, MoeConfig
from moe_cli.errors import ArtifactError
from moe_cli.model.answering import answer_all, kept_answers
from moe_cli.model.chat_endpoint import ChatEndpoint
from moe_cli.model.engine import Engine, Prompt
from moe_cli.model.engines import EngineOf
from moe_cli.model.load import LoadedModel, load_model
from moe_cli.model.memory import free_memory
from moe_cli.prepare.filtering import BENIGN_OPTION, Question
from moe_cli.records import AnswerSettings, Generation, Notice
from moe_cli.records.manifest import Notify

BENIGN_ADVICE = (
    "they are left out; raise " + BENIGN_OPTION + ": Ctrl-C, then --resume with it keeps the answers that have ended"
)


class ModelHolder:
    """The model in memory; `release` frees it, and the next use loads it again."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._loaded: LoadedModel | None = load_model(config)
        self.identity = self._loaded.identity

    def loaded(self) -> LoadedModel:
        """The model; loaded again after a release.

        Raises:
            ArtifactError: its weights or its tokenizer changed since they were loaded first.
            MoeError: as `load_model`.
        """
        if self._loaded is None:
            self._loaded = load_model(self._config)
            if self._loaded.identity != self.identity:
                raise ArtifactError(
                    f"the model {self._config.name} changed while its answers were judged",
                    hint="leave the model as it is until the run is complete, or name a revision; then --resume",
                )
        return self._loaded

    def release(self) -> None:
        """Free the memory."""
        self._loaded = None
        free_memory()


@dataclass(frozen=True, slots=True)
class Answers:
    """The model's answers to all questions."""

    by_id: dict[str, Generation]
    settings: AnswerSettings  # of the forms of the pairs; those of benign prompts differ in the limit alone
    num_kept: int  # taken over from another limit


def answer_prompts(
    questions: Sequence[Question],
    config: MoeConfig,
    engine_of: EngineOf,
    loaded: LoadedModel,
    endpoint: ChatEndpoint | None,
    notify: Notify,
) -> Answers:
    """Answer all questions: benign prompts first, as those whose answer is cut off are lost.

    Raises:
        MoeError: as the engine.
    """
    output = config.prepare.output_dir
    of_forms, of_benign = engine_of(config, loaded, endpoint), engine_of(_for_benign(config), loaded, endpoint)
    benign = [Prompt(question.id, question.messages) for question in questions if question.side == "benign"]
    forms = [Prompt(question.id, question.messages) for question in questions if question.side != "benign"]
    answers: dict[str, Generation] = {}
    num_kept = 0
    if benign:
        kept = _kept(of_benign, benign, output, notify)
        progress = {"task": "benign", "advice": BENIGN_ADVICE}
        answers |= answer_all(of_benign, benign, output, notify=notify, kept=kept, **progress)
        num_kept += len(kept)
    kept = _kept(of_forms, forms, output, notify)
    answers |= answer_all(of_forms, forms, output, notify=notify, kept=kept)
    return Answers(answers, of_forms.settings, num_kept + len(kept))


def _kept(engine: Engine, prompts: Sequence[Prompt], run: Path, notify: Notify) -> dict[str, Generation]:
    kept = kept_answers(engine, prompts, run)
    if kept:
        limit = engine.settings.max_new_tokens
        notify(
            Notice(
                text=f"{len(kept)} of {len(prompts)} answers had ended within another token limit and are kept; "
                f"{len(prompts) - len(kept)} are made with at most {limit} tokens"
            )
        )
    return kept


def _for_benign(config: MoeConfig) -> MoeConfig:
    """The same settings with the limit of benign prompts."""
    limit = {"max_new_tokens": config.prepare.benign_limit}
    return config.model_copy(update={"prepare": config.prepare.model_copy(update=limit)})
