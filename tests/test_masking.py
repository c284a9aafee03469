"""A key that a server repeats, in any way that is common, is in nothing that is kept or shown; plain words stay."""

import json
import socket
import threading
from urllib.parse import quote

import pytest

from moe_cli import masking
from moe_cli.cli.options import TypedSettings
from moe_cli.cli.session import open_session
from moe_cli.config import EndpointConfig, JudgeConfig, load_config
from moe_cli.errors import MoeError, UsageError
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.judge import Exchange
from moe_cli.masking import MASK, keep_secret, mask_answer, mask_keys
from moe_cli.model.chat_endpoint import ChatEndpoint, chat_endpoint
from moe_cli.records import Message
from tests.coded_keys import FORMS, KEY, KEY_OF_A_SERVICE, visible
from tests.model.served import Reply, completion, served

QUESTION = (Message(role="user", content="Name a fruit."),)
CODED = {name: form(KEY) for name, form in FORMS.items()}


@pytest.fixture(autouse=True)
def no_keys_of_other_tests(monkeypatch):
    monkeypatch.setattr(masking, "_KEYS", set())


@pytest.mark.parametrize("coded", CODED.values(), ids=CODED)
def test_a_key_is_masked_however_it_is_coded(coded):
    keep_secret(KEY)
    for mask in (mask_keys, mask_answer):
        assert MASK in mask(f"before {coded} after") and not visible(mask(f"before {coded} after"))
        assert mask("an answer without one: sk-, Zorp, the Glim") == "an answer without one: sk-, Zorp, the Glim"


@pytest.mark.parametrize("key", ["EMPTY", "none", "password", "abc"])
def test_a_key_that_is_a_plain_word_stays_in_answers(key):
    keep_secret(key)
    text = f"The box is {key}."
    assert mask_answer(text) == text
    assert mask_keys(text) == f"The box is {MASK}."


def test_what_stands_in_variables_that_are_named_as_keys_are_is_masked():
    environment = {
        "HF_TOKEN": KEY,
        "SSH_KEY": "/home/zorp/.ssh/id_of_the_glim",
        "MY_PASSWORD": "short",
        "OTHER": "x" * 30,
    }
    masking.keep_environment_secret(environment)
    text = " ".join(environment.values())
    assert mask_keys(text) == mask_answer(text) == text.replace(KEY, MASK)


@pytest.mark.parametrize("key", [KEY_OF_A_SERVICE, "hf_" + "Zorp1" * 7, "ghp_" + "aB3" * 12])
def test_what_has_the_form_of_a_key_is_masked_in_errors_alone(key):
    assert mask_keys(f"typed {key} here") == f"typed {MASK} here"
    assert mask_answer(f"typed {key} here") == f"typed {key} here"
    for plain in ("sk-learn-0.24", "hf_models/allenai/OLMoE-1B-7B-0125-Instruct", "prepare-20260101-000000-0badcafe"):
        assert mask_keys(plain) == plain


@pytest.mark.parametrize("assignment", ["judge.model={}", "model.name={}", "evaluate.judges=['command:prog --key {}']"])
def test_a_setting_that_holds_a_key_is_refused(monkeypatch, assignment):
    monkeypatch.setenv("ZORP", KEY)
    for key in (KEY, KEY_OF_A_SERVICE):
        with pytest.raises(UsageError, match="holds a key, and settings are written to the results") as refused:
            open_session(typed_assignments("judge.key_env=ZORP", assignment.format(key)))
        assert not visible(refused.value.message, key)
    assert open_session(typed_assignments("judge.key_env=ZORP", assignment.format("glim"))).config


def typed_assignments(*assignments):
    return TypedSettings(values={}, config=None, assignments=assignments)


def outcome(reply):
    """All that a request leaves: its answer, or the words of its error."""
    with served(lambda asked, number: reply) as server:
        try:
            return ChatEndpoint(server.url, "m", KEY, 5.0, 1, lambda _: None).complete(QUESTION).text
        except MoeError as error:
            return f"{error.message} {error.hint}"


@pytest.mark.parametrize("coded", CODED.values(), ids=CODED)
@pytest.mark.parametrize(
    "reply",
    [
        *(lambda coded, status=status: Reply(status, coded.encode()) for status in (200, 400, 401, 404, 429, 500)),
        lambda coded: Reply(200, (" " * 70 + coded).encode()),  # where the excerpt is cut
        lambda coded: Reply(400, (" x" * 195 + coded).encode()),
        lambda coded: Reply(200, json.dumps({"error": f"bad key {coded}"}).encode()),
        lambda coded: completion(f"my key is {coded}"),
        lambda coded: Reply(302, headers={"Location": f"/{quote(coded)}"}),
        lambda coded: Reply(429, b"wait", headers={"Retry-After": quote(coded)}),
    ],
)
def test_nothing_that_a_server_says_brings_the_key_back(reply, coded):
    found = outcome(reply(coded))
    assert found and not visible(found)


