"""A published classifier as a judge, loaded with transformers.

The output is greedy, without sampling. No code of the checkpoint is run. Judged text cannot contain the marks of the
prompt or a special token. A prompt that is longer than the classifier reads is unscored, never cut.

Letters: B rows, S positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from moe_cli.config import ModelConfig
from moe_cli.config.sections import JudgeConfig
from moe_cli.errors import UsageError
from moe_cli.judges.classifiers import OTHERWISE, Classifier, fetched, files_digest, model_type, refuse_incomplete
from moe_cli.judges.judge import Exchange, revision_of, unscored
from moe_cli.judges.rubric import as_text, escape_marks, replace_marks
from moe_cli.model.answer_settings import greedy_settings
from moe_cli.model.chat import end_of_turn_ids
from moe_cli.model.directory import model_directory
from moe_cli.model.foreign_files import auto_class, config_of, refuse_damaged
from moe_cli.model.load import naming_checkpoint, open_model, resolve_device
from moe_cli.model.memory import free_memory
from moe_cli.model.rendering import fix_date, render_template
from moe_cli.model.token_rows import left_padded, length_batches
from moe_cli.records.inputs import Message
from moe_cli.records.judging import JudgeIdentity, Question, Verdict

HINT = "it must be a causal language model with its tokenizer, as it is published"
PROBE = Message(role="user", content="What colour is the sky?")
GROUPS_OF = 8  # times the batch: rows of similar length are found among them


@dataclass(frozen=True, slots=True)
class LoadedClassifier:
    """A classifier in memory."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    longest: int  # tokens of prompt and output


