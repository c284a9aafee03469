"""A sealed directory: every changed byte, every missing and every added file is found, the seal included."""

from __future__ import annotations

import pytest

from moe_cli.artifacts.files import SEAL, check_checksums, write_checksums
from moe_cli.errors import ArtifactError


@pytest.fixture
def sealed(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"step":1}')
    (tmp_path / "empty").write_bytes(b"")
    write_checksums(tmp_path)
    return tmp_path


def refusal(directory) -> str:
    with pytest.raises(ArtifactError) as error:
        check_checksums(directory, hint="what to do")
    assert error.value.hint == "what to do"
    return error.value.message


def test_an_unchanged_directory_passes(sealed):
    check_checksums(sealed, hint="none needed")


@pytest.mark.parametrize("name", ["a.json", SEAL])
def test_every_single_flipped_bit_and_every_cut_is_found_and_the_file_named(sealed, name):
    whole = (sealed / name).read_bytes()
    for place in range(len(whole)):
        cut = whole[:place]
        flipped = [whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :] for bit in range(8)]
        for damaged in (cut, *flipped):
            (sealed / name).write_bytes(damaged)
            assert refusal(sealed).startswith(f"{sealed / name} is damaged")


def test_missing_and_added_files_are_found(sealed):
    (sealed / "empty").unlink()
    assert refusal(sealed) == f"{sealed / 'empty'} is missing"
    (sealed / "empty").mkdir()
    assert refusal(sealed) == f"{sealed / 'empty'} is missing"
    (sealed / "empty").rmdir()
    (sealed / "empty").write_bytes(b"")
    (sealed / "more").write_bytes(b"")
    assert refusal(sealed) == f"{sealed / 'more'} does not belong there (it is not in {SEAL})"
    (sealed / SEAL).unlink()
    assert refusal(sealed) == f"{sealed / SEAL} is missing"


def test_a_seal_of_another_directory_is_found(sealed, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "a.json").write_bytes(b'{"step":2}')
    (other / "empty").write_bytes(b"")
    write_checksums(other)
    (sealed / SEAL).write_bytes((other / SEAL).read_bytes())
    assert refusal(sealed).startswith(f"{sealed / 'a.json'} is damaged")
