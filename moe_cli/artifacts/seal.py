"""A directory whose every byte is accounted for: `digests.json` holds the sha256 of every other file and one of itself.

Comes in: a directory that is ready. Goes out: the same with its seal, or an error that names the damaged file. Always
holds: a changed, cut, missing or added file is found, the seal included.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from moe_cli.artifacts.files import sha256_of
from moe_cli.codec import decode, encode
from moe_cli.errors import ArtifactError

SEAL = "digests.json"

Digests = dict[str, str]  # name -> sha256; the one of the seal is over all others


def write_checksums(directory: Path) -> None:
    """Write the digests of all files that are in the directory."""
    digests = {file.name: sha256_of(file) for file in sorted(directory.iterdir())}
    (directory / SEAL).write_bytes(encode({**digests, SEAL: _digest_of(digests)}))


def check_checksums(directory: Path, *, hint: str) -> None:
    """Compare every file with its digest; `hint` says what to do about a damaged one.

    Raises:
        ArtifactError: a file is changed, cut, missing, or not of this directory.
    """
    expected = _read(directory, hint)
    found = {file.name for file in directory.iterdir()} - {SEAL}
    for name in sorted(found | expected.keys()):
        file = directory / name
        if name not in expected:
            raise ArtifactError(f"{file} does not belong there (it is not in {SEAL})", hint=hint)
        if not file.is_file():
            raise ArtifactError(f"{file} is missing", hint=hint)
        if sha256_of(file) != expected[name]:
            raise ArtifactError(f"{file} is damaged (its sha256 is not the recorded one)", hint=hint)


def _read(directory: Path, hint: str) -> Digests:
    """The recorded digests of the other files."""
    file = directory / SEAL
    if not file.is_file():
        raise ArtifactError(f"{file} is missing", hint=hint)
    try:
        digests = decode(Digests, file.read_bytes(), source=str(file))
    except ArtifactError as error:  # the same fault, but nobody can make this file again
        raise ArtifactError(f"{file} is damaged (it is no list of digests)", hint=hint) from error
    own = digests.pop(SEAL, None)
    if own != _digest_of(digests):
        raise ArtifactError(f"{file} is damaged (its digests are not the written ones)", hint=hint)
    return digests


def _digest_of(digests: Mapping[str, str]) -> str:
    return sha256(encode(dict(digests))).hexdigest()
