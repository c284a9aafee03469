"""What tests of several rooms share: one thread, offline, and small settings on the tiny model."""

from __future__ import annotations

import os

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "OMP_NUM_THREADS": "1",  # two threads on two busy cores wait for each other
}

import gc
import signal

import pytest
from hypothesis import settings

from tests.small_experiment import settings_of_small_experiment

os.fsync = lambda handle: None  # what another process reads does not depend on it, and a power failure is not tested
settings.register_profile("any machine", deadline=None)  # no time of a busy machine fails a test
settings.load_profile("any machine")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; Ctrl-C is tested all the same
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish():
    """Leave what every test imports out of garbage collection, as each training of transformers collects it all."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def small_settings():
    """Settings of a small experiment on the tiny model, below a directory."""
    return settings_of_small_experiment
