"""Numbers of elements as people write them."""

from __future__ import annotations

import re

__all__ = ["parse_size", "size_name"]

UNITS = {"": 1, "k": 10**3, "ki": 2**10, "m": 10**6, "mi": 2**20}
NAMES = (("Mi", 2**20), ("M", 10**6), ("Ki", 2**10), ("K", 10**3))
LARGEST = 2**30


def parse_size(text: str) -> int:
    """The number in ``100``, ``10_000``, ``64Ki``, ``1M``: K and M decimal, Ki and Mi binary."""
    match = re.fullmatch(r"([0-9][0-9_]*)\s*(k|ki|m|mi|)", text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a size: write 100, 64Ki, 1M, ...")
    number = int(match[1].replace("_", "")) * UNITS[match[2]]
    if not 1 <= number <= LARGEST:
        raise ValueError(f"{text!r} is out of range: sizes go from 1 to {LARGEST:,} elements")
    return number


def size_name(n: int) -> str:
    """A short way to write `n` that `parse_size` reads."""
    for suffix, unit in NAMES:
        if n % unit == 0:
            return f"{n // unit}{suffix}"
    return str(n)
