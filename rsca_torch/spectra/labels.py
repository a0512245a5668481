"""Labels of stars as text, however they are written: the names of clusters, and '' for none."""

from __future__ import annotations

import difflib
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.spectra.arrays import missing_among

__all__ = ["as_labels", "as_text", "has_name", "nearest", "printable"]

#: What stands for no label in tables, in lower case: pandas' list, and what masked entries are printed as.
NO_LABEL = {"", "nan", "-nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat", "--", "masked"}
#: Clustering programs number what is in no cluster -1, -2 or -3, surveys -9999 or -9999.99.
NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?")
PADDING = "\0 \t"
NEAR = 200  # names with the most characters in their places, among which the nearest are looked for


def as_labels(labels: Any) -> NDArray[np.str_]:  # noqa: ANN401  (whatever holds labels)
    """(M,) text; '' where there is no label: masked, missing, or no name by `has_name`.

    >>> as_labels(["M 67", None, "nan", " "]).tolist(), as_labels(np.array([3, -1])).tolist()
    (['M 67', '', '', ''], ['3', ''])
    """
    names, number = np.unique(as_text(labels), return_inverse=True)
    return np.array([name if has_name(name) else "" for name in names.tolist()], dtype=str)[number]


def has_name(text: str) -> bool:
    """Whether a text names something: it is not blank, NaN, None, masked or a negative number.

    >>> [has_name(text) for text in ("M 67", "0", "nan", "-1", "-1.0", " ", "-9999.99")]
    [True, True, False, False, False, False, False]
    """
    bare = text.strip(PADDING).lower()
    return bare not in NO_LABEL and NEGATIVE.fullmatch(bare) is None


def as_text(values: Any) -> NDArray[np.str_]:  # noqa: ANN401
    """As text, exactly (integers of 19 digits too); '' where masked or missing.

    >>> as_text(np.ma.array([4611686018427387905, 7], mask=[False, True])).tolist()
    ['4611686018427387905', '']
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    elif hasattr(values, "to_numpy"):  # pandas
        values = values.to_numpy(dtype=object)
    elif not isinstance(values, np.ndarray):
        values = np.array([*values], dtype=object)
    missing, plain = np.ma.getmaskarray(values), np.asarray(np.ma.getdata(values))
    if plain.dtype.kind == "O":
        missing = missing | missing_among(plain)
        plain = np.array([_decoded(value) for value in plain.tolist()], dtype=object)
    elif plain.dtype.kind == "f":
        missing = missing | np.isnan(plain)
    elif plain.dtype.kind == "S":
        plain = np.array([_decoded(value) for value in plain.ravel().tolist()], dtype=object).reshape(plain.shape)
    texts = plain.astype(str)  # of a million stars 80 MB, and as much for a copy
    return np.where(missing, "", texts) if missing.any() else texts


def nearest(name: str, known: NDArray[np.str_], number: int = 3) -> list[str]:
    """Of names that are known those that look most like one that is not, the most alike first; capitals do not matter.

    >>> nearest("2M0001", np.array(["2M0002", "2M0010", "2M9999", "AP17"]))
    ['2M0010', '2M0002', '2M9999']
    >>> nearest("m67", np.array(["NGC 188", "M 67"]), 1), nearest("m67", np.array([], dtype=str))
    (['M 67'], [])
    """
    own, lower = name.lower(), np.char.lower(known)
    size = max(len(own), lower.dtype.itemsize // 4, 1)
    letters = lower.astype(f"U{size}").view("U1").reshape(len(lower), size)
    alike = ((letters == np.array([own], dtype=f"U{size}").view("U1")) & (letters != "")).sum(1)
    first = np.sort(np.argsort(-alike, kind="stable")[:NEAR])
    written = dict(zip(lower[first].tolist(), known[first].tolist(), strict=True))
    return [written[one] for one in difflib.get_close_matches(own, written, number, 0.0)]


def printable(text: str) -> str:
    r"""A name for the terminal: what would move the cursor, or change the colour, as the code that it has.

    >>> printable("M 67\x1b[31m")
    'M 67\\x1b[31m'
    """
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _decoded(value: Any) -> str:  # noqa: ANN401
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:  # every byte of Latin-1 is a character
        return value.decode("latin-1")
