"""NumPy, pandas, lists or torch in, torch out; what stands under a mask or is missing is NaN, or False."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from astropy.units import Quantity, Unit, UnitConversionError, UnrecognizedUnit, spectral
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError

__all__ = ["Array", "all_finite", "as_floats", "as_rows", "as_tensor", "in_step", "in_unit", "missing_among"]

#: Tensors, NumPy arrays (with masks or without, of a table's column or of an astropy Quantity without unit), pandas'
#: tables and columns, and nested lists.
Array = Tensor | NDArray[Any] | Any
MISSING = ("NAType", "NaTType", "MaskedConstant")  # pandas.NA, pandas.NaT, numpy.ma.masked


def as_tensor(array: Array) -> Tensor:
    """The same numbers as a tensor; read-only and big-endian NumPy arrays (memory maps, FITS) are copied.

    What is under a mask or missing is NaN, of bools False; integers of which some are missing become float64.

    Raises:
        InputError: for what is no numbers, rows of different lengths, and numbers with a unit.

    Examples:
        >>> as_tensor(np.arange(3, dtype=">f4"))
        tensor([0., 1., 2.])
        >>> as_tensor(np.ma.array([1, 2], mask=[False, True])), as_tensor([[True, None]])
        (tensor([1., nan], dtype=torch.float64), tensor([[ True, False]]))
    """
    if isinstance(array, Tensor):
        return array
    values, missing = _parted(as_rows(array))
    if values.dtype.kind not in "fiubc":
        raise InputError(f"numbers expected, got an array of {values.dtype}")
    if missing is not None and missing.any():
        if values.dtype.kind in "iu":
            values = values.astype(np.float64)
        values = np.where(missing, values.dtype.type(False if values.dtype.kind == "b" else np.nan), values)
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    if not (values.flags.writeable and values.dtype.isnative):
        values = np.array(values, dtype=values.dtype.newbyteorder("="))
    if any(stride < 0 for stride in values.strides):
        values = values.copy()
    return torch.as_tensor(values)


def as_floats(array: Array) -> Tensor:
    """As `as_tensor`, of floating point: integers and bools become float64, floats of 8 bits float32.

    >>> as_floats([[1, 2]])
    tensor([[1., 2.]], dtype=torch.float64)
    """
    tensor = as_tensor(array)
    if tensor.is_complex():
        raise InputError(f"real numbers expected, got {tensor.dtype}")
    if not tensor.is_floating_point():
        return tensor.double()
    return tensor if tensor.element_size() > 1 else tensor.float()


def as_rows(array: Array) -> Tensor | NDArray[Any]:
    """What can be cut into rows: pandas' tables and lists as NumPy arrays, tensors and NumPy arrays as they are.

    >>> as_rows([[1, 2], [3, 4]])[1:]
    array([[3, 4]])
    """
    if isinstance(array, Tensor | np.ndarray):
        return array
    if isinstance(array, list | tuple) and any(isinstance(row, Tensor) for row in array):
        array = [row.tolist() if isinstance(row, Tensor) else row for row in array]
    try:
        if hasattr(array, "to_numpy"):
            return np.asarray(array.to_numpy())
        holed = isinstance(array, list | tuple) and any(np.ma.isMaskedArray(row) for row in array)
        return np.ma.array(array) if holed else np.asarray(array)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"rows of one length expected: {error}") from error


def in_step(flux: Array, valid: Array | None, sigma: Array | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(flux, valid or None, sigma or None) as tensors; what is missing in one of them is not valid.

    >>> flux = np.ma.array([[1.0, 9.0]], mask=[[False, True]])
    >>> in_step(flux, np.array([[True, True]]), None)[1]
    tensor([[ True, False]])
    """
    if valid is None:
        return as_floats(flux), None, None if sigma is None else as_floats(sigma)
    used = as_tensor(valid)
    if used.is_floating_point():
        used = used.nan_to_num(0)
    for array in (flux, sigma):
        missing = None if array is None or isinstance(array, Tensor) else _parted(as_rows(array))[1]
        if missing is not None and missing.any() and missing.shape == tuple(used.shape):
            used = used & ~torch.as_tensor(missing)
    return as_floats(flux), used, None if sigma is None else as_floats(sigma)


def in_unit(array: Array, unit: str, what: str) -> Array:
    """The numbers in a unit: those of a Quantity or of a column with a unit are converted, bare ones are in it already.

    Args:
        array: wavelengths may be given as frequencies or energies too.
        unit: as astropy names it.
        what: in messages.

    Raises:
        InputError: where the array's unit is of another kind.

    Examples:
        >>> from astropy import units
        >>> in_unit([1.5, 1.6] * units.micron, "Angstrom", "wavelength")
        tensor([15000., 16000.], dtype=torch.float64)
    """
    own = None if isinstance(array, Tensor) else getattr(array, "unit", None)
    if own is None or isinstance(own, UnrecognizedUnit):  # as FITS files have it that say Angstroms
        return array
    bare = as_tensor(array.value if isinstance(array, Quantity) else array).double()
    try:
        return bare if own == Unit(unit) else torch.as_tensor(own.to(Unit(unit), bare.numpy(), spectral()))
    except UnitConversionError as error:
        raise InputError(f"{what} in {unit} expected, got {own}") from error


def all_finite(tensor: Tensor) -> bool:
    """Whether all values are finite; seen in one pass where they are, as a finite sum has only finite terms.

    >>> all_finite(torch.tensor([1.0, torch.nan]))
    False
    """
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def missing_among(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of an array of Python objects are none: None, NaN, pandas.NA, numpy.ma.masked.

    >>> missing_among(np.array(["a", None, float("nan")], dtype=object)).tolist()
    [False, True, True]
    """
    found = [type(value).__name__ in MISSING or value is None or bool(value != value) for value in values.flat]
    return np.array(found, dtype=bool).reshape(values.shape)


def _parted(array: Any) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:  # noqa: ANN401
    """Plain numbers, and which of them are missing; None: none are."""
    if isinstance(array, Quantity):
        if not array.unit.is_equivalent(""):
            raise InputError(
                f"numbers without a unit expected, got a Quantity in {array.unit}: divide it by its unit, or by the "
                "continuum where it is flux"
            )
        array = array.to_value("")
    values, missing = np.asarray(array), None
    if hasattr(array, "unmasked"):  # astropy's own masked arrays
        values, missing = np.asarray(array.unmasked), np.asarray(array.mask)
    elif np.ma.isMaskedArray(array):
        values, missing = np.ma.getdata(array), np.ma.getmaskarray(array)
    if values.dtype.kind != "O":
        return np.asarray(values), missing
    lacking = missing_among(values)
    missing = lacking if missing is None else missing | lacking
    here = values[~missing]
    flags = len(here) > 0 and all(isinstance(value, bool | np.bool_) for value in here)
    plain = np.zeros(values.shape, dtype=bool if flags else np.float64)
    try:
        plain[~missing] = here
    except (TypeError, ValueError) as error:
        raise InputError(f"numbers expected: {error}") from error
    return plain, missing
