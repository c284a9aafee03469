"""Which engine answers, as the settings say.

Comes in: the config and the loaded model. Goes out: an `Engine`. Always holds: what cannot be asked is refused before
anything is answered.
"""

from __future__ import annotations

from collections.abc import Callable

from moe_cli.config import MoeConfig
from moe_cli.model.chat_endpoint import ChatEndpoint
from moe_cli.model.endpoint_engine import EndpointEngine
from moe_cli.model.engine import Engine
from moe_cli.model.generate import TransformersEngine
from moe_cli.model.load import LoadedModel
from moe_cli.records import AnswerSettings

EngineOf = Callable[[MoeConfig, LoadedModel, ChatEndpoint | None], Engine]

REFUSAL_TOKENS = 128  # longest refusal that an endpoint is asked to write


def answering_engine(config: MoeConfig, loaded: LoadedModel, endpoint: ChatEndpoint | None) -> Engine:
    """What answers the prompts of `moe prepare`."""
    if endpoint is not None and config.prepare.engine == "openai":
        return EndpointEngine(loaded, endpoint, _settings(config, endpoint), config.endpoint.concurrency)
    return TransformersEngine(loaded, _settings(config, None))


def writing_engine(config: MoeConfig, loaded: LoadedModel, endpoint: ChatEndpoint) -> Engine:
    """What writes refusals."""
    settings = _settings(config, endpoint, max_new_tokens=REFUSAL_TOKENS)
    return EndpointEngine(loaded, endpoint, settings, config.endpoint.concurrency)


def _settings(config: MoeConfig, endpoint: ChatEndpoint | None, *, max_new_tokens: int | None = None) -> AnswerSettings:
    prepare = config.prepare
    sampling = prepare.temperature > 0
    return AnswerSettings(
        engine="transformers" if endpoint is None else "openai",
        base_url=None if endpoint is None else endpoint.url,
        api_model=None if endpoint is None else endpoint.model,
        decoding="sampling" if sampling else "greedy",
        temperature=prepare.temperature,
        top_p=prepare.sampling_top_p if sampling else 1.0,
        seed=config.seed if sampling else None,
        max_new_tokens=max_new_tokens or prepare.max_new_tokens,
        batch_size=prepare.generation_batch_size if endpoint is None else None,
        batch_tokens=prepare.generation_tokens if endpoint is None else None,
        answer_ids="generated" if endpoint is None else "retokenised",
    )
