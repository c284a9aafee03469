"""The page docs/families.md, made from the families as they are: `python -m tests.experts.families_page`.

Comes in: the installed transformers. Goes out: the page's text. Always holds: a row is what the flags, the modules and
the choice of `moe_cli.model.foreign_files` say of what the tests build; only `REMARKS` is written by hand.
"""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from moe_cli.model.foreign_files import SAVES_FLOATS, auto_class
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


# (situation, outcome, test in tests/model/test_models_of_the_field.py or the file that is named)
AS_FLOATS = f"opened as the floats they stand for (transformers {SAVES_FLOATS} or newer)"
FIELD = (
    ("no padding token, or one that is the end of turn", "answered", "padding_that_is_missing"),
    ("a padding token without an embedding", "answered: never used", "a_padding_token_without"),
    ("other token ids without an embedding", "refused by name", "a_token_without_an_embedding"),
    ("several ends of turn in generation_config.json", "answered: each ends an answer", "every_end_of_turn"),
    ("an end of turn that only the chat template writes", "answered: it ends an answer", "the_token_that_ends"),
    ("no eos_token in the tokenizer", "answered: the end of the generation config", "a_tokenizer_without_an_end"),
    ("nothing that ends a turn", "refused by name", "nothing_ends_a_turn"),
    ("ends of turn that are strings (`stop_strings`)", "refused by name", "ends_its_answers_at_strings"),
    ("28 other settings of generation_config.json", "answered: none counts", "what_a_generation_config_asks_for"),
    ("generation settings in config.json alone", "answered: none counts", "generation_settings_of_an_old_config"),
    (
        "`output_router_logits`, `return_dict`, `use_cache`",
        "answered: none counts",
        "what_a_config_asks_of_every_forward",
    ),
    ("a template that refuses a system turn", "refused by name where there is one", "a_template_that_refuses_a_system"),
    ("a template that opens `<think>`", "an answer cut off inside is unscored", "cut_off_inside_reasoning"),
    ("the same, and a refusal is learnt", "it ends the reasoning first", "a_refusal_behind"),
    ("the same, and the answer is learnt", "the ids as they were made", "judged_and_learnt"),
    ("marks of reasoning that are special tokens", "answered: they stay in the text", "marks_of_reasoning_that_are"),
    ("a template that refuses them (gpt-oss)", "learnt as they were made", "whose_marks_the_template_refuses"),
    ("harmony, `[THINK]`, `◁think▷`, `<seed:think>` ...", "not judged", "`tests/data/test_reasoning.py`"),
    ("a template that reads lists of parts alone", "refused by name", "a_template_that_reads_lists"),
    ("a template in chat_template.json alone", "answered", "a_template_in_chat_template_json"),
    ("a template that shows the date", "1 January 2025 on every day, in the digest", "a_template_that_shows_the_date"),
    ("a head tied to the embeddings", "answered; without the config's word refused", "a_head_that_is_not_stored"),
    ("embeddings that were resized", "answered; without their config refused", "embeddings_that_were_resized"),
    ("FP8 with scales", AS_FLOATS, "fp8_experts_are_opened"),
    ("MXFP4", AS_FLOATS, "`tests/model/test_layers_of_the_field.py`"),
    ("FP8 where transformers is older", "refused by name before loading", "where_the_library_cannot_save"),
    ("FP8 whose scales are lost", "refused by name", "fp8_weights_without"),
    ("bitsandbytes, GPTQ, AWQ and other quantisations", "refused by name before loading", "quantised_weights_that"),
    ("a shard that the index names is missing", "refused by name", "a_shard_that_is_missing"),
    ("per-expert keys of transformers 4", "answered: `tiny` is stored so", "`tests/model/test_load.py`"),
    ('`dtype: "bf16"`, values of wrong types', "refused by name", "`tests/model/test_foreign_checkpoints.py`"),
    ("dense first layers", "layers keep their index", "`tests/model/test_layers_of_the_field.py`"),
    ("correction biases of the router", "counted as it chose", "`tests/model/test_layers_of_the_field.py`"),
    ("a top-k for each layer", "counted by each layer's", "`tests/model/test_layers_of_the_field.py`"),
    ("multimodal wrappers", "answered", "`tests/model/test_load_families.py`, `test_layers_of_the_field.py`"),
    ("training prompts that are cut", "said, and recorded as `prompts_cut`", "a_prompt_that_is_cut"),
    ("`ACCELERATE_*` that change training", "refused by name before loading", "`tests/train/test_environment.py`"),
    ("`CUDA_VISIBLE_DEVICES` beside another `--gpu`", "refused", "`tests/cli/test_cli_settings.py`"),
)
FIELD_HEAD = """
## Checkpoints of the field

What others' checkpoints and environments bring along, and how it ends. Each is built small and random by its test: a
part of the name of one in `tests/model/test_models_of_the_field.py`, or another file.

| situation | outcome | test |
| --- | --- | --- |
"""


def page() -> str:
    """The whole text."""
    checked, unchecked = families(), unchecked_families()
    number = len(checked) + len(unchecked)
    head = HEAD.format(version=transformers.__version__, number=number, checked=len(checked))
    return head + "".join([*map(_row, checked), *map(unchecked_row, unchecked), FIELD_HEAD, *map(_field_row, FIELD)])


def unchecked_row(family: str) -> str:
    """The row of a family that a newer transformers added."""
    return f"| {family} | not checked yet | | | | |\n"


def _field_row(row: tuple[str, str, str]) -> str:
    situation, outcome, test = row
    return f"| {situation} | {outcome} | {test if test.startswith('`') else f'`{test}`'} |\n"


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
