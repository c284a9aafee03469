"""Separates the reasoning of an answer from what was said aloud; only the latter is judged.

An answer without a reasoning mark is returned unchanged; one whose reasoning never ended is returned as None, since
nothing was said; `reasoning_spans` says where reasoning stands. If the chat template opens the reasoning itself, the
answer holds only the closing mark: `opening_of` finds the opening mark at the end of the prompt, and the code that
makes the answer prepends it.
"""

from __future__ import annotations

import re

NAMES = "think|thinking|thought|reasoning|seed:think"  # DeepSeek, Qwen, GLM, MiniMax and many more; Seed-OSS
OPEN = rf"<(?:{NAMES})>|\[THINK\]|◁think▷|<\|START_THINKING\|>|<\|channel>|<\|begin_of_thought\|>"
CLOSE = rf"</(?:{NAMES})>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<channel\|>|<\|end_of_thought\|>"
# Harmony, the format of gpt-oss: channels, of which `final` is said aloud; then what is left of it without its marks.
CHANNEL = r"<\|channel\|>(?:analysis|commentary|final)"
FINAL = r"<\|channel\|>final[^<]*<\|message\|>(.*?)(?=<\|(?:end|return|start|channel|call)\|>|\Z)"
BARE = r"\A(?:analysis|commentary)(?=[A-Z\"“<]|.*assistantfinal)"
BARE_END = "assistantfinal"
BARE_FINAL = r"\Afinal(?=[A-Z])"
HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>")
# How the mark that ends reasoning differs from the one that opens it.
ENDS = (("<|START", "<|END"), ("<|begin", "<|end"), ("<|channel>", "<channel|>"), ("[", "[/"), ("◁", "◁/"), ("<", "</"))
PATTERNS = (OPEN, CLOSE, CHANNEL, FINAL, BARE, BARE_FINAL)

_OPEN, _CLOSE, _CHANNEL = (re.compile(pattern, re.IGNORECASE) for pattern in (OPEN, CLOSE, CHANNEL))
_BLOCK = re.compile(f"(?:{OPEN}).*?(?:{CLOSE})", re.DOTALL | re.IGNORECASE)
_FINAL, _BARE, _BARE_FINAL = (re.compile(pattern, re.DOTALL) for pattern in (FINAL, BARE, BARE_FINAL))


def strip_reasoning(answer: str) -> str | None:
    """The answer without reasoning; None if the reasoning never ended."""
    if _CHANNEL.search(answer):
        return "".join(_FINAL.findall(answer)) if _FINAL.search(answer) else None
    if _BARE.match(answer):
        _, final, text = answer.rpartition(BARE_END)
        return text if final else None
    text = _CLOSE.split(_BLOCK.sub("", _BARE_FINAL.sub("", answer)))[-1]
    return None if _OPEN.search(text) else text


def reasoning_spans(answer: str) -> tuple[tuple[int, int], ...]:
    """Where in an answer its reasoning stands: what `strip_reasoning` cuts away, marks included, from letter to letter.

    What follows the last words said aloud (the end of turn) is no reasoning; reasoning that never ended is.
    """
    spans, end = [], 0
    for start, stop in (*_spoken_spans(answer), (len(answer), len(answer))):
        if start > end:
            spans.append((end, start))
        end = max(end, stop)
    return tuple(spans)


def _spoken_spans(answer: str) -> list[tuple[int, int]]:
    if _CHANNEL.search(answer):
        finals = [found.span(1) for found in _FINAL.finditer(answer)]
        return [(start, _end_of_turn(answer, end)) for start, end in finals]
    if _BARE.match(answer):
        final = answer.rfind(BARE_END)
        return [] if final < 0 else [(final + len(BARE_END), len(answer))]
    bare = _BARE_FINAL.match(answer)
    spans, start = [], bare.end() if bare else 0
    for block in _BLOCK.finditer(answer, start):
        spans.append((start, block.start()))
        start = block.end()
    spans.append((start, len(answer)))
    said_from = max((close.end() for span in spans for close in _CLOSE.finditer(answer, *span)), default=0)
    spans = [(max(start, said_from), end) for start, end in spans if end >= said_from]
    opened = min((found.start() for span in spans if (found := _OPEN.search(answer, *span))), default=len(answer))
    return [(start, min(end, opened)) for start, end in spans if start <= opened]


def _end_of_turn(answer: str, end: int) -> int:
    """The end of the answer if no further channel begins after `end`, else `end`."""
    return end if _CHANNEL.search(answer, end) else len(answer)


def is_marked(answer: str) -> bool:
    """Whether the answer contains a reasoning mark."""
    return any(mark in answer for mark in HARMONY) or any(pattern.search(answer) for pattern in (_OPEN, _CLOSE))


def is_mark(token: str) -> bool:
    """Whether a token is a reasoning mark or part of one."""
    return token in HARMONY or any(pattern.fullmatch(token) for pattern in (_OPEN, _CLOSE))


def opening_of(prompt: str) -> str:
    """The reasoning mark at the end of a prompt, after which the answer begins inside reasoning; else empty."""
    opened = re.search(rf"(?:{OPEN})\s*\Z", prompt, re.IGNORECASE)
    return opened[0].strip() if opened else ""


def with_empty_reasoning(opening: str, answer: str) -> str:
    """The answer with empty reasoning before it, where the prompt opened the reasoning with this mark."""
    start, end = next(pair for pair in ENDS if opening.startswith(pair[0]))
    return f"{opening}\n{opening.replace(start, end, 1)}\n\n{answer}"
