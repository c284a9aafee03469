"""Tables that `datasets` reads: parquet files, folders that it wrote, data sets on the hub.

Comes in: a source. Goes out: its rows. Always holds: a local source is read without the network and leaves nothing in a
cache; a hub data set is read at its pinned revision; where there are several splits, one must be named.

`datasets` is imported when a table is read: everything else starts without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from moe_cli.data.json_rows import RawRow
from moe_cli.data.sources import Source
from moe_cli.errors import EnvironmentFaultError, UsageError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

PARQUET_MARK = b"PAR1"


def parquet_rows(source: Source) -> list[RawRow]:
    """The rows of a parquet file.

    Raises:
        UsageError: it is damaged.
    """
    from datasets import Dataset

    with TemporaryDirectory() as cache, _silence():
        try:
            return _rows(Dataset.from_parquet(source.place, cache_dir=cache, keep_in_memory=True))
        except (ValueError, RuntimeError) as error:
            raise UsageError(f"{source.name} cannot be read as parquet: {error}", hint="write it again") from error


def folder_rows(source: Source) -> list[RawRow]:
    """The rows of a folder that `datasets` wrote.

    Raises:
        UsageError: it is damaged, or no split was named and it has several.
    """
    from datasets import load_from_disk

    try:
        found = load_from_disk(source.place, keep_in_memory=True)
    except (ValueError, OSError) as error:
        raise UsageError(f"{source.name} is a damaged folder of `datasets`: {error}", hint="save it again") from error
    return _rows(_split_of(found, source))


def hub_rows(source: Source) -> list[RawRow]:
    """The rows of a hub data set at its revision.

    Raises:
        EnvironmentFaultError: the hub cannot be reached.
        UsageError: no such data set, revision, configuration or split.
    """
    from datasets import load_dataset

    try:
        found = load_dataset(source.place, source.config, revision=source.revision)
    except ConnectionError as error:
        raise EnvironmentFaultError(
            f"the hub cannot be reached for {source.name}: {error}",
            hint="check the network and HF_HUB_OFFLINE, or save the data set to a local folder (save_to_disk)",
        ) from error
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(
            f"{source.name} cannot be read from the hub: {error}", hint="owner/name:CONFIG@COMMIT#SPLIT names it whole"
        ) from error
    return _rows(_split_of(found, source))


def _split_of(found: Dataset | DatasetDict, source: Source) -> Dataset:
    if not isinstance(found, dict):
        if source.split is None:
            return cast("Dataset", found)
        raise UsageError(f"{source.name}: there are no splits to choose from", hint="leave the # and its word away")
    names = list(found)
    if source.split is None and len(names) == 1:
        return cast("Dataset", found[names[0]])
    if source.split not in names:
        said = "it has several splits" if source.split is None else f"there is no split {source.split}"
        bare = source.name.partition("#")[0]
        raise UsageError(
            f"{source.name}: {said}: {', '.join(names)}",
            hint="name one: " + " or ".join(f"'{bare}#{name}'" for name in names),
        )
    return cast("Dataset", found[source.split])


def _rows(table: Dataset) -> list[RawRow]:
    return cast("list[RawRow]", table.to_list())


@contextmanager
def _silence() -> Iterator[None]:
    """The library logs a fault before it raises it; the error alone is shown."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def is_parquet(path: Path) -> bool:
    """Whether a file begins as parquet does."""
    with path.open("rb") as file:
        return file.read(len(PARQUET_MARK)) == PARQUET_MARK
