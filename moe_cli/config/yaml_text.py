"""YAML text to plain values and back, within limits: user files may be very deep, very large or no YAML at all.

An alias stands for everything that it refers to, so a text of a few hundred bytes can expand to more values than fit
into memory: they are counted before they are created.
"""

from __future__ import annotations

import io
import re

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from moe_cli.characters import escape_yaml, is_unsafe

LONGEST_TEXT = 100_000  # characters
MOST_VALUES = 10_000  # of a text, those behind aliases counted wherever they are named
BRACKET = re.compile(r"[\[\]{}]")
DEEPEST = 50  # lists and mappings inside each other


def parse_yaml(text: str) -> object:
    """The one value of a YAML text; None for an empty one.

    Raises:
        ValueError: it is no YAML, or has too many or too deep values; the message says why.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"it has more than {LONGEST_TEXT:,} characters")
    if _bracket_depth(text) > DEEPEST:  # for which the library takes the square of it
        raise ValueError(f"its brackets are nested more than {DEEPEST} deep")
    try:
        root = _yaml().compose(text)
        if root is not None:
            _count(root, {}, 1)
        return _yaml().load(text)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    except _LimitError:
        raise
    except Exception as error:  # the library raises whatever the wrong type of a value raises in it
        raise ValueError(_fault(error)) from error


def _bracket_depth(text: str) -> int:
    """Upper bound of the nesting depth of brackets; those in quotes and comments are counted, too."""
    depth = deepest = 0
    for bracket in BRACKET.findall(text):
        depth = depth + 1 if bracket in "[{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    return deepest


class _LimitError(ValueError):
    """The text has more or deeper values than any settings have."""


def _fault(error: Exception) -> str:
    """What is wrong and where, without the surrounding text, which may contain a key."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return type(error).__name__
    problem = (error.problem or error.context or "").partition(" with value ")[0]
    problem = re.sub(r"""(['"])(?![a-z_.]+\1).*\1""", "(some text)", problem)
    return f"{problem}, line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"


def dump_yaml(config: BaseModel) -> str:
    """YAML that loads to the same config, without characters that are unsafe on a terminal."""
    text = io.StringIO()
    yaml = _yaml()
    yaml.default_flow_style = False
    yaml.representer.add_representer(str, _text)
    yaml.dump(config.model_dump(mode="json"), text)
    return escape_yaml(text.getvalue())


def _count(node: Node, sizes: dict[int, int], depth: int) -> int:
    """Number of values that the node expands to; `sizes` caches those of other nodes.

    Raises:
        _LimitError: too many, too deep, or a node that contains itself.
    """
    if depth > DEEPEST:
        raise _LimitError(f"its values are nested more than {DEEPEST} deep, or hold themselves")
    if id(node) not in sizes:
        size = 1 + sum(_count(part, sizes, depth + 1) for part in _parts(node))
        if size > MOST_VALUES:
            raise _LimitError(f"it holds more than {MOST_VALUES:,} values, counting what aliases repeat")
        sizes[id(node)] = size
    return sizes[id(node)]


def _parts(node: Node) -> list[Node]:
    if not isinstance(node, CollectionNode):
        return []
    return [part for pair in node.value for part in pair] if isinstance(node, MappingNode) else list(node.value)


def _text(representer: SafeRepresenter, text: str) -> ScalarNode:
    """A text node, in double quotes if it has characters that must be escaped."""
    style = '"' if any(map(is_unsafe, text)) else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)  # YAML 1.2: `2e-5` is a number, `no` a string, equal keys are refused
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    return yaml
