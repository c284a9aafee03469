"""The version of the program, in a file without imports, so that every other file can import it."""

__version__ = "0.1.0"
