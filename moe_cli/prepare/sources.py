"""Where the prompts come from: the files that were named, or the built-in tiny language.

Comes in: the config. Goes out: pairs and benign prompts. Always holds: a real model without pairs is refused with the
list of accepted formats.
"""

from __future__ import annotations

from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.prepare.pairs import PAIR_FORMATS, read_benign, read_pairs
from moe_cli.records import BenignPrompt, PromptPair
from moe_cli.tiny import MODEL_NAME
from moe_cli.tiny.language import tiny_benign, tiny_pairs


def pairs_of(config: MoeConfig) -> tuple[PromptPair, ...]:
    """Prompt pairs of the configured file; the tiny language's own when the model is `tiny` and no file is named.

    Raises:
        UsageError: a real model and no file.
    """
    settings = config.prepare
    if settings.pairs is not None:
        pairs = read_pairs(settings.pairs)
    elif config.model.name == MODEL_NAME:
        pairs = tiny_pairs(settings.tiny_pairs, config.seed)
    else:
        raise UsageError(f"no prompt pairs for {config.model.name}: --pairs FILE is missing", hint=PAIR_FORMATS)
    return pairs[: settings.limit]


def benign_of(config: MoeConfig) -> tuple[BenignPrompt, ...]:
    """Benign prompts of the configured file; the tiny language's own beside its own pairs; else none."""
    settings = config.prepare
    if settings.benign is not None:
        return read_benign(settings.benign)[: settings.limit]
    if config.model.name == MODEL_NAME and settings.pairs is None:
        return tiny_benign(settings.tiny_pairs, config.seed)[: settings.limit]
    return ()
