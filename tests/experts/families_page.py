"""The page docs/families.md, made from the families as they are: `python -m tests.experts.families_page`.

Comes in: the installed transformers. Goes out: the page's text. Always holds: a row is what the flags, the modules and
the choice of `moe_cli.model.auto_class` say of what the tests build; only `REMARKS` is written by hand.
"""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from moe_cli.model.auto_class import auto_class
from moe_cli.model.topology import expert_layers
from tests.experts.catalog import build, families, unchecked_families
from tests.experts.checkpoints import NOT_OPENED, model_class, whole_config

PAGE = Path(__file__).parent.parent.parent / "docs" / "families.md"

REMARKS = {
    "deepseek_v4": "its first layers choose by token id",
    "diffusion_gemma": "the text encoder; the whole model has two banks of experts in each layer",
    "ernie4_5_vl_moe": "experts for image tokens are left out: no text reaches them",
    "openai_privacy_filter": "by default it runs its own loop in float32, equal to float tolerance",
    "qwen3_omni_moe": "the thinker; the talker's experts are left out: no text reaches them",
    "zaya": "a token may skip the experts and is then counted for none",
}

HEAD = """# Families

<!-- Made by `python -m tests.experts.families_page`; a test checks that it is up to date. -->

`moe` knows a family by one thing: transformers decorates its experts with `use_experts_implementation`. transformers
{version} has {number} such families. {checked} of them are built tiny from their own configs, on the CPU, and pass the
checks of `tests/experts/test_every_family.py`. A family that a newer release adds is listed as not checked yet, here
and by that test, until it passes the same checks; the refusal below guards it like the others.

| check | how exact |
| --- | --- |
| output with slices attached = the unmodified model's | bit for bit on the same kernel (`grouped_mm`, float32) |
| output = that of the family's own loop over experts, which knows nothing of the flags | 1e-4 relative |
| gradients of slices, tokens and router weights = the dense model's | 1e-4 relative |
| recorded counts = the choices that reached the experts, without padding; refused where layers run again | exact |
| after a step and merge nothing but the selected rows differs | bit for bit |
| after saving and reloading no key is missing or unexpected, and the output is the same | bit for bit |
| expert-parallel sentinels: output and gradients = those of transformers' own function | bits; 1e-4 relative |

"Relative" allows 1e-5 of the largest entry beside it: the order of a sum differs. Seven families of different layouts
are compared in float64 too, to 1e-9 (`tests/experts/test_gradients.py`).

A family that nobody knows yet works if its weights are what its flags announce; else `moe` refuses it and says what it
found: a weight that the flags do not announce, one that is missing, or one of another shape
(`tests/experts/test_unknown_family.py`).

The commands open a checkpoint of every family that answers token by token and runs each layer once for a token.
`tests/model/test_load_families.py` writes one as the hub holds it, with its encoders of images and sound, and a
tokenizer that has a chat template:

| check | how exact |
| --- | --- |
| greedy answers, alone and in a padded batch | the same tokens (float32) |
| the replayed answer's best tokens = the generated ones | the same tokens (float32) |
| loss from the logits of the answer alone = from all logits | 1e-5 relative |
| every slice of the experts most chosen before answer tokens gets a gradient | exact |
| saved after a step and merge, it opens with the same class and fingerprint | bit for bit |
| saved, it has the base's names, files, shapes and dtypes, encoders included, and its config | exact |

The class follows the config: `AutoModelForCausalLM` where transformers lists a causal language model for it, else
`AutoModelForMultimodalLM`, which opens a model that also reads images or sound. `final_model/` opens in the same way.
Prompts are text alone: `moe` gives a model no images and no sound.

Selective training takes gradients of the experts alone. `moe train baseline` trains every parameter that the loss of a
text reaches, and says how many tensors it does not: encoders of images and sound, indexers of sparse attention, biases
that only balance the routing.

**Checked as** is the class in which the tests of the engine build the experts: the language model where the family has
one, else its text model. **Beside them** are modules named as shared, which `moe` never selects. **Opened** is what the
commands open of a whole checkpoint: all of it, as that class or as another one that is named, or only the part that
answers in text. `final_model/` is a whole checkpoint in every case: what was not opened is the base's.

| family | checked as | experts | beside them | opened | remark |
| --- | --- | --- | --- | --- | --- |
"""


def page() -> str:
    """The whole text."""
    checked, unchecked = families(), unchecked_families()
    number = len(checked) + len(unchecked)
    head = HEAD.format(version=transformers.__version__, number=number, checked=len(checked))
    return head + "".join([*map(_row, checked), *map(unchecked_row, unchecked)])


def unchecked_row(family: str) -> str:
    """The row of a family that a newer transformers added."""
    return f"| {family} | not checked yet | | | | |\n"


def _row(family: str) -> str:
    model = build(family)
    built = f"`{type(model).__name__}`"
    cells = (family, built, _layout(model), _shared(model), _opened(family, model), REMARKS.get(family, ""))
    return f"| {' | '.join(cells)} |\n".replace("|  |", "| |")


def _layout(model: PreTrainedModel) -> str:
    module: nn.Module = expert_layers(model)[0].module
    gated = "interleaved gate" if not getattr(module, "is_concatenated", True) else "gate"
    words = [gated if getattr(module, "has_gate", True) else "no gate"]
    words += ["transposed"] * getattr(module, "is_transposed", False) + ["biases"] * getattr(module, "has_bias", False)
    return ", ".join(words + ["norm after"] * getattr(module, "has_post_expert_norm", False))


def _shared(model: PreTrainedModel) -> str:
    parts = {part for name, _ in model.named_parameters() for part in name.split(".") if "shared" in part}
    return ", ".join(f"`{part}`" for part in sorted(parts))


def _opened(family: str, checked: PreTrainedModel) -> str:
    if family in NOT_OPENED:
        return f"no: it {NOT_OPENED[family]}"
    whole = whole_config(family)
    auto, config = auto_class(whole)
    with torch.device("meta"):
        opened = type(auto.from_config(config))
    part = "" if opened is model_class(type(whole)) else "its text part"
    named = "" if opened is type(checked) else f"`{opened.__name__}`"
    return ", ".join(filter(None, (part, named))) or "yes"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
