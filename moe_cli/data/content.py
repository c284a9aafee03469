"""The bytes of a user's file as text: decompressed, with the encoding detected from the bytes.

The type of a file is never taken from its name. A file that holds no text is refused for what it is: a pickle is not
called "not UTF-8", and an archive is not called a damaged table.
"""

from __future__ import annotations

import io
import lzma
import pickletools
import re
import sys
import zipfile
import zlib
from typing import IO, cast

from fsspec.compression import compr

from moe_cli.errors import UsageError

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError

LARGEST_TEXT = 4 * 2**30  # bytes after decompression
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
ENCODING_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# What begins so, what it is, and what to do about it.
NO_TEXT = (
    (b"%PDF", "a PDF", "export the rows as CSV or JSON"),
    (b"\x89PNG", "a picture", "bring the rows as CSV or JSON"),
    (b"\xff\xd8\xff", "a picture", "bring the rows as CSV or JSON"),
    (b"GIF8", "a picture", "bring the rows as CSV or JSON"),
    (b"SQLite format 3\x00", "an SQLite database", "export a table of it as CSV"),
    (b"\x89HDF", "an HDF5 file", "export the rows as CSV or JSON"),
    (b"\x93NUMPY", "a NumPy array", "export the rows as CSV or JSON"),
    (b"FEA1", "a Feather file of version 1", "write it again as parquet"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word document", "save the sheet as CSV UTF-8"),
)
TAR_MARK, TAR_MARK_AT = b"ustar", 257
PICKLE = re.compile(rb"\x80[\x02-\x05]")
PICKLED_TEXT = b"p0\n"  # protocol 0 numbers what it holds, each number on a line
GIT_LFS = "version https://git-lfs.github.com/spec/"
WEB_PAGE = re.compile(r"\s*<(!doctype\s+html|html\b|\?xml\b)", re.IGNORECASE)


def decompress(content: bytes, name: str) -> bytes:
    """The content without its compression (gzip, bzip2, xz, zstandard, a zip of one file); `name` is for errors.

    Raises:
        UsageError: the compressed bytes are damaged, larger than 4 GiB unpacked, or an archive of several files.
    """
    if content.startswith(b"PK\x03\x04"):
        return _only_member(content, name)
    compression = next((kind for mark, kind in COMPRESSIONS.items() if content.startswith(mark)), None)
    return content if compression is None else _unpacked(content, compression, name)


def text_of_bytes(content: bytes, name: str) -> str:
    """The decoded content: UTF-8 with or without a byte order mark, UTF-16 or UTF-32.

    Raises:
        UsageError: it is no text, or text in another encoding; the message says which.
    """
    _refuse_binary(content, name)
    encoding = next((code for mark, code in ENCODING_MARKS if content.startswith(mark)), None) or _unmarked(content)
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        label = "UTF-8" if encoding.startswith("utf-8") else encoding.upper()
        raise UsageError(
            f"{name} is not {label} text: byte {error.start} is 0x{content[error.start]:02x}",
            hint=f"save it as UTF-8; of Windows text: iconv -f CP1252 -t UTF-8 {name}",
        ) from error
    _refuse_strange_text(text, name)
    return text


def _unpacked(content: bytes, compression: str, name: str) -> bytes:
    if compression not in compr:
        raise UsageError(f"{name} is compressed with {compression}, which is not installed here", hint="unpack it")
    try:
        with compr[compression](io.BytesIO(content)) as file:
            return _read_bounded(cast("IO[bytes]", file), name)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, ZstdError) as error:
        raise UsageError(
            f"{name} is damaged: its {compression} data cannot be unpacked", hint="copy it again"
        ) from error


def _read_bounded(file: IO[bytes], name: str) -> bytes:
    content = file.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:
        raise UsageError(f"{name} unpacks to more than {LARGEST_TEXT:,} bytes", hint="split it into smaller files")
    return content


def _only_member(content: bytes, name: str) -> bytes:
    """The one file of a zip archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [
                one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX")
            ]
            _refuse_known_archive([one.filename for one in members], name)
            if len(members) != 1:
                raise UsageError(f"{name} is a zip archive of {len(members)} files", hint="unpack it and name one")
            with archive.open(members[0]) as file:
                return _read_bounded(file, name)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UsageError(
            f"{name} is a zip archive that cannot be unpacked: {error}", hint="unpack it by hand"
        ) from error


def _refuse_known_archive(members: list[str], name: str) -> None:
    if "[Content_Types].xml" in members:
        raise UsageError(f"{name} is an Office document, not a table of text", hint="save the sheet as CSV UTF-8")
    if any(member.endswith("data.pkl") for member in members):
        raise UsageError(f"{name} is a pickle of torch, which could run code when it is read", hint="export it as JSON")
    if members and all(member.endswith(".npy") for member in members):
        raise UsageError(f"{name} is an archive of NumPy arrays", hint="export the rows as CSV or JSON")


def _refuse_binary(content: bytes, name: str) -> None:
    if PICKLE.match(content) or _is_pickle_of_text(content):
        raise UsageError(f"{name} is a pickle, which could run code when it is read", hint="export it as JSON")
    for mark, what, remedy in NO_TEXT:
        if content.startswith(mark):
            raise UsageError(f"{name} is {what}, not a table of text", hint=remedy)
    if content[TAR_MARK_AT : TAR_MARK_AT + len(TAR_MARK)] == TAR_MARK:
        raise UsageError(f"{name} is a tar archive", hint="unpack it and name the file or folder")


def _is_pickle_of_text(content: bytes) -> bool:
    """Whether the content is a pickle of protocol 0, which is printable: parsed to its end, and never run."""
    if not content.endswith(b".") or PICKLED_TEXT not in content:
        return False
    try:
        *_, (_, _, stop) = pickletools.genops(content)
    except ValueError:
        return False
    return stop == len(content) - 1


def _unmarked(content: bytes) -> str:
    """The encoding of text without a byte order mark: UTF-8, or UTF-16 if every other of the first bytes is NUL."""
    start = content[:4096]
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if odd > len(start) // 4 and not even:
        return "utf-16-le"
    return "utf-16-be" if even > len(start) // 4 and not odd else "utf-8"


def _refuse_strange_text(text: str, name: str) -> None:
    if "\x00" in text[:4096]:
        raise UsageError(f"{name} is no text: it holds NUL bytes", hint="bring the rows as CSV, JSON or parquet")
    if text.startswith(GIT_LFS):
        raise UsageError(f"{name} is a pointer of Git LFS, not the file itself", hint="git lfs pull fetches it")
    if WEB_PAGE.match(text):
        raise UsageError(f"{name} is a web page or XML, not a table of text", hint="download the raw file")
