"""Renders a conversation with an untrusted chat template, within limits of time and memory.

A template is a program. jinja's sandbox keeps it from files and from Python, but not from running for hours or from
using up all memory. The memory limit works on Linux, the time limit wherever there are timers; both only in the main
thread, in which every template of this program is rendered. A template that asks for the date gets the same one every
day, so that a prompt is the same in both arms and after an interruption.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import FrameType

from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from transformers import PreTrainedTokenizerBase

from moe_cli.errors import UsageError

MOST_SECONDS = 10.0  # for one conversation; a thousandth of it is usual
MOST_MEMORY = 1 << 30  # bytes beside what the process has
MOST_TEXT = 1 << 24  # characters beside those of the conversation
STATM = Path("/proc/self/statm")
DATE = datetime(2025, 1, 1, 12)  # in every template, whatever the day
CODES = (*"aAbBdHIjmMpSyYxXcDFTReZz", "-d", "-m", "-H", "-I")  # of strftime
HINT = "use the checkpoint with the template that its publisher made for it"


class _LateError(Exception):
    """The time limit of a template is exceeded."""


def render_template(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]], *, answer_next: bool
) -> str:
    """The conversation as text; `answer_next`: up to where the model's answer begins.

    Raises:
        TemplateError: the template refuses the conversation, or is invalid.
        UsageError: it fails, takes too long, or needs more memory or text than any conversation does.
    """
    name = f"the chat template of {tokenizer.name_or_path}"
    try:
        if any(map(_has_no_limit, _templates(tokenizer))):
            raise UsageError(f"{name} raises to a power or adds up lists, which has no limit", hint=HINT)
        with _within_limits():
            text = str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=answer_next))
    except (TemplateError, UsageError):
        raise
    except _LateError:
        raise UsageError(f"{name} takes more than {MOST_SECONDS:g} seconds for one conversation", hint=HINT) from None
    except MemoryError:
        raise UsageError(f"{name} wants more than {MOST_MEMORY >> 20} MiB of memory", hint=HINT) from None
    except Exception as error:  # a template is a program: it raises what its author did not think of
        reason = (str(error).strip() or "no reason").splitlines()[0]
        raise UsageError(f"{name} fails: {type(error).__name__}: {reason}", hint=HINT) from error
    if len(text) > MOST_TEXT + 8 * sum(len(turn["content"]) for turn in turns):
        raise UsageError(f"{name} makes {len(text):,} characters of one conversation", hint=HINT)
    return text


def fix_date(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make its template show `DATE` for the current day (`strftime_now`); this changes the digest of the template."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        tokenizer.chat_template = {name: _dated(text) for name, text in template.items()}
    elif isinstance(template, str):
        tokenizer.chat_template = _dated(template)


def _dated(template: str) -> str:
    if "strftime_now" not in template:
        return template
    codes = "".join(f"|replace('%{code}', '{DATE.strftime('%' + code)}')" for code in CODES)
    return f"{{% macro strftime_now(format) %}}{{{{ format{codes} }}}}{{% endmacro %}}{template}"


def _templates(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    template: object = tokenizer.chat_template
    if isinstance(template, dict):  # several by name
        return tuple(text for text in template.values() if isinstance(text, str))
    return (template,) if isinstance(template, str) else ()


@contextmanager
def _within_limits() -> Iterator[None]:
    """Limit time and memory of the block, as far as the system supports that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _in_time(), _in_memory():
        yield


@contextmanager
def _in_time() -> Iterator[None]:
    if not hasattr(signal, "setitimer"):
        yield
        return
    handler = signal.signal(signal.SIGALRM, _stop)
    before = signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _LateError


@contextmanager
def _in_memory() -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit_of_process = int(STATM.read_bytes().split()[0]) * resource.getpagesize() + MOST_MEMORY
    limits = [limit for limit in (limit_of_process, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@lru_cache(maxsize=8)
def _has_no_limit(template: str) -> bool:
    """Whether it contains operations that no timer can interrupt: a power, or a sum of lists.

    Raises:
        TemplateSyntaxError: it is no valid template.
    """
    tree = Environment(extensions=[_Generation, "jinja2.ext.loopcontrols"]).parse(template)
    sums = (filtered for filtered in tree.find_all(nodes.Filter) if filtered.name == "sum")
    return any(tree.find_all(nodes.Pow)) or any(len(one.args) > 1 or one.kwargs or one.dyn_kwargs for one in sums)


class _Generation(Extension):
    """`{% generation %}`, by which templates mark the answer."""

    tags = {"generation"}  # noqa: RUF012 (as jinja names it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The nodes inside the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
