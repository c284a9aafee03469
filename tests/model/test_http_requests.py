"""One HTTP request: it ends in time whatever the other side does, and sends what the caller says, to whom it says."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from moe_cli.model import http_requests
from moe_cli.model.http_requests import NoReplyError, post_request
from tests.model.served import Reply, completion, served

KEY = {"Authorization": "Bearer sk-not-to-be-seen"}
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
# Of `localhost` and 127.0.0.1, signed by itself, valid until 2120; it protects nothing.
CERTIFICATE = """-----BEGIN EC PRIVATE KEY-----
MHcCAQEEID+mc6OpRm5/kfPNp4RihBFvQNtE0n29rYkEqMsAFD8qoAoGCCqGSM49
AwEHoUQDQgAEmfyrs6Gi+qQlc0P37CareKIatplMYN29JpLcD/vSSffglo8E+5j+
LMWUYwh84Rseib1Sfy4E5ELsSLs8rvYxtw==
-----END EC PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBZzCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJn8q7OhovqkJXND
9+wmq3iiGraZTGDdvSaS3A/70kn34JaPBPuY/izFlGMIfOEbHom9Un8uBORC7Ei7
PK72MbejTjBMMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8E
BTADAQH/MB0GA1UdDgQWBBS76yaenEznqIZ2M/tSC6hJ9Ptn/jAKBggqhkjOPQQD
AgNIADBFAiEA6Uq07bU6jEPHXl99IWkuEPdr9eEymQXeQOgBInd3LrgCIHKaFqPo
80juCanrAIU5TqcOwRP15I2eKUCV2WFdQ/ji
-----END CERTIFICATE-----
"""


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    http_requests._trust.cache_clear()
    yield
    http_requests._trust.cache_clear()


@contextmanager
def listening(serve, certificate=None):
    """The port of a server that gives every connection to `serve`, in TLS if there is a certificate."""
    stopped = threading.Event()

    def accept(server):
        while not stopped.is_set():
            with suppress(OSError), server.accept()[0] as plain:
                plain.settimeout(5.0)
                connection = plain
                if certificate is not None:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(certificate)
                    connection = context.wrap_socket(plain, server_side=True)
                serve(connection, stopped)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        thread = threading.Thread(target=accept, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        stopped.set()
        thread.join()


def good(connection, stopped):
    connection.recv(65536)
    connection.sendall(GOOD)


def silent(connection, stopped):
    stopped.wait()


def post(url, *, body=b"{}", headers=KEY, seconds=5.0, largest=1000):
    return post_request(url, body, headers, seconds=seconds, largest=largest)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("body", [b"{}", bytes(2**25)], ids=["small", "more than a socket takes"])
def test_a_server_that_does_not_even_read_is_left_when_the_time_is_over(scheme, body):
    with listening(silent) as port, pytest.raises(NoReplyError, match=r"^timed out$") as late:
        began = time.monotonic()
        post(f"{scheme}://127.0.0.1:{port}/", body=body, seconds=0.2)
    assert time.monotonic() - began < 3.0 and late.value.reached


def test_headers_without_end_are_left_when_they_are_too_many():
    def endless(connection, stopped):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not stopped.is_set():
            connection.sendall(b"X: zorp\r\n" * 1000)

    with listening(endless) as port, pytest.raises(NoReplyError, match="too long"):
        post(f"http://127.0.0.1:{port}/", seconds=30.0)


def test_nothing_is_unpacked_and_nothing_packed_is_asked_for():
    packed = gzip.compress(bytes(2**24))
    with served(lambda asked, number: Reply(body=packed, headers={"Content-Encoding": "gzip"})) as server:
        assert post(server.url, largest=2**20).body == packed
    with listening(lambda connection, stopped: connection.sendall(GOOD + connection.recv(65536))) as port:
        assert post(f"http://127.0.0.1:{port}/").body == b"{}"


@pytest.mark.parametrize(("variable", "name"), [("SSL_CERT_FILE", "ce275665.0"), ("SSL_CERT_DIR", "")])
def test_a_certificate_of_ones_own_is_trusted_where_the_usual_variables_name_it(tmp_path, monkeypatch, variable, name):
    path = tmp_path / "ce275665.0"  # OpenSSL looks up `CN = localhost` by this hash
    path.write_text(CERTIFICATE)
    monkeypatch.delenv(variable, raising=False)
    with listening(good, path) as port:
        with pytest.raises(NoReplyError, match="CERTIFICATE_VERIFY_FAILED"):
            post(f"https://localhost:{port}/")
        http_requests._trust.cache_clear()
        monkeypatch.setenv(variable, str(tmp_path / name))
        assert post(f"https://localhost:{port}/").body == b"{}"
        with pytest.raises(NoReplyError, match=r"CERTIFICATE_VERIFY_FAILED.*mismatch"):
            post(f"https://127.1:{port}/")


def test_no_password_of_another_file_is_sent(tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login zorp password glim\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with served(lambda asked, number: completion("An apple.")) as server:
        post(server.url)
        post(server.url, headers={})
    assert [asked.key for asked in server.asked] == [KEY["Authorization"], None]


@pytest.mark.parametrize(
    ("variables", "through"),
    [
        ({"http_proxy": "http://127.0.0.1:PORT"}, True),
        ({"HTTP_PROXY": "127.0.0.1:PORT"}, True),
        ({"http_proxy": "http://127.0.0.1:PORT", "no_proxy": "example.com,.invalid"}, False),
        ({"https_proxy": "http://127.0.0.1:PORT"}, False),
        ({"all_proxy": "http://127.0.0.1:PORT"}, False),
    ],
)
def test_the_proxies_of_the_environment_are_used_as_python_does(monkeypatch, variables, through):
    seen = []

    def proxy(connection, stopped):
        seen.append(connection.recv(65536).split(b"\r\n", 1)[0])
        connection.sendall(GOOD)

    with listening(proxy) as port:
        for name, value in variables.items():
            monkeypatch.setenv(name, value.replace("PORT", str(port)))
        if through:
            assert post("http://model.invalid/v1").body == b"{}"
        else:
            with pytest.raises(NoReplyError, match=r"not known|resolution"):
                post("http://model.invalid/v1")
    assert seen == ([b"POST http://model.invalid/v1 HTTP/1.1"] if through else [])


@pytest.mark.parametrize(
    "proxy", ["socks5://zorp:sk-glim@127.0.0.1:1", "ftp://zorp:sk-glim@h", "http://zorp:sk-glim/@h"]
)
def test_a_proxy_that_cannot_be_is_an_error_that_does_not_show_it(monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(NoReplyError) as refused:
        post("http://model.invalid/v1")
    assert not refused.value.reached and "glim" not in str(refused.value)


def test_a_request_can_be_sent_from_where_an_event_loop_runs():
    async def ask(url):
        return post(url).status

    with served(lambda asked, number: completion("An apple.")) as server:
        assert asyncio.run(ask(server.url)) == 200


def test_a_fork_of_a_process_that_has_sent_requests_can_send_its_own():
    with served(lambda asked, number: completion("An apple.")) as server:
        assert post(server.url).status == 200
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            os._exit(post(server.url).status - 200)
        assert os.waitpid(child, 0)[1] == 0


def test_a_process_ends_at_once_and_in_silence_while_requests_are_under_way():
    script = (
        "import sys, threading, time\n"
        "from moe_cli.model.http_requests import post_request\n"
        "ask = lambda: post_request(sys.argv[1], b'{}', {}, seconds=60, largest=9)\n"
        "threading.Thread(target=ask, daemon=True).start()\n"
        "time.sleep(0.5)\n"
    )
    with listening(silent) as port:
        words = [sys.executable, "-c", script, f"http://127.0.0.1:{port}/"]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_that_a_server_sends_is_logged(caplog):
    caplog.set_level(logging.DEBUG)
    with served(lambda asked, number: Reply(401, b"sk-not", {"X": "sk-not"})) as server:
        assert post(server.url).status == 401
    assert "sk-not" not in caplog.text and not re.search("httpx2|httpcore2", caplog.text)


def test_an_address_that_cannot_be_is_not_reached():
    with pytest.raises(NoReplyError) as refused:
        post("http://999.1.1.1/v1")
    assert not refused.value.reached
