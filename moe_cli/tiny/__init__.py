"""The built-in tiny mixture-of-experts model: what it is called and where its checkpoint lies.

Importing this file (and the language beside it) imports neither torch nor transformers, so that a command can name the
model before anything heavy loads. `python -m tests.studies.tiny_training` makes the checkpoint.
"""

from pathlib import Path

MODEL_NAME = "tiny"
CHECKPOINT_PATH = Path(__file__).parent / "checkpoint"
