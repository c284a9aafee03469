"""Of several processes that make one output exactly one does, whole; what is there is never replaced."""

import multiprocessing
import os
from pathlib import Path

import pytest

from moe_cli.artifacts.locks import new_directory, new_file
from moe_cli.errors import ArtifactError, LockedError, MoeError, UsageError

WAYS = (new_directory, new_file)


def write(staging, text):
    """What an export does: several files in a directory, or one."""
    if not staging.is_dir():
        staging.write_text(text * 1000)
        return
    for number in range(5):
        (staging / f"{number}.txt").write_text(text * 1000)


def content(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file.read_text() for file in files]


def make(way, path, text, start, results):
    start.wait()
    try:
        with way(path) as staging:
            write(staging, text)
        results.put(("made", text))
    except MoeError as error:
        results.put((type(error).__name__, text))


@pytest.mark.parametrize("way", WAYS)
def test_of_processes_at_once_one_makes_it_whole_and_the_others_are_refused(tmp_path, way):
    context = multiprocessing.get_context("fork")
    for number in range(10):
        path = tmp_path / str(number) / "out"
        start, results = context.Event(), context.SimpleQueue()
        workers = [context.Process(target=make, args=(way, path, text, start, results)) for text in "abc"]
        for worker in workers:
            worker.start()
        start.set()
        for worker in workers:
            worker.join(30)
        assert [worker.exitcode for worker in workers] == [0] * 3
        found = [results.get() for _ in workers]
        (winner,) = [text for what, text in found if what == "made"]
        assert {what for what, _ in found} <= {"made", "LockedError", "UsageError", "ArtifactError"}
        assert content(path) == [winner * 1000] * (5 if way is new_directory else 1)
        assert [entry.name for entry in path.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("way", WAYS)
def test_a_second_one_is_refused_while_the_first_is_made(tmp_path, way):
    with way(tmp_path / "out") as staging:
        write(staging, "a")
        with pytest.raises(LockedError, match="another run is writing to"), way(tmp_path / "out"):
            pass
        with way(tmp_path / "other") as beside:
            write(beside, "b")
    assert content(tmp_path / "out")[0] == "a" * 1000 and content(tmp_path / "other")[0] == "b" * 1000


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["a file", "a directory", "a link to nowhere"])
def test_what_is_there_before_or_comes_in_between_is_left_as_it_is(tmp_path, way, what):
    def put(path):
        if what == "a file":
            path.write_text("precious")
        elif what == "a directory":
            path.mkdir()
            (path / "precious").write_text("precious")
        else:
            path.symlink_to(tmp_path / "nowhere")

    put(tmp_path / "before")
    with pytest.raises(UsageError, match="before exists"), way(tmp_path / "before"):
        pass
    with pytest.raises(ArtifactError, match="came to be while it was made"), way(tmp_path / "between") as staging:
        write(staging, "a")
        put(tmp_path / "between")
    for name in ("before", "between"):
        path = tmp_path / name
        assert path.is_symlink() if what == "a link to nowhere" else content(path) == ["precious"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["before", "between"]


@pytest.mark.parametrize("way", WAYS)
def test_one_that_fails_leaves_nothing_and_what_a_killed_one_left_is_removed(tmp_path, way):
    with pytest.raises(RuntimeError), way(tmp_path / "not/there/out") as staging:
        write(staging, "a")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    left = [tmp_path / ".out.partial", tmp_path / ".out.0badcafe.partial"]
    for directory in left:
        directory.mkdir()
        (directory / "half").write_text("a")
    (tmp_path / ".out.txt.0badcafe.partial").write_text("of another output")
    with way(tmp_path / "out") as staging:
        write(staging, "a")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".out.txt.0badcafe.partial", "out"]


def test_a_file_system_without_hard_links_is_no_fault(tmp_path, monkeypatch):
    def no_links(*_: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with new_file(tmp_path / "out") as temporary:
        write(temporary, "a")
    assert content(tmp_path / "out") == ["a" * 1000]
    with pytest.raises(ArtifactError, match="came to be"), new_file(tmp_path / "between") as temporary:
        write(temporary, "a")
        (tmp_path / "between").write_text("precious")
    assert content(tmp_path / "between") == ["precious"]


@pytest.mark.parametrize("way", WAYS)
def test_what_was_left_by_a_process_killed_after_its_last_step_goes_when_the_output_is_asked_for_again(tmp_path, way):
    with way(tmp_path / "out") as staging:
        write(staging, "a")
    for left in ([".out.lock"], [".out.0badcafe.partial"], [".out.lock", ".out.0badcafe.partial"]):
        for name in left:
            (tmp_path / name).touch()
        with pytest.raises(UsageError, match="exists"), way(tmp_path / "out"):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
