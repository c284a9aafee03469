"""How large the rooms of the package are, and how its names keep the rules of the house.

    python -m tests.studies.house

For each room: files, lines, the median file, the largest file and function, and files with one importer; then public
names that two files define, and names that say nothing.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median

import moe_cli

PACKAGE = Path(moe_cli.__file__).parent
TWICE_ALLOWED = ("stage.py", "__init__.py", "__main__.py")
OFTEN_ALLOWED = ("run", "main")  # the one function of every stage, and of every program
BANNED = frozenset(
    (
        *("Chosen", "Found", "Heard", "Material", "Moved", "Offered", "Paired", "Reading", "Rerouted", "Standing"),
        *("Tuned", "Watched", "Work", "Written", "called", "cut", "defused", "detours", "doubts", "filled", "judged"),
        *("meant", "meeting", "moved", "only_experts", "parted", "rerouted", "restored", "said", "sent", "shown"),
        *("spoken", "told", "tuned", "whole_file"),
    )
)
RITUAL = ("Comes in:", "Goes out:", "Always holds:", "come in,", "comes in,", "goes out", "go out")
ROWS = "{:<12} {:>6} {:>7} {:>7}  {:<36} {:<44} {:>12}"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the package."""

    path: Path
    num_lines: int
    docstring: str
    public: tuple[str, ...]  # classes and functions that it defines
    functions: tuple[tuple[int, str], ...]  # lines and name, of methods and nested ones, too
    imports: frozenset[str] = field(default=frozenset())  # modules of the package

    @property
    def room(self) -> str:
        """The directory below the package; "" for a file beside it."""
        return self.path.relative_to(PACKAGE).parts[0] if self.path.parent != PACKAGE else ""

    @property
    def name(self) -> str:
        """Its path below the package."""
        return str(self.path.relative_to(PACKAGE))

    @property
    def module(self) -> str:
        """Its dotted name."""
        parts = self.path.relative_to(PACKAGE.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def source_files() -> tuple[SourceFile, ...]:
    """Every file of the package."""
    return tuple(map(_read, sorted(PACKAGE.rglob("*.py"))))


def _read(path: Path) -> SourceFile:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return SourceFile(
        path=path,
        num_lines=len(text.splitlines()),
        docstring=ast.get_docstring(tree) or "",
        public=tuple(
            node.name
            for node in tree.body
            if isinstance(node, (*definitions, ast.ClassDef)) and not node.name.startswith("_")
        ),
        functions=tuple(
            (1 + (node.end_lineno or 0) - node.lineno, node.name)
            for node in ast.walk(tree)
            if isinstance(node, definitions)
        ),
        imports=frozenset(
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("moe_cli")
            for name in (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))
        ),
    )


def basenames_twice() -> dict[str, list[str]]:
    """File names that stand in two rooms, with their files."""
    by_name = defaultdict(list)
    for file in source_files():
        by_name[file.path.name].append(file.name)
    return {name: files for name, files in by_name.items() if len(files) > 1 and name not in TWICE_ALLOWED}


def public_names_twice() -> dict[str, list[str]]:
    """Public names that two files define, with their files."""
    by_name = defaultdict(list)
    for file in source_files():
        for name in file.public:
            by_name[name].append(file.name)
    return {name: files for name, files in by_name.items() if len(files) > 1 and name not in OFTEN_ALLOWED}


def num_public_names() -> int:
    """How many different public names there are."""
    return len({name for file in source_files() for name in file.public})


def banned_names() -> list[str]:
    """Public names and file names that could stand anywhere."""
    return [
        f"{file.name}: {name}" for file in source_files() for name in (*file.public, file.path.stem) if name in BANNED
    ]


def ritual_docstrings() -> list[str]:
    """Files whose docstring has the words of a form in the place of a sentence."""
    return [file.name for file in source_files() if any(words in file.docstring for words in RITUAL)]


def with_one_importer() -> list[SourceFile]:
    """Files that one other file imports."""
    importers = Counter(name for file in source_files() for name in file.imports - {file.module})
    return [file for file in source_files() if importers[file.module] == 1 and file.path.name != "__init__.py"]


def _rows() -> Iterator[str]:
    yield ROWS.format("room", "files", "lines", "median", "largest file", "largest function", "one importer")
    lone = Counter(file.room for file in with_one_importer())
    rooms = sorted({file.room for file in source_files()})
    for room in [*rooms, "all"]:
        files = [file for file in source_files() if room in ("all", file.room)]
        largest = max(files, key=lambda file: file.num_lines)
        longest = max(
            (size, f"{file.path.stem}.{name}") for file in files for size, name in (file.functions or [(0, "")])
        )
        yield ROWS.format(
            room or "(package)",
            len(files),
            sum(file.num_lines for file in files),
            round(median(file.num_lines for file in files if file.num_lines) if files else 0),
            f"{largest.path.name} {largest.num_lines}",
            f"{longest[1]} {longest[0]}",
            lone.total() if room == "all" else lone[room],
        )


def main() -> None:
    """Print the tables."""
    print("\n".join(_rows()))
    twice = public_names_twice()
    print(f"\npublic names in two files: {len(twice)} of {num_public_names()}")
    for name, files in sorted(twice.items()):
        print(f"  {name}: {', '.join(files)}")
    print(f"file names twice: {basenames_twice() or 'none'}")
    print(f"names that say nothing: {banned_names() or 'none'}")
    print(f"docstrings of a form: {len(ritual_docstrings())}")


if __name__ == "__main__":
    main()
