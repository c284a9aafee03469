"""One request to an endpoint: tried again where that helps, refused with a reason where it does not."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from moe_cli.codec import decode, encode
from moe_cli.config import EndpointConfig
from moe_cli.errors import EnvironmentFaultError, UsageError
from moe_cli.model import chat_endpoint as chat_endpoint_file
from moe_cli.model.chat_endpoint import (
    LONGEST_PAUSE,
    ChatEndpoint,
    Completion,
    NoAnswerError,
    NoCompletionError,
    chat_endpoint,
)
from moe_cli.records import Generation, Message
from tests.builders import generation
from tests.model.served import Reply, completion, served

QUESTION = (Message(role="system", content="Be brief."), Message(role="user", content="Name a fruit."))
KEY = "sk-not-to-be-seen"


def endpoint(url, *, key=None, retries=3, timeout=5.0, pauses=None):
    pause = (lambda seconds: None) if pauses is None else pauses.append
    return ChatEndpoint(url, "tiny", key, timeout, retries, pause)


def test_a_question_is_asked_in_the_protocol_and_its_answer_read():
    with served(lambda asked, number: completion(" An apple. ")) as server:
        found = endpoint(server.url, key=KEY).complete(QUESTION, max_tokens=7, temperature=0.0)
    (asked,) = server.asked
    assert found == Completion("An apple.", finished=True)
    assert (asked.path, asked.key) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert asked.body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a fruit."}],
        "stream": False,
        "max_tokens": 7,
        "temperature": 0.0,
    }


def test_without_a_key_none_is_sent():
    with served(lambda asked, number: completion("An apple.")) as server:
        endpoint(server.url).complete(QUESTION)
    assert server.asked[0].key is None


@pytest.mark.parametrize(
    ("reason", "finished"),
    [
        *((reason, True) for reason in ("stop", "STOP", "eos_token", "eos", "end_turn", "stop_sequence")),
        *((reason, False) for reason in ("length", "max_tokens", "content_filter", "tool_calls")),
    ],
)
def test_only_an_answer_that_stopped_by_itself_is_finished(reason, finished):
    with served(lambda asked, number: completion("An", reason)) as server:
        assert endpoint(server.url).complete(QUESTION) == Completion("An", finished)


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_the_server_gave_up_is_asked_for_again_and_never_taken(reason):
    with served(
        lambda asked, number: completion("An" if number < 2 else "An apple.", "stop" if number > 1 else reason)
    ) as server:
        assert endpoint(server.url).complete(QUESTION) == Completion("An apple.", finished=True)
    with (
        served(lambda asked, number: completion("An", reason)) as server,
        pytest.raises(NoAnswerError, match=f"failed 4 times, the last time with: finish_reason {reason}"),
    ):
        endpoint(server.url).complete(QUESTION)
    assert len(server.asked) == 4


@pytest.mark.parametrize("reason", [None, "", "zorp", 5, ["stop"], f"because of {KEY}"])
def test_an_answer_of_which_nobody_knows_whether_it_is_whole_is_none(reason):
    with (
        served(lambda asked, number: completion("An", reason)) as server,
        pytest.raises(NoCompletionError, match="does not say whether an answer is whole") as refused,
    ):
        endpoint(server.url, key=KEY).complete(QUESTION)
    assert "stop" in refused.value.hint and KEY not in refused.value.message


def test_no_content_is_an_empty_answer():
    with served(lambda asked, number: completion(None)) as server:
        assert endpoint(server.url).complete(QUESTION) == Completion("", finished=True)


@pytest.mark.parametrize("bad", [Reply(429), Reply(500), Reply(503), Reply(529), Reply(hang_up=True)])
def test_what_may_pass_is_tried_again_with_growing_pauses(bad):
    pauses: list[float] = []
    with served(lambda asked, number: bad if number < 3 else completion("An apple.")) as server:
        found = endpoint(server.url, pauses=pauses).complete(QUESTION)
    assert found.text == "An apple."
    assert pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(("asked_for", "paused"), [("7", 7.0), ("9999", LONGEST_PAUSE), ("Wed, 21 Oct", 1.0)])
def test_a_server_that_says_how_long_to_wait_is_heard(asked_for, paused):
    pauses: list[float] = []
    wait = Reply(429, headers={"Retry-After": asked_for})
    with served(lambda asked, number: wait if number == 0 else completion("An apple.")) as server:
        endpoint(server.url, pauses=pauses).complete(QUESTION)
    assert pauses == [paused]


def test_a_server_that_keeps_failing_is_an_error_of_the_environment():
    with (
        served(lambda asked, number: Reply(500, b"out of\nmemory")) as server,
        pytest.raises(EnvironmentFaultError, match=r"failed 4 times, the last time with: status 500 out of memory"),
    ):
        endpoint(server.url).complete(QUESTION)
    assert len(server.asked) == 4


def test_a_server_that_does_not_answer_in_time_is_left():
    never = threading.Event()
    with (
        served(lambda asked, number: Reply(wait=never)) as server,
        pytest.raises(EnvironmentFaultError, match=r"failed 2 times, the last time with: .*timed out"),
    ):
        endpoint(server.url, retries=1, timeout=0.05).complete(QUESTION)
    never.set()


@contextmanager
def dripping(at_once):
    """A server whose answer is whole and good, and comes byte by byte after the first `at_once` bytes."""
    body = completion("An apple.").body
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    stopped = threading.Event()

    def serve(server):
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(answer[:at_once])
            for byte in answer[at_once:]:
                if stopped.wait(0.02):
                    return
                connection.sendall(bytes([byte]))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        stopped.set()
        thread.join()


@pytest.mark.parametrize("at_once", [5, 60], ids=["head", "body"])
def test_a_server_that_sends_a_byte_now_and_then_is_left_when_the_time_of_the_try_is_over(at_once):
    with dripping(at_once) as url, pytest.raises(EnvironmentFaultError, match="failed once, with: timed out"):
        endpoint(url, retries=0, timeout=0.3).complete(QUESTION)


def test_an_https_address_is_spoken_to_in_tls():
    with (
        served(lambda asked, number: completion("An apple.")) as server,
        pytest.raises(EnvironmentFaultError, match="SSL"),
    ):
        endpoint(server.url.replace("http:", "https:"), retries=0).complete(QUESTION)
    assert server.asked == []


def test_a_server_that_sends_slowly_within_the_time_is_heard():
    with dripping(150) as url:
        assert endpoint(url, retries=0, timeout=30.0).complete(QUESTION).text == "An apple."


def test_an_answer_that_breaks_off_is_tried_again():
    whole = completion("An apple.")
    cut = Reply(body=whole.body, headers={"Content-Length": str(len(whole.body) + 9)})
    with served(lambda asked, number: cut if number == 0 else whole) as server:
        assert endpoint(server.url).complete(QUESTION).text == "An apple."
    assert len(server.asked) == 2


def test_an_answer_that_is_too_large_is_none(monkeypatch):
    monkeypatch.setattr(chat_endpoint_file, "LARGEST", 1000)
    with (
        served(lambda asked, number: completion("apple " * 200)) as server,
        pytest.raises(NoCompletionError, match="no chat completion: more than 1,000 bytes"),
    ):
        endpoint(server.url).complete(QUESTION)
    with served(lambda asked, number: completion("apple")) as server:
        assert endpoint(server.url).complete(QUESTION).text == "apple"


def test_a_gigantic_answer_is_left_after_the_largest_that_is_read():
    with (
        served(lambda asked, number: Reply(body=bytes(chat_endpoint_file.LARGEST + 2**20))) as server,
        pytest.raises(NoCompletionError, match="no chat completion: more than 16,777,216 bytes"),
    ):
        endpoint(server.url).complete(QUESTION)


@pytest.mark.parametrize("text", ["zorp\0the", "zorp \ud800 glim", "\udfff", "\x1b[31m\x07"])
def test_an_answer_can_be_kept_whatever_signs_it_has(text):
    with served(lambda asked, number: completion(text)) as server:
        found = endpoint(server.url).complete(QUESTION)
    kept = generation("1", found.text, answer_ids="retokenised")
    assert decode(Generation, encode(kept), source="") == kept


def test_a_refusal_whose_reason_never_comes_is_a_refusal():
    late = Reply(401, headers={"Content-Length": "100"})
    with (
        served(lambda asked, number: late) as server,
        pytest.raises(UsageError, match=r"with status 401$"),
    ):
        endpoint(server.url, timeout=5.0).complete(QUESTION)


def test_a_server_that_is_not_there_is_an_error_of_the_environment():
    with served(lambda asked, number: completion("")) as server:
        gone = server.url
    with pytest.raises(EnvironmentFaultError, match="refused"):
        endpoint(gone, retries=0).complete(QUESTION)


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>hello</html>",
        b"",
        b"[]",
        b"null",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": "An apple.", "finish_reason": "stop"}]}',
        b"\xff\xfe",
        b"[" * 2_000 + b"]" * 2_000,
        b'{"choices": ' + b"[" * 200_000,
        b"\0" * 20,
    ],
)
def test_what_is_no_chat_completion_is_an_error_and_never_an_answer(garbage):
    with (
        served(lambda asked, number: Reply(body=garbage)) as server,
        pytest.raises(EnvironmentFaultError, match="no chat completion"),
    ):
        endpoint(server.url).complete(QUESTION)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refused_request_is_not_repeated_and_the_key_is_not_told(status):
    with (
        served(lambda asked, number: Reply(status, b'{"error": "no such model"}')) as server,
        pytest.raises(UsageError, match=f"with status {status} .*no such model") as refused,
    ):
        endpoint(server.url, key=KEY).complete(QUESTION)
    assert len(server.asked) == 1
    assert KEY not in str(refused.value) + refused.value.hint


def test_a_redirect_takes_the_key_nowhere():
    with served(lambda asked, number: completion("An apple.")) as other:
        away = Reply(302, headers={"Location": f"{other.url}/chat/completions"})
        with (
            served(lambda asked, number: away) as server,
            pytest.raises(UsageError, match="status 302"),
        ):
            endpoint(server.url, key=KEY).complete(QUESTION)
    assert other.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["http://[zorp", "file:///etc/passwd", "//", "http://127.0.0.1:1/"])
def test_a_redirect_to_anywhere_is_an_error_of_its_status(status, place):
    away = Reply(status, headers={"Location": place})
    with (
        served(lambda asked, number: away) as server,
        pytest.raises(UsageError, match=f"status {status}$"),
    ):
        endpoint(server.url, key=KEY).complete(QUESTION)
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_an_answer_without_its_reasoning_is_refused_as_it_cannot_be_replayed(name):
    with (
        served(lambda asked, number: completion("An apple.", **{name: "The user wants a fruit."})) as server,
        pytest.raises(UsageError, match="takes the reasoning out"),
    ):
        endpoint(server.url).complete(QUESTION)


def test_the_key_comes_from_the_environment_and_is_never_shown():
    config = EndpointConfig(base_url="http://localhost:1/v1/", key_env="THE_KEY")
    found = chat_endpoint(config, "owner/name", {"THE_KEY": KEY})
    assert (found.url, found.model, found.key) == ("http://localhost:1/v1", "owner/name", KEY)
    assert KEY not in repr(found)
    assert KEY not in config.model_dump_json()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EndpointConfig(), "none is named"),
        (EndpointConfig(base_url="http://localhost:1", key_env="THE_KEY"), "THE_KEY should hold the endpoint's key"),
    ],
)
def test_an_endpoint_without_address_or_key_is_refused(config, message):
    with pytest.raises(UsageError, match=message):
        chat_endpoint(config, "tiny", {"THE_KEY": ""})


@pytest.mark.parametrize("key", [f"{KEY}\r", f"{KEY}\n", f"{KEY}\u20ac", f"{KEY}\xe4", f"not {KEY}", f"{KEY}\0"])
def test_what_no_header_can_carry_is_no_key_and_is_not_told(key):
    config = EndpointConfig(base_url="http://localhost:1/v1", key_env="THE_KEY")
    with pytest.raises(UsageError, match="THE_KEY holds white space or a sign") as refused:
        chat_endpoint(config, "tiny", {"THE_KEY": key})
    assert KEY not in str(refused.value) + refused.value.hint
