"""Reading one file of answers: its format, its answers, the rows without an answer, and the bad rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from moe_cli.data import ColumnMap, Kind, RowFault, Table, digest_of_source, read_table, refuse_bad_rows, source_of
from moe_cli.data.inspect_logs import InspectLog, inspect_log_in
from moe_cli.data.labels import OF_PROMPT, labels_of
from moe_cli.data.rows import BadRowError, is_missing
from moe_cli.data.source_names import kind_and_source
from moe_cli.data.tables import OF_PRODIGY
from moe_cli.data.turns import LIKE_PRINTED_TEXTS
from moe_cli.errors import UsageError
from moe_cli.evaluate.answer_formats import ANSWER_FORMATS, AnswerFormat, answer_format
from moe_cli.evaluate.answer_rows import FileAnswer, RowAnswers, inspect_answers
from moe_cli.records import AnswerFile
from moe_cli.records.inputs import ItemKind

MODELS = ("model", "model_name", "model_id", "target_model", "generator", "checkpoint")


@dataclass(slots=True)
class FileOfAnswers:
    """One file of answers, and what became of its rows."""

    name: str
    sha256: str
    format: str
    model: str | None
    num_rows: int
    answers: list[FileAnswer] = field(default_factory=list)
    num_used: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[RowFault] = field(default_factory=list)
    columns: frozenset[str] = frozenset()  # as they are written, in the form in which names are compared
    unread: tuple[str, ...] = ()

    def take(self, row: RowAnswers, kind: Kind | None = None) -> None:
        """Add the answers of one row, or count why it is skipped; `kind` is that of its label."""
        if isinstance(row, str):
            self.skipped[row] += 1
        else:
            self.answers += [replace(answer, kind=kind or answer.kind) for answer in row]
            self.num_used += 1

    def record(self) -> AnswerFile:
        """The record of this file for a summary."""
        return AnswerFile(
            name=self.name,
            sha256=self.sha256,
            format=self.format,
            model=self.model,
            rows=self.num_rows,
            used=self.num_used,
            answers=len(self.answers),
            cut_off=sum(answer.finished is False for answer in self.answers),
            finished=sum(answer.finished is True for answer in self.answers),
            skipped=dict(self.skipped),
            kinds=dict(self.kinds),
            unread=self.unread,
        )


def read_answers(source: str, columns: ColumnMap) -> FileOfAnswers:
    """Read the file of an argument `FILE` or `KIND=FILE`; `columns` are those that the user mapped.

    Raises:
        UsageError: it cannot be read as a whole, is of no known format, or says another kind than the argument.
    """
    forced, name = kind_and_source(source)
    file = _read(name, columns)
    if forced is not None:
        _say_kind(file, forced)
    return file


def _say_kind(file: FileOfAnswers, kind: ItemKind) -> None:
    """Give every answer the kind that the user named."""
    if kind == "text":
        raise UsageError(f"{file.name}: no answers are to texts", hint="harmful=FILE or benign=FILE")
    other = sum(answer.kind not in (None, kind) for answer in file.answers)
    if other:
        raise UsageError(
            f"{file.name} ({file.format}): {other:,} of {len(file.answers):,} answers are not to {kind} prompts, by the"
            " file itself",
            hint=f"leave {kind}= away: the file says the kind of every answer",
        )
    file.answers = [replace(answer, kind=kind) for answer in file.answers]


def _read(name: str, columns: ColumnMap) -> FileOfAnswers:
    source = source_of(name, accepted=ANSWER_FORMATS)
    path = Path(source.place)
    log = inspect_log_in(path) if source.kind == "file" else None
    if log is not None:
        return _of_log(log, source.name, digest_of_source(path))
    return _of_table(read_table(source, columns), columns)


def _of_log(log: InspectLog, name: str, digest: str) -> FileOfAnswers:
    suffix = "" if log.status == "success" else f", not complete: its status is {log.status}"
    file = FileOfAnswers(name, digest, f"log of inspect{suffix}", log.model, len(log.samples))
    for row in inspect_answers(log, name):
        file.take(row)
    return file


def _of_table(table: Table, columns: ColumnMap) -> FileOfAnswers:
    refuse_bad_rows(table.faults, 0, hint=ANSWER_FORMATS)
    if not table.rows:
        raise UsageError(f"{table.source.name} holds no rows", hint=ANSWER_FORMATS)
    row_format = _format_of(table, columns)
    _refuse_models(table)
    parameters = table.header.get("parameters")
    model = parameters.get("model") if isinstance(parameters, dict) else None
    file = FileOfAnswers(
        table.source.name, table.sha256, row_format.name, model if isinstance(model, str) else None, len(table.rows)
    )
    labels = labels_of(table, taken=table.keys() - set(OF_PROMPT) - columns.keys())  # others could be of the answer
    for location, row in table.rows:
        try:
            file.take(row_format.read(row, location), labels.kind_of(row)[0])
        except BadRowError as error:
            file.faults.append(RowFault(location, error.reason))
    _refuse_printed_lists(file)
    file.columns, file.unread = frozenset(table.names), table.unread()
    return file


def _refuse_printed_lists(file: FileOfAnswers) -> None:
    """Refuse answers that are all printed lists: each may hold several answers to its prompt."""
    if len(file.answers) > 1 and all(LIKE_PRINTED_TEXTS.fullmatch(answer.text) for answer in file.answers):
        raise UsageError(
            f"{file.name}: every answer is a printed list of texts, each of which could be an answer",
            hint="write a row for every answer, or JSON Lines in which a prompt has a list of answers",
        )


def _refuse_models(table: Table) -> None:
    """Refuse a file with the answers of several models: they are several arms, not answers of one."""
    for column in MODELS:
        models = {str(value).strip() for _, row in table.rows if not is_missing(value := row.peek(column))}
        if len(models) > 1:
            raise UsageError(
                f"{table.source.name} holds answers of {len(models)} models by its column `{column}`",
                hint=f"write a file for each model; --map name={column} leaves the column out",
            )


def _format_of(table: Table, columns: ColumnMap) -> AnswerFormat:
    """The one format of all files of a source.

    Raises:
        UsageError: none, or a folder holds files of several.
    """
    keys: dict[str, set[str]] = {}
    for location, row in table.rows:
        verdict = {"answer"} if OF_PRODIGY in row else set()
        keys.setdefault(location.source, set()).update(row.keys() - verdict)
    if len(keys) == 1:
        return answer_format(next(iter(keys.values())), table.source.name, columns)
    formats = {
        file_format.name: file_format
        for file, file_keys in keys.items()
        for file_format in [answer_format(file_keys, file, columns)]
    }
    if len(formats) > 1:
        raise UsageError(
            f"{table.source.name} holds files of several formats: {', '.join(formats)}",
            hint="name every file with an --answers of its own",
        )
    return answer_format(set().union(*keys.values()), table.source.name, columns)
