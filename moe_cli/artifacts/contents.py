"""What a library says of a file whose content is not what its digest promises becomes an error about that file.

A digest says that a file is as somebody wrote it, not that a run of this program did: arrays of other shapes, tables
without a column and checkpoints of another optimizer come with digests that fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moe_cli.errors import ArtifactError, MoeError

AGAIN = "the file was written by another version of moe, or changed by hand; make it again"


@contextmanager
def naming_file(file: Path, *, hint: str = AGAIN) -> Iterator[None]:
    """Around what is read of `file` and made of it, and nothing else.

    Raises:
        ArtifactError: a library, or what is done with the values, found something else than it expects.
    """
    try:
        yield
    except (MoeError, OSError, MemoryError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ArtifactError(f"{file} does not hold what it should: {reason}", hint=hint) from error
