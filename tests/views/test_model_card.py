"""The page of a model: a valid header, every number with its count, and nothing of anybody's machine or prompts."""

from __future__ import annotations

import dataclasses
import re
import unicodedata

import pytest
from huggingface_hub import ModelCard

from moe_cli.characters import UNSAFE
from moe_cli.records import BadRow, CapabilityScore, CardFacts, Expert, License, Rate, SourceCount
from moe_cli.views.model_card import NOT_EVALUATED, SMOKE_TEST, model_card
from tests.builders import CLASSIFIER, KEYWORDS, TRAINED, evaluation, identity, training
from tests.compare.test_compared_views import cells
from tests.views.injections import INJECTIONS, everywhere
from tests.views.test_safe_text import HOSTILE

RATE = Rate(k=12, n=97, unscored=3, rate=12 / 97, lower=0.072, upper=0.204, lowest=0.12, highest=0.15)
SOURCE = SourceCount(
    role="pairs",
    name="/home/zorp/goals.csv",
    sha256="9" * 64,
    format="AdvBench",
    rows=520,
    used=518,
    skipped={"its attack failed": 1},
    bad_rows=(BadRow(place="goals.csv:3", reason="`goal` is None"),),
    unread=("category",),
)
TASK = CapabilityScore(
    task="arc_easy", version="1.0", metric="acc,none", num_fewshot=0, n=100, correct=None, score=0.43, stderr=0.05
)
MEASURED = evaluation(
    run="/home/zorp/run",
    judges=(KEYWORDS, dataclasses.replace(CLASSIFIER, name="command:/home/zorp/judge.sh --model /home/zorp/x")),
    attack_success=RATE,
    unscored={"harmful": (3, 100)},
    capability=(TASK,),
    goals_trained_on=(5, 100),
)


def facts(**changes):
    values = {
        "holds": "model",
        "base": identity(name="zorp/glim", revision="0" * 40),
        "license": License(license="other", license_name="zorp-1", license_link="LICENSE"),
        "training": training(),
        "experts": (Expert(layer=0, index=3), Expert(layer=0, index=11), Expert(layer=1, index=2)),
        "routers": False,
        "sources": (SOURCE,),
        "evaluations": (MEASURED,),
        "version": "0.1.0",
    }
    return CardFacts(**(values | changes))


def header(page):
    return ModelCard(page).data.to_dict()


def test_the_header_names_base_licence_and_library():
    assert header(model_card(facts())) == {
        "base_model": "zorp/glim",
        "base_model_relation": "finetune",
        "license": "other",
        "license_name": "zorp-1",
        "license_link": "LICENSE",
        "library_name": "transformers",
        "tags": ["mixture-of-experts", "moe-selective-repair", "selective-experts"],
    }


def test_a_licence_that_is_not_known_is_not_made_up():
    unknown = License(license=None, license_name=None, license_link=None)
    assert not [key for key in header(model_card(facts(license=unknown))) if key.startswith("license")]


def test_a_base_of_this_machine_is_named_without_its_place():
    page = model_card(facts(base=identity(name="../zorp/glim", directory="/home/zorp/models/glim")))
    assert "base_model" not in header(page)
    assert "# glim, selective experts" in page and "| base | glim |" in page
    assert "/home" not in page and "zorp/" not in page.replace("zorp/glim", "")


def test_every_result_has_its_count_interval_and_judge():
    page = model_card(facts())
    assert r"| attack success | 12.4 % (12/97, 3 unscored) \[7.2, 20.4\] |" in page
    assert f"| longest answer, tokens | {evaluation().generation['max_new_tokens']} |" in page
    assert "| without a verdict, harmful | 3 of 100 |" in page
    assert "0.4300 (n 100, standard error 0.0500)" in page
    assert f"- judge keywords (revision {'k' * 12}), of harm and refusal; {SMOKE_TEST}" in page
    assert "5 of 100 goals were trained on, too, by words; paraphrases are not looked for." in page
    assert NOT_EVALUATED not in page


def test_without_an_evaluation_it_says_so():
    page = model_card(facts(evaluations=()))
    assert NOT_EVALUATED in page and "Nothing was measured on these weights yet." in page


def test_a_better_judge_is_no_smoke_test():
    better = dataclasses.replace(MEASURED, judges=(CLASSIFIER,))
    assert "smoke" not in model_card(facts(evaluations=(better,)))
    assert "smoke-test judge" in model_card(facts(evaluations=(dataclasses.replace(MEASURED, judges=(KEYWORDS,)),)))


def test_the_experts_stand_layer_by_layer_and_the_data_by_digests():
    page = model_card(facts())
    assert "3 of 32 experts were trained:" in page
    assert "| 0 | 2 | 3, 11 |" in page and "| 1 | 1 | 2 |" in page
    assert f"| prompt pairs | AdvBench | 520 | 518 | {'9' * 64} |" in page
    assert "1" * 64 in page and TRAINED in page
    assert "| learning\\_rate | 5e-05 |" in page


def test_the_control_says_that_it_is_one():
    page = model_card(facts(training=training(training_mode="full_model_baseline"), experts=()))
    assert "glim, full model baseline" in page and "the control of an experiment" in page
    assert "experts were trained" not in page and "full-model-baseline" in header(page)["tags"]


def test_experts_without_their_run_have_no_settings():
    page = model_card(facts(training=None, sources=None, evaluations=()))
    assert "## Training settings" not in page and "is not known here" in page


def test_no_path_of_this_machine_and_no_reason_of_a_bad_row_is_on_the_page():
    page = model_card(facts())
    assert "/home" not in page and "goals.csv" not in page and "`goal`" not in page
    assert "command:judge.sh (revision" in page


@pytest.mark.parametrize("text", [*HOSTILE.values(), *INJECTIONS.values()])
def test_foreign_text_stays_text(text):
    found = everywhere(facts(), text)
    known = {"holds": "model", "sources": tuple(dataclasses.replace(each, role="pairs") for each in found.sources)}
    plain, page = model_card(facts()), model_card(dataclasses.replace(found, **known))
    assert set(header(page)) - {"license"} <= set(header(plain))
    body = page.partition("\n---\n")[2]
    assert not [c for c in page if c != "\n" and unicodedata.category(c) in UNSAFE]
    code = "`expert_delta.safetensors`"
    assert not re.search(r"(?<!\\)(\\\\)*[<`*_~$]", body.replace(code, "").replace("\n```", ""))
    assert not re.search(r"https?:|www\.|(?<!\\)\]\(", body)
    assert {cells(line) for line in body.splitlines()} == {cells(line) for line in plain.splitlines()}
