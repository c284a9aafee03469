"""Which class of transformers opens a checkpoint so that it answers text.

Comes in: the config of a checkpoint. Goes out: the auto class, and the config it is given. Always holds: the choice
follows the config alone, so a model that was saved is opened by the class that it was loaded with; what does not write
its answer token by token is refused before any weight is read.
"""

from __future__ import annotations

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    GenerationMixin,
    PreTrainedConfig,
)

from moe_cli.errors import UsageError

AutoClass = type[AutoModelForCausalLM] | type[AutoModelForMultimodalLM]

THINKER = "thinker_config"  # of a model that also speaks: the part that answers in text


def auto_class(config: PreTrainedConfig) -> tuple[AutoClass, PreTrainedConfig]:
    """The auto class for a checkpoint with `config`, and the config of what is opened: all of it, or its thinker.

    A model that also reads images is opened whole, unless transformers lists a causal language model for its config.

    Raises:
        UsageError: transformers lists no model for it that writes text token by token.
    """
    opened: PreTrainedConfig = getattr(config, THINKER, config)
    for auto, kinds in (
        (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING),
        (AutoModelForMultimodalLM, MODEL_FOR_MULTIMODAL_LM_MAPPING),
    ):
        if type(opened) in kinds and issubclass(kinds[type(opened)], GenerationMixin):
            return auto, opened
    built = ", ".join(config.architectures or ()) or "no class that it names"
    raise UsageError(
        f"a {config.model_type} checkpoint ({built}) does not answer a prompt token by token",
        hint="name a causal language model, alone or inside one that reads images; not a classifier, encoder or "
        "diffusion model",
    )
