"""One HTTP request with a time limit for the whole exchange, however slowly the other side sends.

A body that is too large is not read further, and one that breaks off is no reply. A redirect is not followed, and what
is sent is what the caller says: nothing of `~/.netrc`, no cookie. Certificates are checked against the store of OpenSSL
(`SSL_CERT_FILE`, `SSL_CERT_DIR`), and proxies are those of `http_proxy`, `https_proxy` and `no_proxy`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from moe_cli.masking import mask_keys

NOT_REACHED = (ConnectionRefusedError, socket.gaierror)


class NoReplyError(Exception):
    """There was no whole reply in time; the message holds nothing that the server sent."""

    def __init__(self, message: str, *, reached: bool = True) -> None:
        super().__init__(message)
        self.reached = reached  # False: nobody listens at the address


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """What a server replied."""

    status: int
    headers: Mapping[str, str]  # names in any case
    body: bytes
    whole: bool  # False: the body is longer; or it breaks off, with a status that is no success

    @property
    def is_success(self) -> bool:
        """Whether the status says so."""
        return 200 <= self.status < 300


def post_request(url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, largest: int) -> HttpReply:
    """The reply to a POST, within the time; a body of more than `largest` bytes is left there.

    Raises:
        NoReplyError: it cannot be reached, breaks off, takes too long, or does not speak HTTP.
    """
    exchange = asyncio.run_coroutine_threadsafe(_exchange(url, body, headers, seconds, largest), _loop(os.getpid()))
    try:
        return exchange.result()
    finally:
        exchange.cancel()  # nothing, unless the caller is interrupted


async def _exchange(url: str, body: bytes, headers: Mapping[str, str], seconds: float, largest: int) -> HttpReply:
    """The reply; a transport alone follows no redirect, keeps no cookie and reads no `~/.netrc`."""
    import httpx2

    response, content, whole = None, bytearray(), False
    try:
        async with asyncio.timeout(seconds), httpx2.AsyncHTTPTransport(verify=_trust(), proxy=_proxy_of(url)) as line:
            request = httpx2.Request("POST", url, content=body, headers={**headers, "Connection": "close"})
            response = await line.handle_async_request(request)
            async with aclosing(response):
                async for part in response.aiter_raw():
                    content += part
                    if len(content) > largest:
                        break
                else:
                    whole = True
    except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        if response is None or response.is_success:
            raise _no_reply(error) from None
    return HttpReply(status=response.status_code, headers=response.headers, body=bytes(content), whole=whole)


@cache
def _loop(process: int) -> asyncio.AbstractEventLoop:
    """An event loop in a thread of its own: the caller's may run one (a notebook). A fork has none of the threads."""
    logging.getLogger("httpcore2").setLevel(logging.WARNING)  # it would log what servers send
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


@cache
def _trust() -> ssl.SSLContext:
    """Whom to trust, read once: it takes longer than a request."""
    return ssl.create_default_context()


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for an address of this scheme and host."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.netloc):
        return None
    address = proxy if "://" in proxy else f"http://{proxy}"
    if not address.startswith(("http://", "https://")):
        raise NoReplyError(f"the proxy of {parts.scheme}_proxy is none of http:// or https://", reached=False)
    return address


def _no_reply(error: Exception) -> NoReplyError:
    """The error in the words of the system, which the libraries wrap."""
    import httpx2

    cause = _first_cause(error)
    if isinstance(error, TimeoutError):
        text = "timed out"
    elif isinstance(error, httpx2.InvalidURL):
        text = "the address, or that of its proxy, cannot be one"  # it may hold a password
    elif isinstance(error, httpx2.RemoteProtocolError):
        text = str(error).partition(":")[0]  # what follows are bytes of the reply, which may be half of a key
    elif isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno and cause.errno > 0:
        text = f"[Errno {cause.errno}] {os.strerror(cause.errno)}"
    else:
        text = str(cause)
    reached = not isinstance(error, httpx2.InvalidURL) and not isinstance(cause, NOT_REACHED)
    return NoReplyError(mask_keys(text) or type(cause).__name__, reached=reached)


def _first_cause(error: BaseException) -> BaseException:
    inner = error.exceptions[-1] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__
    return error if inner is None else _first_cause(inner)
