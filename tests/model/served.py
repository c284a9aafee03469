"""A local server that speaks the chat completions protocol as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Asked:
    """One request that the server got."""

    path: str
    key: str | None
    body: dict[str, object]

    @property
    def prompt(self) -> str:
        """The last user turn."""
        return self.body["messages"][-1]["content"]


@dataclass
class Reply:
    """What the server sends back; `hang_up` closes the connection without a word."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False
    wait: threading.Event | None = None  # until it is set
    raw: bytes | None = None  # in the place of all of it: a whole reply as it goes over the line


def completion(text: str | None, reason: str = "stop", **more: object) -> Reply:
    """A whole chat completion."""
    message = {"role": "assistant", "content": text, **more}
    document = {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": reason}]}
    return Reply(body=json.dumps(document).encode())


@dataclass
class Served:
    """A running server and what it was asked, in order."""

    url: str
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def served(reply: Callable[[Asked, int], Reply]) -> Iterator[Served]:
    """A server on a free port of this machine; `reply` is given the request and how many came before it."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked = Asked(self.path, self.headers.get("Authorization"), body)
            with lock:
                number = len(found.asked)
                found.asked.append(asked)
            answer = reply(asked, number)
            if answer.wait is not None:
                answer.wait.wait()
            if answer.hang_up:
                self.connection.close()
                return
            if answer.raw is not None:
                self.wfile.write(answer.raw)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):  # the other side, or this one, has hung up
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Served(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
