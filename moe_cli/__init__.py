"""moe: find the experts through which a mixture-of-experts model does harm, repair only those, compare honestly.

    from moe_cli import prepare, train, evaluate, compare

The four functions do what the commands of the same names do; importing them imports no torch.
"""

from importlib import import_module

from moe_cli.version import __version__

# Four rooms have the names of the functions. Python binds a package in its parent once, when it is first imported; that
# is done here, before the functions get the names, so that no later import of a room takes a name away again. A room is
# imported from, as in `from moe_cli.train import stage`, which does not ask for the name in here.
for _room in ("prepare", "train", "evaluate", "compare"):
    import_module(f"moe_cli.{_room}")  # an empty file

from moe_cli.api import compare, evaluate, prepare, train  # noqa: E402

__all__ = ["__version__", "compare", "evaluate", "prepare", "train"]
