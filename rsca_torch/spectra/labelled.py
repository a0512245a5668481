"""Members that have a label: what learns from clusters leaves the others out, and says so."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.spectra.labels import as_labels
from rsca_torch.spectra.view import AnySpectra

__all__ = ["labelled"]


def labelled(field: AnySpectra, members: AnySpectra, clusters: Any) -> tuple[AnySpectra, NDArray[np.str_]]:  # noqa: ANN401
    """The members that have a label, and their labels.

    Raises:
        InputError: where none has, or the members are all stars, the field among them.

    Warns:
        NumericalWarning: says how many have none.

    Example:
        >>> import torch
        >>> from rsca_torch import Spectra
        >>> members = Spectra(torch.ones(3, 2), stars={"id": ["a", "b", "c"]})
        >>> labelled(Spectra(torch.ones(5, 2)), members, ["M 67", "M 67", "M 67"])[1].tolist()
        ['M 67', 'M 67', 'M 67']
    """
    labels = as_labels(clusters)
    known = labels != ""
    if len(labels) != len(members) or known.all():
        return members, labels
    if not known.any():
        raise InputError(f"none of the {len(members)} members has a label: give the names of their clusters=")
    if len(field.stars) and np.isin(field.stars.id, members.stars.id[~known]).all():
        raise InputError(
            f"members are all {len(members)} stars, of which {int((~known).sum())} have no label and are the field's: "
            "give those of clusters alone, store.spectra(store.is_member)"
        )
    message = f"{int((~known).sum())} of {len(members)} members have no label: left out"
    warnings.warn(message, NumericalWarning, stacklevel=3)  # who called RSCA.fit
    return members.take(known), labels[known]
