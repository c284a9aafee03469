"""Every record is read back equal, and refuses what it does not know."""

import copy
import dataclasses
import importlib
import pkgutil
import types
import typing

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import moe_cli.records as nouns
from moe_cli.codec import decode, encode
from moe_cli.errors import ArtifactError
from moe_cli.records.record import DirectoryName, FileName, JsonObject, RunId

RECORDS = [noun for noun in vars(nouns).values() if dataclasses.is_dataclass(noun)]
ARRAYS = [record for record in RECORDS if any("NDArray" in str(field.type) for field in dataclasses.fields(record))]
WRITTEN = [record for record in RECORDS if record not in ARRAYS]  # arrays live in npz, the rest in JSON
WITH_NUMBERS = [
    record for record in WRITTEN if any(str(f.type).startswith("float") for f in dataclasses.fields(record))
]

SLOW_MACHINE = [HealthCheck.too_slow, HealthCheck.data_too_large]  # how fast values are made says nothing here
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
PLAIN = {
    int: st.integers(-(2**53), 2**53),
    float: NUMBERS,
    str: TEXT,
    bool: st.booleans(),
    type(None): st.none(),
    object: JSON,
    JsonObject: st.dictionaries(TEXT, JSON, max_size=2),
    RunId: st.from_regex(r"(prepare|evaluation)-[0-9]{8}-[0-9]{6}-[0-9a-f]{8}", fullmatch=True),
    FileName: st.sampled_from(["summary.json", "final_model/é \n.json"]),
    DirectoryName: st.sampled_from(["default", "default_2"]),
}


def values_of(hint):
    """Strategy for the values of a type hint."""
    if hint in PLAIN:
        return PLAIN[hint]
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        return st.builds(hint, **{field.name: values_of(hints[field.name]) for field in dataclasses.fields(hint)})
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values_of, arguments))
    if origin is dict:
        return st.dictionaries(values_of(arguments[0]), values_of(arguments[1]), max_size=2)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, arguments))
    raise TypeError(f"no values for {hint}")


def nested(value, path=()):
    """Every record inside a value, with the way to it in the JSON."""
    if dataclasses.is_dataclass(value):
        yield path, value
        inside = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, tuple):
        inside = list(enumerate(value))
    else:
        inside = []
    for key, below in inside:
        yield from nested(below, (*path, key))


def changed(tree, path, change):
    """A copy of the JSON with one object changed."""
    tree = copy.deepcopy(tree)
    place = tree
    for key in path:
        place = place[key]
    change(place)
    return orjson.dumps(tree)


def of_another_type(value):
    return "text" if isinstance(value, list) else 3 if isinstance(value, dict) else {"unknown": []}


def assert_refused(record, data):
    with pytest.raises(ArtifactError) as refusal:
        decode(type(record), data, source="there/file.json")
    assert refusal.value.message.startswith("there/file.json: ")
    assert refusal.value.exit_code == 3


@pytest.mark.parametrize("record", WRITTEN, ids=lambda record: record.__name__)
@settings(max_examples=12, deadline=None, suppress_health_check=SLOW_MACHINE)
@given(data=st.data())
def test_what_is_written_is_read_back_equal(record, data):
    value = data.draw(values_of(record))
    assert decode(record, encode(value), source="memory") == value
    assert decode(record, encode(value, indent=True), source="memory") == value


@pytest.mark.parametrize("record", WRITTEN, ids=lambda record: record.__name__)
@settings(max_examples=2, deadline=None, suppress_health_check=SLOW_MACHINE)
@given(data=st.data())
def test_an_unknown_missing_or_mistyped_field_is_refused_at_every_depth(record, data):
    value = data.draw(values_of(record))
    tree = orjson.loads(encode(value))
    for path, inner in nested(value):
        assert_refused(value, changed(tree, path, lambda place: place.update(unheard_of=1)))
        optional = {f.name for f in dataclasses.fields(inner) if f.default is not dataclasses.MISSING}
        for field in dataclasses.fields(inner):
            if field.name not in optional:
                assert_refused(value, changed(tree, path, lambda place, name=field.name: place.pop(name)))
            mistyped = changed(
                tree, path, lambda place, name=field.name: place.update({name: of_another_type(place[name])})
            )
            assert_refused(value, mistyped)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("record", WITH_NUMBERS, ids=lambda record: record.__name__)
@settings(max_examples=1, deadline=None, suppress_health_check=SLOW_MACHINE)
@given(data=st.data())
def test_nan_and_infinity_are_never_written(record, number, data):
    value = data.draw(values_of(record))
    for field in dataclasses.fields(record):
        if str(field.type).startswith("float"):
            with pytest.raises(ValueError, match="NaN or infinity"):
                encode(dataclasses.replace(value, **{field.name: number}))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_are_never_read(text):
    rate = b'{"value": %s, "lower": null, "upper": null, "n": 3}' % text.encode()
    with pytest.raises(ArtifactError, match=r"x\.json"):
        decode(nouns.Estimate, rate, source="x.json")


@pytest.mark.parametrize("wrong", [b'"3"', b"3.0", b"true", b"null"])
def test_nothing_is_silently_converted(wrong):
    data = b'{"task": "answers", "done": %s, "total": 4}' % wrong
    with pytest.raises(ArtifactError, match="done"):
        decode(nouns.Progress, data, source="x.json")


def test_numpy_numbers_are_written_as_numbers():
    record = nouns.Progress(task="a", done=np.int64(3), total=4)
    assert encode(record) == b'{"task":"a","done":3,"total":4,"tokens_per_second":null,"num_cut_off":0}'


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_records_are_frozen_slotted_and_keyword_only(record):
    assert record.__dataclass_params__.frozen
    assert "__slots__" in vars(record)
    with pytest.raises(TypeError):
        record(*[None] * len(dataclasses.fields(record)))


def test_every_record_of_the_room_is_exported_and_tested():
    defined = {
        noun
        for module in pkgutil.iter_modules(nouns.__path__)
        for noun in vars(importlib.import_module(f"moe_cli.records.{module.name}")).values()
        if dataclasses.is_dataclass(noun) and noun.__module__.startswith(nouns.__name__)
    }
    assert defined == set(RECORDS)
    assert [nouns.HarmlessCounts, nouns.ReasoningCounts, nouns.RiskDifferences, nouns.RoutingCounts] == ARRAYS
