"""Logs of inspect as tests need them, in JSON and as archives, with members compressed as inspect compresses them."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pyarrow as pa

from moe_cli.data import inspect_zip

HEADER = {"version": 2, "status": "success", "eval": {"task": "zorping", "model": "glim/small"}}


def sample(id: object = "a", epoch: int = 1, **other: object) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": "ANSWER: 7"}, "stop_reason": "stop"}
    return {
        "id": id,
        "epoch": epoch,
        "input": "zorp the glim",
        "target": "7",
        "output": {"model": "glim/small", "choices": [choice], "completion": "ANSWER: 7"},
        "scores": {"match": {"value": "C", "answer": "7"}},
        **other,
    }


def json_log(path: Path, *samples: dict[str, Any], **header: object) -> Path:
    path.write_text(json.dumps({**HEADER, **header, "samples": list(samples)}))
    return path


def eval_log(path: Path, *samples: dict[str, Any], method: int = ZIP_DEFLATED, **header: object) -> Path:
    """An archive as inspect writes it; Python's own writer knows no zstd, so those members are written by hand."""
    members = {"_journal/start.json": HEADER, "header.json": {**HEADER, **header}, "summaries.json": []}
    members |= {f"samples/{each['id']}_epoch_{each['epoch']}.json": each for each in samples}
    if method == inspect_zip.ZSTD:
        path.write_bytes(zstd_archive({name: json.dumps(value).encode() for name, value in members.items()}))
        return path
    with ZipFile(path, "w", method) as archive:
        for name, value in members.items():
            archive.writestr(name, json.dumps(value))
    return path


def zstd_archive(members: dict[str, bytes]) -> bytes:
    body, directory = b"", b""
    for name, content in members.items():
        packed = pa.compress(content, codec="zstd", asbytes=True)
        sizes = struct.pack("<III", zlib.crc32(content), len(packed), len(content))
        fixed = struct.pack("<HHHHH", 63, 0, inspect_zip.ZSTD, 0, 0x21) + sizes + struct.pack("<HH", len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 63) + fixed
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\x03\x04" + fixed + name.encode() + packed
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end
