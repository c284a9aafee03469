"""Rows of parquet and Arrow files. pyarrow is imported when one is read: everything else starts without it."""

from __future__ import annotations

import io
from typing import cast

from moe_cli.data.raw import RawRow
from moe_cli.errors import UsageError

PARQUET_MARK, ARROW_MARK, ARROW_STREAM_MARK = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"


def is_columnar(content: bytes) -> bool:
    """Whether a file begins as parquet or Arrow does."""
    return content.startswith((PARQUET_MARK, ARROW_MARK, ARROW_STREAM_MARK))


def columnar_rows(content: bytes, name: str) -> list[RawRow]:
    """The rows of a parquet or Arrow file.

    Raises:
        UsageError: it is damaged.
    """
    import pyarrow
    from pyarrow import ipc, parquet

    kind = "parquet" if content.startswith(PARQUET_MARK) else "Arrow"
    try:
        if kind == "parquet":
            table = parquet.read_table(io.BytesIO(content))
        elif content.startswith(ARROW_MARK):
            table = ipc.open_file(content).read_all()
        else:
            table = ipc.open_stream(content).read_all()
        return cast("list[RawRow]", table.to_pylist())
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UsageError(
            f"{name} cannot be read as {kind}: {str(error).splitlines()[0]}", hint="write it again"
        ) from error
