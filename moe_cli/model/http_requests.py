"""HTTP requests: each with a time limit for the whole exchange, and several at once in threads.

A body that is too large is not read further, and one that breaks off is no reply. A redirect is not followed, and what
is sent is what the caller says: nothing of `~/.netrc`, no cookie. Certificates are checked against the store of OpenSSL
(`SSL_CERT_FILE`, `SSL_CERT_DIR`), and proxies are those of `http_proxy`, `https_proxy` and `no_proxy`.

Results of threads come in groups of as many as are ready, so that each group can be written at once. At most `BACKLOG`
items per thread are started and not yet taken by the caller. The first error stops the rest and is raised after the
results that came before it were returned; an interruption likewise. Leaving early does not wait: no new item is
started, and the threads end with the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import TypeVar
from urllib.parse import urlsplit

from moe_cli.masking import mask_keys
from moe_cli.signals import deferred_interruption

NOT_REACHED = (ConnectionRefusedError, socket.gaierror)
Item = TypeVar("Item")
Result = TypeVar("Result")
Done = queue.SimpleQueue[Result | BaseException]

LOOK_UP = 0.2  # seconds after which a waiting main thread looks whether it was interrupted
BACKLOG = 2  # pieces of one thread that are begun, or done and not taken


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


def results_as_they_come(
    work: Callable[[Item], Result], items: Sequence[Item], *, num_threads: int
) -> Iterator[list[Result]]:
    """The results of `work(item)` for every item, in order of completion, in groups.

    Raises:
        KeyboardInterrupt: interrupted; the results so far were returned.
    """
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    done: Done[Result] = queue.SimpleQueue()
    stopped, room = threading.Event(), threading.Semaphore(BACKLOG * num_threads)
    for item in items:
        waiting.put(item)

    def take() -> None:
        while room.acquire() and not stopped.is_set():
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put(work(item))
            except BaseException as error:  # crosses to the thread that asked
                stopped.set()
                done.put(error)

    for _ in range(min(num_threads, len(items))):
        threading.Thread(target=take, daemon=True).start()
    try:
        with deferred_interruption() as interruption:
            num_left = len(items)
            while num_left:
                group, error = _next_group(done, interruption.is_set)
                if error is not None:
                    stopped.set()
                if group:
                    yield group
                    room.release(len(group))
                if error is not None:
                    raise error
                num_left -= len(group)
    finally:
        stopped.set()
        room.release(num_threads)  # who waits for room sees that there is nothing to do


def _next_group(done: Done[Result], interrupted: Callable[[], bool]) -> tuple[list[Result], BaseException | None]:
    """All results that are ready, at least one, and the error or interruption that ends the work."""
    group: list[Result] = []
    while not interrupted():
        try:
            result = done.get(timeout=0 if group else LOOK_UP)
        except queue.Empty:
            if group:
                return group, None
            continue
        if isinstance(result, BaseException):
            return group, result
        group.append(result)
    while not done.empty():
        if isinstance(result := done.get(), BaseException):
            return group, result
        group.append(result)
    return group, KeyboardInterrupt()
