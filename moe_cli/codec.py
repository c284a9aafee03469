"""Records to JSON and back, exactly.

What was encoded decodes to an equal record (checked on every write, so NaN, infinity and dropped fields never reach the
disk). An unknown, missing or mistyped field is an error that names the file.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import orjson
from pydantic import TypeAdapter, ValidationError

from moe_cli.errors import ArtifactError, MoeError

Record = TypeVar("Record")

AGAIN = "the file was written by another version of moe, or changed by hand; make it again"


@cache
def _adapter(record_type: Hashable) -> TypeAdapter[object]:
    return TypeAdapter(cast(type, record_type))


def encode(record: object, *, indent: bool = False) -> bytes:
    """JSON of one record; raises `ValueError` if it would not decode to an equal record (NaN, infinity)."""
    data = orjson.dumps(record, option=(orjson.OPT_INDENT_2 if indent else 0) | orjson.OPT_SERIALIZE_NUMPY)
    if not _reads_back(record, data):
        raise ValueError(f"{type(record).__name__} holds a value that JSON cannot carry (NaN or infinity): {record!r}")
    return data


def _reads_back(record: object, data: bytes) -> bool:
    try:
        return _adapter(cast(Hashable, type(record))).validate_json(data, strict=True) == record
    except ValidationError:
        return False


def decode(record_type: type[Record], data: bytes | str, *, source: str) -> Record:
    """One record from JSON; `source` names the file (and line) in the error.

    Raises:
        ArtifactError: not JSON, or a field is unknown, missing or of another type.
    """
    try:
        return cast(Record, _adapter(cast(Hashable, record_type)).validate_json(data, strict=True))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        parts = first["loc"][:-2] if first["loc"][-1:] == ("[key]",) else first["loc"]  # the message names the key
        where = ".".join(str(part) for part in parts) or "the whole"
        raise ArtifactError(
            f"{source}: {record_type.__name__}: {where}: {first['msg'].removeprefix('Value error, ')}",
            hint=AGAIN,
        ) from error


def decode_file(record_type: type[Record], path: Path) -> Record:
    """The one record of a JSON file.

    Raises:
        ArtifactError: as `decode`.
    """
    return decode(record_type, path.read_bytes(), source=str(path))


def encode_lines(records: Iterable[object]) -> bytes:
    """JSON Lines of many records."""
    return b"".join(lines_of_records(records))


def lines_of_records(records: Iterable[object]) -> Iterator[bytes]:
    """The lines of many records, one by one."""
    return (encode(record) + b"\n" for record in records)


def encode_list(records: Iterable[object]) -> bytes:
    """One JSON list of many records."""
    return b"[" + b",".join(b"\n" + encode(record, indent=True) for record in records) + b"\n]"


def decode_lines(record_type: type[Record], path: Path) -> Iterator[Record]:
    """Records of a JSON Lines file, one by one; an error names file and line."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield decode(record_type, line, source=f"{path}:{number}")


def parse_json(data: bytes | str, *, source: str, hint: str, error_type: type[MoeError] = ArtifactError) -> object:
    """Plain JSON that people or other programs wrote.

    Raises:
        MoeError: of `error_type`: not JSON; the message names source and position.
    """
    try:
        return cast(object, orjson.loads(data))
    except orjson.JSONDecodeError as error:
        raise error_type(f"{source}: not JSON: {error}", hint=hint) from error
