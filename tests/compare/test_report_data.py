"""What the report shows beside the comparison is what the files of the runs say, or is named as missing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from moe_cli.artifacts import Store, finished_run, layout, open_run
from moe_cli.artifacts.files import write_array, write_atomic
from moe_cli.codec import encode, encode_lines
from moe_cli.compare.compared_runs import read_sources
from moe_cli.compare.comparison_texts import redact
from moe_cli.compare.report_data import collect_report_data
from moe_cli.compare.stage import compare
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError
from moe_cli.prepare.prepare_files import write_risk
from moe_cli.prepare.uncertainty import ExpertParts
from moe_cli.records import DriftItem, ReportData, RiskDifferences, StepRecord, ValidationLoss
from moe_cli.views.report.page import report_page
from tests.builders import CLASSIFIER, column, comparison, evaluation, identity, imported, training
from tests.compare.runs_on_disk import NO_RUNS, records, trained
from tests.views.parsed_page import parsed

CONFIG = MoeConfig()
LAYERS = (3, 7)
MADE = "2026-11-22T17:12:33.000+00:00"


def written(directory, kind, store, files):
    with open_run(directory, kind, CONFIG, resume=False) as writer:
        for name, data in files.items():
            write_atomic(directory / name, data)
        return store.add(writer, base_fingerprint="a" * 64, model_name="tiny", device="cpu")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path / "registry")


def risk(pooled_LE, num_batches=2):
    """Differences of a whole run; those of its batches and their mean are other numbers."""
    pooled_LE = np.array(pooled_LE)
    of_batches = np.full((num_batches, *pooled_LE.shape), 9.0)
    others = np.full(pooled_LE.shape, 9.0)
    return RiskDifferences(
        layers=LAYERS, per_batch=of_batches, mean=others, pooled=pooled_LE, lower=others, upper=others,
        batch_lower=of_batches, batch_upper=of_batches, p_value=others, q_value=others, stability=others,
        num_resamples=1, num_permutations=1, num_clusters=1,
    )  # fmt: skip


@pytest.fixture
def prepared(tmp_path, store):
    """Layers 3 and 7 of two experts, two batches; written as prepare writes them."""
    masks = np.array([[[True, False], [False, False]], [[True, False], [False, True]]])
    path = tmp_path / "prepared"
    with open_run(path, "prepare", CONFIG, resume=False) as writer:
        found = SimpleNamespace(
            risk=risk([[0.25, np.nan], [0.0, -0.5]]), masks=masks, parts=ExpertParts(None, None, None, None)
        )
        write_risk(path / layout.risk_table("tiny"), found)
        write_array(path / layout.MASKS, masks)
        return store.add(writer, base_fingerprint="a" * 64, model_name="tiny", device="cpu")


def step(number, loss):
    return StepRecord(
        step=number, epoch=0.5, batches=(0,), loss=loss, grad_norm=1.0, learning_rate=1e-5, num_answer_tokens=1,
        num_tokens=1, num_padded_tokens=1, num_experts_updated=None, seconds=0.1,
    )  # fmt: skip


def drift_item(name, base, tuned):
    return DriftItem(
        id=name, cluster=name, num_tokens=1, nll_base=1.0, nll_tuned=1.0, kl_tokens=(0.0,), same_top=1,
        experts_base=base, experts_tuned=tuned, same_choices=(1, 1),
    )  # fmt: skip


DRIFT = encode_lines(
    [
        drift_item("a", ((3, 1), (2, 2)), ((1, 3), (2, 2))),
        drift_item("b", ((1, 3), (4, 0)), ((1, 3), (4, 0))),
    ]
)


def trained_run(directory, name, prepared, store, arm="baseline", *, drift=DRIFT, steps=(2.0, 1.5)):
    """A training run and its evaluation on disk."""
    mode = "full_model_baseline" if arm == "baseline" else "selective_experts"
    summary = training(
        training_mode=mode,
        base=identity(layers=LAYERS, num_experts=2),
        prepared=prepared.manifest_digest,
        validation=(ValidationLoss(step=2, loss=1.75),),
    )
    curve = encode_lines([step(number, loss) for number, loss in enumerate(steps, start=1)])
    files = {layout.METADATA: encode(summary)} | ({layout.STEPS: curve} if steps else {})
    written(directory / name, arm, store, files)
    found = records(20)
    of_evaluation = {
        layout.RECORDS: encode_lines(found),
        layout.EVALUATION_SUMMARY: encode(evaluation(run=name, training_mode=mode)),
    }
    more = {layout.DRIFT: drift} if drift else {}
    written(directory / name / layout.EVALUATIONS / "default", "evaluation", store, of_evaluation | more)


def data_of(store, *names):
    sources = read_sources(names, None, NO_RUNS)
    return collect_report_data(compare([[source] for source in sources], 0.02), sources, store, made=MADE, num_texts=5)


def test_the_maps_are_those_of_the_prepare_run_and_of_each_arms_drift(tmp_path, store, prepared):
    trained_run(tmp_path, "full", prepared, store)
    trained_run(tmp_path, "some", prepared, store, "selective", drift=None)
    found = data_of(store, "full", "some")
    risk, selection, drift = found.maps
    assert (risk.kind, risk.layers, risk.values) == ("risk", LAYERS, ((0.25, None), (0.0, -0.5)))
    assert (selection.kind, selection.values) == ("selection", ((2.0, 0.0), (0.0, 1.0)))
    assert selection.what == "batches, of 2, that selected the expert"
    assert drift.name == "routing drift: full"
    assert drift.values == ((-0.25, 0.25), (0.0, 0.0))  # 4 of 8 choices become 2 of 8
    assert found.missing_maps == ("routing drift of some: not measured in all of its evaluations",)


def test_the_map_of_several_runs_of_an_arm_is_their_mean(tmp_path, store, prepared):
    still = encode_lines([drift_item("a", ((4, 4), (1, 1)), ((4, 4), (0, 2)))])
    trained_run(tmp_path, "seed_1", prepared, store)
    trained_run(tmp_path, "seed_2", prepared, store, drift=still)
    trained_run(tmp_path, "other", prepared, store)
    sources = read_sources(["seed_1", "seed_2", "other"], None, NO_RUNS)
    comparison = compare([sources[:2], sources[2:]], 0.02)
    found = collect_report_data(comparison, sources, store, made=MADE, num_texts=0)
    assert [each.values for each in found.maps if each.kind == "drift"] == [
        ((-0.125, 0.125), (-0.25, 0.25)),
        ((-0.25, 0.25), (0.0, 0.0)),
    ]


def test_a_layer_without_any_choice_has_no_share(tmp_path, store, prepared):
    silent = encode_lines([drift_item("a", ((4, 4), (0, 0)), ((2, 6), (0, 0)))])
    trained_run(tmp_path, "full", prepared, store, drift=silent)
    trained_run(tmp_path, "other", prepared, store)
    [found, _] = [each for each in data_of(store, "full", "other").maps if each.kind == "drift"]
    assert found.values == ((-0.25, 0.25), (None, None))


def test_the_curves_are_the_steps_and_the_held_out_losses(tmp_path, store, prepared):
    trained_run(tmp_path, "full", prepared, store)
    trained_run(tmp_path, "some", prepared, store, "selective", steps=())
    found = data_of(store, "full", "some")
    [curve] = found.curves
    assert (curve.run, curve.steps, curve.losses, curve.held_out) == ("full", (1, 2), (2.0, 1.5), ((2, 1.75),))
    assert found.missing_curves == ("loss of some: its directory has no steps.jsonl",)


def test_a_prepare_run_that_is_gone_is_named_and_a_changed_file_is_refused(tmp_path, store, prepared):
    trained_run(tmp_path, "full", prepared, store)
    trained_run(tmp_path, "other", prepared, store)
    assert len(data_of(store, "full", "other").maps) == 4
    table = tmp_path / "prepared" / layout.risk_table("tiny")
    table.write_bytes(table.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match="changed since the run wrote it"):
        data_of(store, "full", "other")
    (tmp_path / "prepared" / layout.MANIFEST).unlink()
    found = data_of(store, "full", "other")
    assert [each.kind for each in found.maps] == ["drift", "drift"]
    assert found.missing_maps == (
        "risk difference and selection: the prepare run is not in the registry, gone or changed",
    )


def test_every_directory_is_named_with_its_digest_and_a_prepare_run_once(tmp_path, store, prepared):
    trained_run(tmp_path, "full", prepared, store)
    trained_run(tmp_path, "some", prepared, store, "selective")
    found = data_of(store, "full", "some").origins
    assert [(each.run, each.what) for each in found] == [
        ("full", "prepare run"),
        ("full", "training run"),
        ("full", "evaluation"),
        ("some", "training run"),
        ("some", "evaluation"),
    ]
    assert found[0].digest == prepared.manifest_digest
    assert found[1].digest == finished_run(tmp_path / "full").digest and found[1].packages["torch"]


def test_the_words_are_those_of_the_worst_flips_of_every_measure_and_suite(tmp_path, store):
    trained(tmp_path, "a", records(10) + records(10, suite="other"))
    trained(tmp_path, "b", records(30) + records(14, suite="other"), arm="selective")
    sources = read_sources(["a", "b"], None, NO_RUNS)
    found = collect_report_data(compare([[source] for source in sources], 0.02), sources, store, made=MADE, num_texts=3)
    suites = [(text.flip.metric, text.flip.suite) for text in found.texts]
    assert suites.count(("attack success", "attacked")) == suites.count(("attack success", "other")) == 3
    assert {text.pair for text in found.texts} == {"b against a"}


def test_equal_paths_keep_equal_names_and_different_ones_different_names(tmp_path, store, prepared):
    trained_run(tmp_path, "full", prepared, store)
    trained_run(tmp_path, "some", prepared, store, "selective")
    sources = read_sources([str(tmp_path / "full"), str(tmp_path / "some")], None, NO_RUNS)
    comparison = compare([[source] for source in sources], 0.02)
    data = collect_report_data(comparison, sources, store, made=MADE, num_texts=5)
    shown, beside = redact(comparison, data)
    assert [each.path for each in shown.columns] == ["…/full", "…/some"]
    paths = [each.path for each in beside.origins]
    assert paths == ["…/prepared", "…/full", "…/default", "…/some", "…/default (2)"]
    assert beside.redacted and not data.redacted
    assert [pair.differences for pair in shown.pairs] == [pair.differences for pair in comparison.pairs]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/model", "…/model"),
        ("at /home/me/model, and /home/me/model", "at …/model, and …/model"),
        ("command:/opt/judges/mine.py --fast", "command:…/mine.py --fast"),
        ("file:///srv/data/x.jsonl", "…/x.jsonl"),
        ("~/models/mine", "~…/mine"),
        ("path=/a/b", "path=…/b"),
        ("/a/model | /b/model", "…/model | …/model (2)"),
        ("http://localhost:8000/v1 llama", "http://localhost:8000/v1 llama"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("./selective", "./selective"),
        ("attacked/goal-90/story", "attacked/goal-90/story"),
        ("12 / 64 and 3/4", "12 / 64 and 3/4"),
        ("allenai/OLMoE", "allenai/OLMoE"),
    ],
)
def test_only_absolute_paths_are_cut(text, shown):
    runs = (column("a"), column("b"))
    found = comparison(runs, conclusion=(text,))
    assert redact(found, nothing())[0].conclusion == (shown,)


SECRET = "/home/me/our models/very secret/x y"


@pytest.mark.parametrize(
    "run",
    [
        column("a", path=SECRET),
        column("a", evaluation=evaluation(run=SECRET)),
        column("a", evaluation=evaluation(model=identity(name=SECRET))),
        column("a", evaluation=evaluation(model=identity(directory=f"{SECRET}/"))),
        column("a", evaluation=evaluation(base=identity(name=SECRET))),
        column("a", evaluation=evaluation(base=identity(directory=SECRET))),
        column("a", evaluation=evaluation(judges=(replace(CLASSIFIER, source=SECRET),))),
        column("a", evaluation=evaluation(judges=(replace(CLASSIFIER, source=f"command:{SECRET}"),))),
        column("a", evaluation=evaluation(judges=(replace(CLASSIFIER, source=f"http://me:8000/v1 {SECRET}"),))),
        column("a", evaluation=evaluation(generation={"template": SECRET})),
        column("a", evaluation=evaluation(taken={"generate": SECRET})),
        imported("a", source=SECRET),
    ],
    ids=lambda run: "",
)
def test_a_path_with_spaces_in_any_field_is_cut_there_and_wherever_it_is_named(run):
    found = comparison((run, column("b")), conclusion=(f"moe evaluate {SECRET}, or {SECRET}/evaluations",))
    pages = redact(found, nothing())
    page = " ".join(element.text for element in parsed(report_page(*pages)).of("body"))
    assert pages[0].conclusion == ("moe evaluate …/x y, or …/x y/evaluations",)
    for text in (page, encode(pages[0]).decode()):
        assert not [word for word in ("/home", "our models", "very secret") if word in text]


def test_a_path_of_which_another_begins_is_cut_to_its_own_last_name():
    runs = (column("a", path="/home/me/our models"), column("b", path="/home/me/our models/Secret Base"))
    found, _ = redact(comparison(runs), nothing())
    assert [one.path for one in found.columns] == ["…/our models", "…/Secret Base"]


def nothing():
    return ReportData(
        version="1", made=MADE, redacted=False, maps=(), curves=(), texts=(), origins=(), missing_maps=(),
        missing_curves=(),
    )  # fmt: skip
