"""Rows of parquet and Arrow files, of folders written by `datasets`, and of data set repositories.

A local source is read without the network and leaves nothing in a cache; a hub data set is read at its pinned revision.
Where there are several splits or configurations, the user must name one. `datasets` is imported only when a table is
read, so that everything else starts without it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from moe_cli.data.rows import RawRow
from moe_cli.data.source_names import HUB_PREFIX, NamedSource
from moe_cli.errors import EnvironmentFaultError, MoeError, UsageError
from moe_cli.masking import mask_keys

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a downloaded data set repository."""

    path: str  # on the disk
    name: str  # as it is named in errors: below the folder


def read_folder(source: NamedSource) -> list[RawRow]:
    """The rows of a folder that `datasets` wrote with `save_to_disk`.

    Raises:
        UsageError: it is damaged, or no split was named and it has several.
    """
    from datasets import load_from_disk

    with _silence():
        try:
            saved = load_from_disk(source.place, keep_in_memory=True)
            return _rows(_split_of(saved, source))
        except (MoeError, MemoryError):
            raise
        except Exception as error:  # the library takes the types of its own files for granted
            raise UsageError(
                f"{source.name} is a damaged folder of `datasets`: {_first_line(error)}", hint="save it again"
            ) from error


def repository_files(source: NamedSource) -> list[DataFile]:
    """The files of the named split in a downloaded data set repository, according to its README.

    Raises:
        UsageError: there is no data file, or there are several configurations or splits and none is named.
    """
    from datasets import get_dataset_config_names, load_dataset_builder

    name, folder = source.name.partition("#")[0], Path(source.place)
    config, _, split = (source.split or "").rpartition("/")
    with TemporaryDirectory() as cache, _silence():
        try:
            configs = get_dataset_config_names(source.place)
            if not config and len(configs) > 1:
                config, split = (split, "") if split in configs else ("", split)
                _choose(name, "configurations", configs, config)
            files = load_dataset_builder(source.place, config or None, cache_dir=cache).config.data_files
        except (MoeError, MemoryError):
            raise
        except Exception as error:
            raise UsageError(
                f"{name} is a folder that `datasets` cannot read: {_first_line(error)}",
                hint="name one of its files, or a folder with data files of one kind",
            ) from error
    splits = [str(one) for one in files or {}]
    where = f"{config}/" if config else ""
    chosen = _choose(name, "splits", splits, split or (splits[0] if len(splits) == 1 else ""), where)
    return [
        DataFile(path, f"{name}/{Path(path).relative_to(folder.resolve())}") for path in _local(files[chosen], folder)
    ]


def _local(paths: list[str], folder: Path) -> list[str]:
    return [str((folder / path).resolve()) for path in map(str, paths)]


def _choose(name: str, what: str, there: list[str], chosen: str, where: str = "") -> str:
    if chosen in there:
        return chosen
    reason = f"it has several {what}" if not chosen else f"there is no {what[:-1]} {chosen}"
    raise UsageError(
        f"{name}: {reason}: {', '.join(there)}",
        hint="name one: " + " or ".join(f"'{name}#{where}{one}'" for one in there),
    )


def read_hub(source: NamedSource) -> list[RawRow]:
    """The rows of a hub data set at its revision.

    Raises:
        EnvironmentFaultError: the hub cannot be reached.
        UsageError: no such data set, revision, configuration or split.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # of the client it uses

    try:
        loaded = load_dataset(source.place, source.config, revision=source.revision)
    except (ConnectionError, HTTPError) as error:
        raise EnvironmentFaultError(
            f"the hub cannot be reached for {source.name}: {_first_line(error)}",
            hint="check the network and HF_HUB_OFFLINE, or save the data set to a local folder (save_to_disk)",
        ) from error
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(
            f"{source.name} cannot be read from the hub: {error}", hint="owner/name:CONFIG@COMMIT#SPLIT names it whole"
        ) from error
    except DatasetGenerationError as error:  # its own words can hold a row
        raise UsageError(
            f"{source.name}: `datasets` cannot make one table of its files",
            hint=f"name one of them: {HUB_PREFIX}{source.place}@{source.revision}/PATH",
        ) from error
    return _rows(_split_of(loaded, source))


def remote_bytes(source: NamedSource) -> bytes:
    """The bytes of a file with an address hf://datasets/owner/name@REVISION/path.

    Raises:
        EnvironmentFaultError: it cannot be fetched.
        UsageError: no such file.
    """
    import fsspec
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # of the client it uses

    try:
        with fsspec.open(source.place, "rb") as file:
            return cast(bytes, file.read())
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {source.name}", hint="check the name and the revision") from error
    except (OSError, ValueError, HTTPError) as error:
        raise EnvironmentFaultError(
            f"{source.name} cannot be fetched: {_first_line(error)}", hint="check the network and HF_HUB_OFFLINE"
        ) from error


def _first_line(error: Exception) -> str:
    return mask_keys(str(error).partition("\n")[0])[:200]


def _split_of(loaded: Dataset | DatasetDict, source: NamedSource) -> Dataset:
    if not isinstance(loaded, dict):
        if source.split is None:
            return cast("Dataset", loaded)
        raise UsageError(f"{source.name}: there are no splits to choose from", hint="leave the # and its word away")
    splits: Mapping[str, Dataset] = loaded
    if source.split is None and len(splits) == 1:
        return next(iter(splits.values()))
    return splits[_choose(source.name.partition("#")[0], "splits", list(splits), source.split or "")]


def _rows(table: Dataset) -> list[RawRow]:
    return cast("list[RawRow]", table.to_list())


@contextmanager
def _silence() -> Iterator[None]:
    """Turn off the library's log: it logs a fault before it raises it, and only the error should be shown."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
