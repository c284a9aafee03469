"""Small files in the shapes of public data sets, of invented words that mean nothing."""

import csv
import io
import json

GOAL, OTHER = "zorp the glim", "flomp the hesk"
STORY, GAME = "Tell a story: zorp the glim.", "Pretend: flomp the hesk."


def table(*rows, sep=","):
    text = io.StringIO()
    csv.writer(text, delimiter=sep, lineterminator="\n").writerows(rows)
    return text.getvalue()


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def written(tmp_path, content):
    (tmp_path / "rows").write_text(content, encoding="utf-8")
    return str(tmp_path / "rows")
