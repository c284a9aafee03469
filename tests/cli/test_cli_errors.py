"""What a person can fix is two lines and an exit code; everything else shows its traceback."""

import errno
import sys
import warnings

import pytest

from moe_cli.artifacts import Store
from moe_cli.cli.app import main
from moe_cli.errors import (
    ArtifactError,
    EnvironmentFaultError,
    LockedError,
    NumericError,
    StoppedError,
    UnscoredError,
    UsageError,
)
from moe_cli.evaluate import stage


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


class SafetensorError(Exception):
    """As safetensors names it."""


def raised_by_a_command(monkeypatch, fault):
    def fail(*_):
        raise fault

    monkeypatch.setattr(Store, "records", fail)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (UsageError, 2),
        (ArtifactError, 3),
        (EnvironmentFaultError, 4),
        (NumericError, 5),
        (LockedError, 6),
        (UnscoredError, 8),
        (StoppedError, 75),
    ],
)
def test_an_error_is_drawn_as_two_lines_with_its_exit_code(refused, monkeypatch, kind, code):
    raised_by_a_command(monkeypatch, kind("what is wrong with 3", hint="what to do"))
    done = refused("runs", "list")
    assert done.code == code
    assert done.err == "error: what is wrong with 3\nhint: what to do\n"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/manifest.json"), "writing /x/manifest.json"),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk while writing a file"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "no space left"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "no space left"),
        (OSError(errno.ENOSPC, "No space left on device", "old", None, "new"), "while writing new"),
        (SafetensorError("I/O error: File too large (os error 27)"), "a file becomes larger than the system allows"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "no permission for /x: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "no permission for /x: Read-only file system"),
        (MemoryError(), "out of memory: MemoryError"),
        (OutOfMemoryError("CUDA out of memory. Tried 2 GiB\nmore"), "out of memory: CUDA out of memory. Tried 2 GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 99"), "out of memory: DefaultCPUAllocator"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else None,
)
def test_what_the_machine_lacks_is_an_environment_fault_whatever_library_says_it(refused, monkeypatch, fault, words):
    raised_by_a_command(monkeypatch, fault)
    done = refused("runs", "list")
    assert done.code == 4
    assert words in done.err
    assert len(done.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "z" * 300), 2, "the path zzz"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), 2, "the path a/b cannot be used: Not a dir"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/x"), 2, "the path /proc/x cannot be"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "lp"), 2, "the path lp cannot be used"),
        (RuntimeError("Symlink loop from '/x/lp'"), 2, "a path cannot be used: Symlink loop from '/x/lp'"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), 2, "the path a cannot be used"),
        (OSError(errno.EIO, "Input/output error", "/x"), 4, "the system refuses it: /x: Input/output error"),
        (OSError(errno.ESTALE, "Stale file handle"), 4, "the system refuses it: [Errno 116] Stale file handle"),
        (TimeoutError("timed out"), 4, "the system refuses it: timed out"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_a_system_says_of_a_path_names_the_path(refused, monkeypatch, fault, code, words):
    raised_by_a_command(monkeypatch, fault)
    done = refused("runs", "list")
    assert done.code == code
    assert words in done.err
    assert len(done.err.splitlines()) == 2 and len(done.err) < 400


def test_a_warning_of_a_library_reaches_the_terminal_harmless(moe, monkeypatch):
    def warn(*_):
        warnings.warn("Glyph 27 (\x1b) missing \x9b2J", UserWarning, stacklevel=1)
        return ()

    monkeypatch.setattr(Store, "records", warn)
    assert moe("runs", "list").err == "warning: Glyph 27 (\ufffd) missing \ufffd2J\n"


def test_a_word_that_is_no_utf8_is_refused_before_anything_is_done(refused, tmp_path):
    for words in (["prepare", "--model", "tiny", "-o", "\udcff"], ["runs", "show", "\udcff"], ["\udcff"]):
        done = refused(*words)
        assert done.code == 2 and "is not UTF-8" in done.err
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_with_nothing_to_resume_is_130(refused, monkeypatch):
    raised_by_a_command(monkeypatch, KeyboardInterrupt())
    done = refused("runs", "list")
    assert done.code == 130
    assert done.err.startswith("error: interrupted")


def test_an_interruption_before_a_resumed_run_goes_on_can_be_resumed(refused, monkeypatch, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "run", interrupt)
    done = refused("evaluate", "tiny", "--resume")
    assert done.code == 75
    assert done.err.splitlines() == [
        "error: interrupted before the work began; what was kept is still there",
        "hint: run the same command with --resume to go on",
    ]
    assert refused("evaluate", "tiny").code == 130


@pytest.mark.parametrize(
    "fault", [RuntimeError("a bug"), ValueError("a bug"), KeyError("x"), AssertionError(), RecursionError()]
)
def test_a_bug_is_not_hidden(monkeypatch, fault, tmp_path):
    raised_by_a_command(monkeypatch, fault)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["moe", "runs", "list"])
    with pytest.raises(type(fault)) as found:
        main()
    assert found.value is fault


def test_hostile_words_in_an_error_reach_the_terminal_harmless(refused, monkeypatch):
    raised_by_a_command(monkeypatch, ArtifactError("\x1b[2Jgone [red]\u202e", hint="\x07\x9b2J"))
    assert refused("runs", "list").err == "error: \ufffd[2Jgone [red]\ufffd\nhint: \ufffd\ufffd2J\n"


def test_a_long_error_is_one_line_that_can_be_copied(refused, monkeypatch):
    raised_by_a_command(monkeypatch, ArtifactError(f"no {'x' * 300} y", hint="look"))
    assert refused("runs", "list").err.splitlines()[0] == f"error: no {'x' * 300} y"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("frobnicate", "No such command 'frobnicate'"),
        ("prepare --nosuch 3", "No such option: --nosuch"),
        ("prepare --limit half", "Invalid value for '--limit'"),
        ("runs show", "Missing argument"),
        ("compare", "Missing argument"),
        ("evaluate", "name exactly one run or model"),
        ("evaluate tiny --model-path tiny", "name exactly one run or model"),
        ("compare a", "1 run to compare"),
        ("prepare --set train.lerning_rate=1", "did you mean train.learning_rate?"),
        ("prepare --set nonsense", "write it as section.key=value"),
        ("prepare --config none.yaml", "there is no config file none.yaml"),
        ("prepare --learning-rate 1", "No such option: --learning-rate"),
        ("prepare --batch-size 0", "prepare.batch_size: Input should be greater than or equal to 1"),
        ("prepare --method best", "prepare.method"),
        ("prepare --device cude", "model.device"),
        ("evaluate tiny --output-name ../x", "evaluate.name"),
    ],
)
def test_wrong_words_are_a_usage_error(refused, words, said):
    done = refused(*words.split())
    assert done.code == 2
    assert said in done.err


def test_all_problems_of_a_config_are_told_at_once(refused, tmp_path):
    (tmp_path / "moe.yaml").write_text("train: {num_epochs: 0, lerning_rate: 1}")
    done = refused("train", "selective", "--config", "moe.yaml", "--set", "seed=-1", "--max-length", 3)
    assert done.code == 2
    assert done.err.startswith("error: the configuration has 4 problems\n  - ")
    assert done.err.count("\n  - ") == 4


def test_a_group_without_a_command_shows_its_help(moe):
    for words in ([], ["runs"], ["config"], ["train"]):
        done = moe(*words)
        assert done.code == 2
        assert "Commands" in done.out + done.err
        assert "error:" not in done.err
