"""Where the sample files lie: one per format, of invented words that mean nothing."""

from pathlib import Path

FORMATS_PATH = Path(__file__).parent / "formats"


def sample(name):
    """The path of a sample file, as a person types it."""
    return str(FORMATS_PATH / name)
