"""Names and files keep the rules of the house; `python -m tests.studies.house` prints the figures."""

from tests.studies.house import (
    banned_names,
    basenames_twice,
    num_public_names,
    public_names_twice,
    ritual_docstrings,
    source_files,
)

MOST_SHARED = 0.005  # of the public names


def test_no_public_name_and_no_file_has_a_name_that_could_stand_anywhere():
    assert banned_names() == []


def test_no_file_name_stands_in_two_rooms():
    assert basenames_twice() == {}


def test_no_docstring_is_a_form_that_was_filled_in():
    assert ritual_docstrings() == []


def test_few_public_names_are_defined_in_two_files():
    assert len(public_names_twice()) <= MOST_SHARED * num_public_names()


def test_no_function_is_longer_than_a_page():
    longest = {f"{file.name}: {name}": size for file in source_files() for size, name in file.functions if size > 80}
    commands = {name for name in longest if name.startswith("cli/")}  # whose options are their signature
    assert longest.keys() - commands == set()
