"""A real server of another project: `transformers serve` answers as the model in this process does."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch
from transformers.utils.import_utils import is_serve_available

from moe_cli.config import EndpointConfig, ModelConfig, MoeConfig, PrepareConfig
from moe_cli.model.chat_endpoint import endpoint_of_prepare
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import TransformersEngine, answering_engine, greedy
from moe_cli.model.load import load_model
from moe_cli.tiny import CHECKPOINT_PATH
from moe_cli.tiny.language import tiny_items

pytestmark = pytest.mark.skipif(
    not is_serve_available(), reason="transformers serve needs fastapi, uvicorn and openai: transformers[serving]"
)

START_SECONDS = 120


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", str(CHECKPOINT_PATH), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    command = [sys.executable, "-m", "transformers.cli.transformers", *words]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_a_served_model_gives_the_tokens_of_the_model_itself(url):
    torch.set_num_threads(1)
    loaded = load_model(ModelConfig(name="tiny", device="cpu"))
    prompts = [Prompt(item.id, item.messages) for item in tiny_items(2, seed=3) if item.kind != "text"]
    config = MoeConfig(
        model=ModelConfig(name="tiny"),
        endpoint=EndpointConfig(base_url=url, model=str(CHECKPOINT_PATH), concurrency=2),
        prepare=PrepareConfig(engine="openai", max_new_tokens=24),
    )
    remote = answering_engine(config, loaded, endpoint_of_prepare(config))
    local = TransformersEngine(loaded, greedy(max_new_tokens=24, batch_size=16))
    found, expected = (
        {answer.prompt_id: (answer.text, answer.token_ids) for group in engine.answers(prompts, ()) for answer in group}
        for engine in (remote, local)
    )
    assert found == expected
