"""What `moe push` sends: every file with its size, and the page."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import Push
from moe_cli.views.numbers import bytes_text
from moe_cli.views.safe import safe_text


def pushed_view(push: Push) -> RenderableType:
    """The files with their sizes; the page itself where nothing was sent yet."""
    table = Table("file", "size", "sha256")
    for file in push.files:
        table.add_row(safe_text(file.name), bytes_text(file.num_bytes), file.sha256[:12])
    table.add_row("README.md", bytes_text(len(push.card.encode())), "written now")
    total = safe_text(f"{len(push.files) + 1} files, {bytes_text(push.num_bytes)} and the page")
    if push.url is not None:
        return Group(table, total)
    return Group(table, total, Text(), *map(safe_text, push.card.splitlines()))
