"""Every place of a reply in which a server can repeat the key that it was sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

from tests.model.served import Reply, completion

REFUSALS = (400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 529)
GOOD = {"index": 0, "message": {"role": "assistant", "content": "1_full_compliance"}, "finish_reason": "stop"}
DEEP = 2_000
END_OF_ERROR = 4_000  # bytes; what reads a part of an error ends near here


def _document(**fields: object) -> Reply:
    return Reply(body=json.dumps({"id": "1", "choices": [GOOD], **fields}).encode())


def _choice(**fields: object) -> Reply:
    return _document(choices=[{**GOOD, **fields}])


def _message(**fields: object) -> Reply:
    return _choice(message={"role": "assistant", "content": "1_full_compliance", **fields})


def _raw(head: str, body: str = "") -> Reply:
    return Reply(raw=f"{head}\r\n\r\n{body}".encode())


def _refusals() -> dict[str, Callable[[str], Reply]]:
    places: dict[str, Callable[[str], Reply]] = {}
    for status in REFUSALS:
        places[f"{status} text"] = lambda key, status=status: Reply(status, key.encode())
        places[f"{status} JSON"] = lambda key, status=status: Reply(
            status, json.dumps({"error": {"message": f"Incorrect API key provided: {key}.", "code": key}}).encode()
        )
    return places


REPLIES: dict[str, Callable[[str], Reply]] = {
    "content": completion,
    "content, among words": lambda key: completion(f"zorp the glim with {key} at once"),
    "content of a verdict": lambda key: completion(f"it is {key}\n1_full_compliance"),
    "content, many words": lambda key: completion("zorp " * 200 + key),
    "content, cut off": lambda key: completion(f"zorp {key} " + "glim " * 10, "length"),
    "content, cut off after it": lambda key: completion(f"zorp {key}", "length"),
    "content, reasoning": lambda key: completion(f"<think>{key}</think>I cannot. {key}"),
    "content, a list": lambda key: _message(content=[{"type": "text", "text": key}]),
    "refusal": lambda key: _message(content=None, refusal=key),
    "role": lambda key: _message(role=key),
    "reasoning": lambda key: _message(reasoning_content=key),
    "field of the message": lambda key: _message(**{key: key}),
    "finish_reason": lambda key: _choice(finish_reason=key),
    "finish_reason, a list": lambda key: _choice(finish_reason=[key]),
    "model": lambda key: _document(model=key),
    "id": lambda key: _document(id=key),
    "usage": lambda key: _document(usage={"completion_tokens": key, key: 1}),
    "key of the document": lambda key: _document(**{key: [key]}),
    "error in place of choices": lambda key: Reply(body=json.dumps({"error": f"bad key {key}"}).encode()),
    "choices that are a text": lambda key: _document(choices=key),
    "no JSON": lambda key: Reply(body=f"Bearer {key}".encode()),
    "no JSON, where it is cut": lambda key: Reply(body=(" " * 70 + key).encode()),
    "no JSON, after spaces": lambda key: Reply(body=(" " * 20_000 + key).encode()),
    "no JSON, UTF-16": lambda key: Reply(body=f"no {key}".encode("utf-16")),
    "no JSON, with NUL": lambda key: Reply(body=b"\0".join(bytes([byte]) for byte in key.encode())),
    "events": lambda key: Reply(body=f"data: {json.dumps({'key': key})}\n\ndata: [DONE]\n".encode()),
    "HTML": lambda key: Reply(502, f"<html><body><h1>{key}</h1></body></html>".encode()),
    "depth": lambda key: Reply(body=("[" * DEEP + json.dumps(key) + "]" * DEEP).encode()),
    **_refusals(),
    "400 where it is cut": lambda key: Reply(400, ("x " * 195 + key).encode()),
    "400 at the end of what is read": lambda key: Reply(400, (" " * (END_OF_ERROR - 15) + key).encode()),
    "400 at the end, long": lambda key: Reply(400, (" " * (2**16 - 15) + key).encode()),
    "400 UTF-16": lambda key: Reply(400, key.encode("utf-16")),
    "400 cut": lambda key: Reply(400, key.encode(), {"Content-Length": "9000"}),
    "Retry-After": lambda key: Reply(429, b"wait", {"Retry-After": quote(key)}),
    "Location": lambda key: Reply(302, b"", {"Location": f"/v1/{quote(key, safe='')}"}),
    "Location elsewhere": lambda key: Reply(307, b"", {"Location": f"http://127.0.0.1:1/{quote(key, safe='')}"}),
    "Location, no address": lambda key: Reply(301, b"", {"Location": f"http://[{quote(key)}"}),
    "Set-Cookie": lambda key: Reply(401, b"", {"Set-Cookie": quote(key)}),
    "WWW-Authenticate": lambda key: Reply(401, b"", {"WWW-Authenticate": f'Bearer realm="{quote(key)}"'}),
    "Content-Length": lambda key: _raw(f"HTTP/1.1 200 OK\r\nContent-Length: {quote(key)}", key),
    "Content-Type": lambda key: Reply(200, key.encode(), {"Content-Type": f"text/plain; charset={quote(key)}"}),
    "Transfer-Encoding": lambda key: _raw(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {quote(key)}", key),
    "status line": _raw,
    "status line, status": lambda key: _raw(f"HTTP/1.1 {key} OK"),
    "status line, version": lambda key: _raw(f"HTTP/{key} 200 OK"),
    "status line, reason": lambda key: _raw(f"HTTP/1.1 401 {key}\r\nContent-Length: 0"),
    "header that is none": lambda key: _raw(f"HTTP/1.1 200 OK\r\n{key}\r\nContent-Length: 2", "{}"),
    "header that is too long": lambda key: _raw(f"HTTP/1.1 200 OK\r\nX: {key * 9000}"),
    "headers without end": lambda key: _raw("HTTP/1.1 200 OK\r\n" + "\r\n".join(f"X: {key}" for _ in range(200))),
    "cut": lambda key: Reply(200, key.encode(), {"Content-Length": "9000"}),
    "chunked": lambda key: _raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", f"{len(key):x}\r\n{key}\r\n0\r\n\r\n"),
    "size of a chunk": lambda key: _raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", f"{key}\r\n{key}\r\n"),
    "chunked, cut": lambda key: _raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", f"fff\r\n{key}"),
    "nothing but it": lambda key: Reply(raw=key.encode()),
}
