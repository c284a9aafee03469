"""The zip archive of an `.eval` log of inspect, whichever way its members are compressed.

inspect compresses with zstd since 2025, which Python's own zip reader supports from 3.14 on. No member is read beyond a
fixed bound, nor beyond the size that the archive states for it.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 14):
    from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError
    from backports.zstd.zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from moe_cli.errors import UsageError

LARGEST_MEMBER = 2**28  # bytes; a sample with its whole transcript is far below
ZSTD = 93  # APPNOTE 6.3.8, 4.4.5
ENCRYPTED = 0x1
ZIP_MARK = b"PK\x03\x04"
HINT = "copy the file again from where inspect wrote it; `inspect log dump FILE` shows whether it is whole"


@dataclass(frozen=True, slots=True)
class LogArchive:
    """An open archive."""

    path: Path
    zip: ZipFile

    def members(self) -> dict[str, ZipInfo]:
        """Every member by name; of duplicates the last one, as inspect appends what it changes."""
        return {info.filename: info for info in self.zip.infolist()}

    def content(self, info: ZipInfo) -> bytes:
        """The content of a member.

        Raises:
            UsageError: damaged, encrypted, too large, or compressed in a way that inspect does not use.
        """
        if info.flag_bits & ENCRYPTED:
            raise self._fault(info, "is encrypted", "save the log without a password")
        if info.file_size > LARGEST_MEMBER:
            raise self._fault(
                info,
                f"states {info.file_size:,} bytes, and at most {LARGEST_MEMBER:,} are read",
                "a log of inspect has one member for each sample; was this file made by inspect?",
            )
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED, ZSTD):
            raise self._fault(
                info,
                f"is compressed by the method {info.compress_type} of zip",
                "stored, deflated and zstd members are read: `inspect log convert` writes the log anew",
            )
        try:
            with self.zip.open(info) as member:
                return bytes(member.read(info.file_size + 1))  # a size bounds what is unpacked at once
        except (BadZipFile, zlib.error, ZstdError, EOFError, OSError) as error:
            raise self._fault(info, f"is damaged: {error}", HINT) from error

    def _fault(self, info: ZipInfo, reason: str, hint: str) -> UsageError:
        return UsageError(f"{self.path}: the member {info.filename} {reason}", hint=hint)


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip archive does."""
    with path.open("rb") as file:
        return file.read(len(ZIP_MARK)) == ZIP_MARK


@contextmanager
def open_archive(path: Path) -> Iterator[LogArchive]:
    """The archive, closed afterwards.

    Raises:
        UsageError: it has no list of members, as a file that was cut short has none.
    """
    try:
        archive = ZipFile(path)
    except BadZipFile as error:
        raise UsageError(f"{path} is a zip archive that is cut short or damaged: {error}", hint=HINT) from error
    with archive:
        yield LogArchive(path, archive)