def test_a_status_line_that_is_the_key_is_not_shown():
    def serve(server):
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(f"{KEY} {KEY}\r\n\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        with pytest.raises(MoeError) as refused:
            ChatEndpoint(url, "m", KEY, 5.0, 1, lambda _: None).complete(QUESTION)
    assert "illegal status line" in refused.value.message and not visible(refused.value.message)


@pytest.mark.parametrize("text", [f"Bearer {KEY}", f"#1 x {KEY}", "z" * 70 + KEY, ""], ids=range(4))
def test_the_verdict_of_a_judge_that_repeats_the_key_does_not_hold_it(text):
    settings = JudgeConfig(model="m", key_env="JUDGE_KEY", retries=0)
    exchange = Exchange(kind="harmful", messages=QUESTION, answer="An apple.")
    for reply in (completion(text), completion(text, "length"), Reply(200, text.encode()), Reply(400, text.encode())):
        with served(lambda asked, number, reply=reply: reply) as server:
            named = settings.model_copy(update={"base_url": server.url})
            (judge,) = judges_of(["strongreject"], named, {"JUDGE_KEY": KEY})
            (verdict,) = judge.verdicts([exchange])
        assert not visible(repr(verdict)) and not visible(repr(judge.identity))


def said(**words):
    """The words of the error with which settings are refused."""
    with pytest.raises(UsageError) as refused:
        load_config(**{"file": None, "environment": {}, "assignments": (), "flags": {}, **words})
    return f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize(
    "words",
    [
        {"assignments": [f"judge.api_key={KEY}"]},
        {"assignments": [f"endpoint.key={KEY}"]},
        {"assignments": [KEY.replace("=", "")]},
        {"assignments": [f"judge.key_env=['{KEY}']"]},
        {"assignments": [f"judge.key_env={KEY}"]},
        {"assignments": [f"judge='{KEY}'"]},
        {"assignments": [f"endpoint.base_url=['https://me:{KEY}@host/v1']"]},
        {"flags": {"judge.key_env": KEY}},
        {"flags": {"endpoint.key_env": KEY}},
        {"flags": {"endpoint.base_url": f"https://me:{KEY}@host/v1"}},
        {"flags": {"endpoint.base_url": f"https://host/v1?key={KEY}"}},
        {"environment": {"MOE_JUDGE__KEY_ENV": KEY}},
    ],
    ids=str,
)
def test_a_key_that_was_typed_in_the_place_of_something_else_is_not_shown(words):
    assert not visible(said(**words))


@pytest.mark.parametrize(
    "text",
    ['judge:\n  api_key: "{}', "judge: {{key: {}, key: 1}}", "judge:\n  key: {}\n  key: 2", "a: {}: b", "a: [{}\nb: 1"],
)
def test_a_settings_file_that_is_no_yaml_is_refused_by_its_line_without_its_text(tmp_path, text):
    file = tmp_path / "moe.yaml"
    file.write_text(text.format(KEY))
    found = said(file=file)
    assert "is not valid YAML: " in found and ", line " in found and not visible(found)


@pytest.mark.parametrize("word", [KEY, f"commnd:TOKEN={KEY} prog", f"command:TOKEN={KEY} prog", f"command:'{KEY}"])
def test_a_judge_that_is_misspelt_is_refused_without_the_words_after_it(word):
    with pytest.raises(UsageError) as refused:
        judges_of([word], JudgeConfig(), {})
    assert not visible(refused.value.message + refused.value.hint)


def test_a_key_in_the_place_of_the_variables_name_is_not_shown():
    key = "hf_ZorpTheGlim0123456789"
    with pytest.raises(UsageError) as refused:
        chat_endpoint(EndpointConfig(base_url="http://h/v1", key_env=key), "m", {})
    assert key not in refused.value.message + refused.value.hint and "--api-key-env" in refused.value.message


def test_an_address_that_holds_the_key_is_refused_before_it_is_written():
    config = EndpointConfig(base_url=f"http://h/{quote(KEY, safe='')}/v1", key_env="API_KEY")
    with pytest.raises(UsageError, match="holds a key"):
        chat_endpoint(config, "m", {"API_KEY": KEY})


def test_what_a_program_that_judges_prints_of_the_key_is_masked(tmp_path):
    keep_secret(KEY)
    script = tmp_path / "judge.py"
    exchange = Exchange(kind="harmful", messages=QUESTION, answer="An apple.")
    lines = (f'{{"id": "0", "harmful": false, "reason": "{KEY}"}}', f"{KEY} is no JSON", "")
    for line in lines:
        script.write_text(f"import sys\nprint({line!r})\nprint({KEY!r}, file=sys.stderr)\nsys.exit({not line})")
        (judge,) = judges_of([f"command:python {script}"], JudgeConfig(retries=0), {})
        try:
            found = repr(judge.verdicts([exchange]))
        except MoeError as error:
            found = error.message
        assert MASK in found and not visible(found)
