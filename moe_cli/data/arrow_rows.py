"""Rows of parquet and Arrow files. pyarrow is imported when one is read: everything else starts without it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import cast

from moe_cli.data.column_names import normalise_name
from moe_cli.data.raw import RawRow
from moe_cli.errors import MoeError, UsageError

SINGLE_WORD = re.compile(r"[^\W\d][\w.-]*")  # the name of a column that is shown: others could be a prompt
PARQUET_MARK, ARROW_MARK, ARROW_STREAM_MARK = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"


def is_columnar(content: bytes) -> bool:
    """Whether a file begins as parquet or Arrow does."""
    return content.startswith((PARQUET_MARK, ARROW_MARK, ARROW_STREAM_MARK))


def columnar_rows(content: bytes, name: str) -> list[RawRow]:
    """The rows of a parquet or Arrow file.

    Raises:
        UsageError: it is damaged.
    """
    from pyarrow import ipc, parquet

    kind = "parquet" if content.startswith(PARQUET_MARK) else "Arrow"
    try:
        if kind == "parquet":
            _refuse_twice(parquet.read_schema(io.BytesIO(content)).names, name)
            table = parquet.read_table(io.BytesIO(content))
        elif content.startswith(ARROW_MARK):
            table = ipc.open_file(content).read_all()
        else:
            table = ipc.open_stream(content).read_all()
        _refuse_twice(table.column_names, name)
        return cast("list[RawRow]", table.to_pylist())
    except (MoeError, MemoryError):
        raise
    except Exception as error:  # whatever damaged pages raise in the library
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{name} cannot be read as {kind}: {reason}", hint="write it again") from error


def _refuse_twice(columns: Sequence[str], name: str) -> None:
    """Of two columns of one name a row would hold the last alone."""
    names = [normalise_name(column) for column in columns]
    if twice := sorted({column for column in names if names.count(column) > 1}):
        shown = f"the column `{twice[0]}`" if SINGLE_WORD.fullmatch(twice[0]) else "a column"
        raise UsageError(f"{name}: {shown} stands twice in the table", hint="rename one of them")
