"""Labels of stars as text, however they are written: the names of clusters, and '' for none."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.spectra.arrays import missing_among

__all__ = ["as_labels", "as_text"]

#: What stands for no label in tables, in lower case: pandas' list, and what masked entries are printed as.
NO_LABEL = {"", "nan", "-nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat", "--", "masked"}
NEGATIVE = re.compile(r"-\d+(\.0*)?")  # clustering programs number what is in no cluster -1, -2 or -3


def as_labels(labels: Any) -> NDArray[np.str_]:  # noqa: ANN401  (whatever holds labels)
    """(M,) text; '' where there is no label: masked, missing, NaN, None, blank, the word nan or a negative number.

    >>> as_labels(["M 67", None, "nan", " "]).tolist(), as_labels(np.array([3, -1])).tolist()
    (['M 67', '', '', ''], ['3', ''])
    """
    text = as_text(labels)
    names, number = np.unique(text, return_inverse=True)
    none = [name.strip().lower() in NO_LABEL or NEGATIVE.fullmatch(name.strip()) is not None for name in names.tolist()]
    return np.where(np.array(none, dtype=bool)[number], "", text) if any(none) else text


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
        plain = np.char.decode(plain, "utf-8")
    return np.where(missing, "", plain.astype(str))


def _decoded(value: Any) -> str:  # noqa: ANN401
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
