"""What every command that is forked from one process has in common: the libraries, and the model that tells languages.

Importing this file is the work. What is there before the fork is left out of garbage collection, which would otherwise
look through all the libraries in every command.
"""

import gc

import moe_cli.ablate.stage
import moe_cli.evaluate.stage
import moe_cli.prepare.stage
import moe_cli.train.stage  # noqa: F401
from moe_cli.judges.language_check import is_not_english

is_not_english("a sentence that is in the English language")
gc.collect()
gc.freeze()
