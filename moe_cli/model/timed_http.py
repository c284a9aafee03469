"""HTTP requests with a time limit for the whole exchange, however slowly the other side sends.

Every read waits at most for the remaining time, so that a server that sends a byte now and then blocks nobody. A body
that is too large or breaks off is an error; a redirect is not followed.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
import urllib.request
from functools import partial
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class TooLargeError(Exception):
    """The body is larger than the limit."""


def body_of(request: urllib.request.Request, *, seconds: float, largest: int) -> bytes:
    """The body of the response, of at most `largest` bytes, read completely within the time.

    Raises:
        urllib.error.HTTPError: a status other than success; its body can be read within the time too.
        OSError, http.client.HTTPException: it cannot be reached, breaks off, or takes too long.
        TooLargeError: the body has more bytes.
    """
    opener = urllib.request.build_opener(NoRedirect, TimedHandler, TimedSecureHandler)
    with opener.open(request, timeout=seconds) as response:
        data: bytes = response.read(largest + 1)
        if len(data) > largest:
            raise TooLargeError(f"more than {largest:,} bytes")
        if response.length:  # of what was announced
            raise http.client.IncompleteRead(data, response.length)
    return data


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would send the key to another address."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> None:
        """None, so that the redirect is an HTTP error."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class TimedHandler(urllib.request.HTTPHandler):
    """Opens http with a time limit for the whole exchange."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """The response; its body ends in time too."""
        return self.do_open(partial(_timed, http.client.HTTPConnection), req)


class TimedSecureHandler(urllib.request.HTTPSHandler):
    """Opens https with a time limit for the whole exchange; certificates are checked as usual."""

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """The response; its body ends in time too."""
        return self.do_open(partial(_timed, http.client.HTTPSConnection), req)


class TimedResponse(http.client.HTTPResponse):
    """A response of which every read ends when the time is over."""

    def __init__(self, sock: socket.socket, *, method: str | None = None, ends: float) -> None:
        super().__init__(sock, method=method)
        self.fp = io.BufferedReader(TimedReader(sock, self.fp, ends))


class TimedReader(io.RawIOBase):
    """A stream from a socket that ends when the time is over."""

    def __init__(self, sock: socket.socket, stream: io.BufferedReader, ends: float) -> None:
        super().__init__()
        self._sock = sock
        self._stream = stream  # keeps the socket open until it is closed
        self._ends = ends  # of `time.monotonic()`

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Number of bytes read; 0 at the end.

        Raises:
            TimeoutError: the time is over.
        """
        seconds_left = self._ends - time.monotonic()
        if seconds_left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(seconds_left)
        return self._stream.readinto1(buffer)

    def close(self) -> None:
        """Close the socket too."""
        self._stream.close()
        super().close()


def _timed(
    kind: type[http.client.HTTPConnection],
    host: str,
    *,
    port: int | None = None,
    timeout: float = 0.0,
    source_address: tuple[str, int] | None = None,
) -> http.client.HTTPConnection:
    connection = kind(host, port, timeout=timeout, source_address=source_address)
    response = partial(TimedResponse, ends=time.monotonic() + timeout)
    connection.response_class = cast(type[http.client.HTTPResponse], response)
    return connection
