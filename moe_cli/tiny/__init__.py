"""The built-in tiny mixture-of-experts model: what it is called and where its checkpoint lies.

Nothing comes in; the name and the path go out. Importing this file (and the language files beside it) never imports
torch or transformers, so that a command can name the model before anything heavy loads.
"""

from pathlib import Path

MODEL_NAME = "tiny"
CHECKPOINT_PATH = Path(__file__).parent / "checkpoint"
