"""Ids on lists of stars: as text to the last digit, cut as a survey cuts them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from astropy.table import Table

from rsca_torch.errors import InputError

__all__ = ["EXACT", "cut_id", "texts_of"]

EXACT = 2**53  # beyond it a float is not every whole number


def cut_id(star: str, length: int | None) -> str:
    """An id as a survey's tables cut it to a length; whole numbers are never cut. None: none is."""
    bare = re.sub(r"\s+", "", star)
    if length is None or len(star) <= length or re.search(r"\d{17}", bare):
        return star
    # 2MASS J19203303+3755558 is longer for what stands before it.
    return re.sub(r"^2MASSJ?(?=\d{8}[+-])", "2M", bare, flags=re.IGNORECASE)[:length]


def texts_of(path: Path, table: Table, column: str) -> list[str]:
    """A column as text, whole numbers exactly.

    Raises:
        InputError: it holds numbers of so many digits that a float has lost some.
    """
    values = np.asarray(table[column])
    if values.dtype.kind == "f":
        lost = values[np.isfinite(values) & (np.abs(values) >= EXACT)]
        texts = [str(int(value)) if np.isfinite(value) and value == int(value) else str(value) for value in values]
    else:
        texts = [str(value).strip(" \0") for value in values]
        floats = [text for text in texts if re.fullmatch(r"\d+\.\d*|\d+(\.\d*)?[eE][+-]?\d+", text)]
        lost = [text for text in floats if float(text) >= EXACT]
    if len(lost):
        raise InputError(
            f"{path}: {column} holds {lost[0]}, a number that passed through a float and lost its last digits; "
            "write the ids as whole numbers or as text"
        )
    return texts
