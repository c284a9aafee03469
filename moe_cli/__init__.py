"""moe: find the experts through which a mixture-of-experts model does harm, repair only those, compare honestly."""

__version__ = "0.1.0"