class LocalJudge:
    """A local classifier; its files are read for its identity, its weights are loaded at the first verdict.

    Raises:
        UsageError: `model` is a path, but not that of a directory.
    """

    def __init__(self, classifier: Classifier, model: str | None, settings: JudgeConfig) -> None:
        self.classifier = classifier
        self.model = model or classifier.model
        self.settings = settings
        self.questions: tuple[Question, ...] = classifier.questions
        self.group = GROUPS_OF * settings.batch_size
        self._place = model_directory(self.model)
        self._identity: JudgeIdentity | None = None
        self._loaded: LoadedClassifier | None = None

    @property
    def name(self) -> str:
        """The family, and the model if it is not the default one."""
        usual = self.model == self.classifier.model
        return self.classifier.name if usual else f"{self.classifier.name}:{Path(self.model).resolve().name}"

    @property
    def identity(self) -> JudgeIdentity:
        """Its revision changes with the prompt, the parser, and every file that decides the output.

        It also changes with dtype, batch size and kind of device: each can flip a close verdict.
        """
        if self._identity is None:
            classifier, usual = self.classifier, self.model == self.classifier.model
            settings, device = self.settings, _device(self.settings).partition(":")[0]
            decided_by = (self._template(), classifier.starts, classifier.max_new_tokens, classifier.marks)
            self._identity = JudgeIdentity(
                name=self.name,
                revision=revision_of(
                    *(classifier.name, decided_by, classifier.reading),
                    *(files_digest(self._directory()), settings.dtype, settings.batch_size, device),
                ),
                questions=self.questions,
                tells_partial=False,
                source=self.model,
                published_accuracy=classifier.published_accuracy if usual else None,
                smoke_test=False,
            )
        return self._identity

    @property
    def holds_weights(self) -> bool:
        """True: weights stay in memory from the first verdict on."""
        return True

    def check(self) -> None:
        """Check device, files, tokenizer and template, and download missing files. No weights are loaded.

        Raises:
            UsageError: it cannot be downloaded, or is no such classifier.
            ArtifactError: some of its files are missing.
            EnvironmentFaultError: no such device.
        """
        _device(self.settings)
        directory = self._directory()
        refuse_incomplete(directory)
        refuse_damaged(directory)
        with naming_checkpoint(f"the classifier {self.model}", HINT):
            auto_class(config_of(str(directory), local_files_only=True))
            tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        fix_date(tokenizer)
        if self.classifier.prompts is None:
            _refuse_unasking(tokenizer)

    def verdicts(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in the same order."""
        if self._loaded is None:
            self._loaded = _load(self._directory(), f"the classifier {self.model}", self.settings)
        loaded, room = self._loaded, self.classifier.max_new_tokens
        prompts = [self._prompt(loaded, exchange) for exchange in exchanges]
        rows = {place: prompt for place, prompt in enumerate(prompts) if not isinstance(prompt, Verdict)}
        places, lengths = list(rows), [len(row) for row in rows.values()]
        outputs: dict[int, str] = {}
        for batch in length_batches(lengths, max_rows=self.settings.batch_size, max_tokens=None):
            asked = [places[index] for index in batch]
            replies = generate_reply(loaded, [rows[place] for place in asked], max_new_tokens=room)
            outputs |= dict(zip(asked, replies, strict=True))
        return [
            prompt if isinstance(prompt, Verdict) else self._verdict(exchange, outputs[place])
            for place, (exchange, prompt) in enumerate(zip(exchanges, prompts, strict=True))
        ]

    def release(self) -> None:
        """Free the weights."""
        self._loaded = None
        free_memory()

    def _directory(self) -> Path:
        if self._place is None:
            self._place = fetched(self.model, None)
        return self._place

    def _template(self) -> str | None:
        prompts = self.classifier.prompts
        return None if prompts is None else prompts.get(model_type(self._directory()), prompts[OTHERWISE])

    def _prompt(self, loaded: LoadedClassifier, exchange: Exchange) -> tuple[int, ...] | Verdict:
        """Token ids of the prompt, or the verdict that says why there is none."""
        special = [token.content for token in loaded.tokenizer.added_tokens_decoder.values() if token.special]
        marks = (*self.classifier.marks, *special)
        answer = escape_marks(exchange.answer.strip(), marks)
        turns = [Message(role=turn.role, content=escape_marks(turn.content, marks)) for turn in exchange.messages]
        template = self._template()
        try:
            text = (
                _by_own_template(loaded.tokenizer, turns, answer)
                if template is None
                else replace_marks(template, {"prompt": as_text(turns), "answer": answer})
            )
        except TemplateError as error:
            return unscored(f"the classifier's chat template refuses the conversation: {error}")
        ids = tuple(loaded.tokenizer(text, add_special_tokens=self.classifier.starts)["input_ids"])
        room = loaded.longest - self.classifier.max_new_tokens
        return ids if len(ids) <= room else unscored(f"the prompt has {len(ids)} tokens, the classifier reads {room}")

    def _verdict(self, exchange: Exchange, output: str) -> Verdict:
        read = self.classifier.read(output, exchange.kind)
        return read or unscored(f"the classifier's output cannot be read: {output[-80:]!r}")


def generate_reply(loaded: LoadedClassifier, rows: Sequence[Sequence[int]], *, max_new_tokens: int) -> list[str]:
    """What a classifier writes: the greedy continuation of every row, as text without special tokens."""
    model, tokenizer = loaded.model, loaded.tokenizer
    ends = end_of_turn_ids(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends[0] if ends else 0)
    ids_BS, mask_BS = (rows_BS.to(model.device) for rows_BS in left_padded(rows, filler=pad))
    greedy = greedy_settings(max_new_tokens=max_new_tokens, ends=ends, pad_id=pad)
    with torch.inference_mode():
        generated = model.generate(input_ids=ids_BS, attention_mask=mask_BS, generation_config=greedy)
    replies_BS = generated.sequences[:, ids_BS.shape[1] :]
    return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in replies_BS]


def _load(directory: Path, name: str, settings: JudgeConfig) -> LoadedClassifier:
    """The classifier in memory, on its device.

    Raises:
        UsageError, ArtifactError: as `naming_checkpoint`.
        EnvironmentFaultError: no such device.
    """
    device = _device(settings)
    with naming_checkpoint(name, HINT):
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        model = open_model(name, str(directory), dtype=settings.dtype, device=device, revision=None, here=True)
    return LoadedClassifier(model, tokenizer, int(model.config.get_text_config().max_position_embeddings))


def _device(settings: JudgeConfig) -> str:
    return resolve_device(ModelConfig(device=settings.device))


def _refuse_unasking(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UsageError if its chat template fails on the simplest conversation."""
    try:
        _by_own_template(tokenizer, [PROBE], "Blue.")
    except TemplateError as error:
        raise UsageError(
            f"the chat template of {tokenizer.name_or_path} refuses a question and its answer: {error}",
            hint="its template is not that of a Llama Guard that reads text",
        ) from error


def _by_own_template(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message], answer: str) -> str:
    """The conversation with the answer, rendered by the checkpoint's own chat template.

    The text of system turns is put before that of the first other turn, as Llama Guard's template has no system role.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            f"the classifier {tokenizer.name_or_path} has no chat template, which is its prompt",
            hint="use a checkpoint that holds it, as meta-llama/Llama-Guard-3-8B does",
        )
    system = [turn.content for turn in turns if turn.role == "system"]
    others = [{"role": turn.role, "content": turn.content} for turn in turns if turn.role != "system"]
    others[0]["content"] = "\n\n".join([*system, others[0]["content"]])
    text = render_template(tokenizer, [*others, {"role": "assistant", "content": answer}], answer_next=False)
    if answer not in text:
        raise UsageError(
            f"the chat template of {tokenizer.name_or_path} leaves out the answer that is to be judged",
            hint="its template is not that of a Llama Guard that reads text",
        )
    return text
