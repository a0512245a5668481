"""Where the lines of an element are: ranges of wavelength, by element or as they are given."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.files.checked import require_plain_yaml

__all__ = ["Ranges", "inside", "read_windows", "windows_of"]

Ranges = tuple[tuple[float, float], ...]  # first and last vacuum Angstrom of each, both inside

LIST = "apogee"  # the list of windows that an element without one is looked for in


def inside(wavelength: NDArray[np.float64], ranges: Ranges) -> NDArray[np.bool_]:
    """(P,) whether a bin is in one of the ranges.

    >>> inside(np.array([15744.0, 15750.0, 15769.0]), ((15743.4, 15747.3), (15766.7, 15769.0))).tolist()
    [True, False, True]
    """
    found = [(wavelength >= first) & (wavelength <= last) for first, last in ranges]
    return np.any(found, axis=0) if found else np.zeros(len(wavelength), dtype=bool)


def read_windows(file: Path) -> dict[str, Ranges]:
    """Element -> its windows, of a YAML of lists of [start, end], vacuum Angstrom.

    Raises:
        InputError: no such file, or something else in it.
    """
    return {**_read(file.absolute())}


@lru_cache(maxsize=8)
def _read(file: Path) -> Mapping[str, Ranges]:
    try:
        text = file.read_text(encoding="utf-8")
        require_plain_yaml(text)
        given = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"element windows {file} cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(given, dict) or not given:
        raise InputError(
            f"element windows {file}: expected ELEMENT: [[start, end], ...] in Angstrom, got {given!r:.60}"
        )
    return {str(element): _ranges(ranges, f"{file}: {element}") for element, ranges in given.items()}


def windows_of(asked: Any, folder: Path) -> Ranges:  # noqa: ANN401  (of an option)
    """The ranges that an option means.

    Args:
        asked: an element (Mg; of another list than apogee: aspcap.Mg), several, or [[start, end], ...].
        folder: of the lists, conf/element_windows.

    Raises:
        InputError: an element or a list that is not there, or ranges that are none.
    """
    if isinstance(asked, str):
        return _of_element(asked, folder)
    if isinstance(asked, Sequence) and asked and all(isinstance(each, str) for each in asked):
        return tuple(window for each in asked for window in _of_element(each, folder))
    return _ranges(asked, "windows")


def _of_element(name: str, folder: Path) -> Ranges:
    chosen, _, element = name.rpartition(".")
    there = sorted(path.stem for path in folder.glob("*.yaml"))
    if (chosen := chosen or LIST) not in there:
        raise InputError(
            f"windows={name}: no list of windows has the name {chosen!r:.40}, there are {', '.join(there)}"
        )
    known = read_windows(folder / f"{chosen}.yaml")
    by_name = {each.lower(): each for each in known}
    if element.lower() not in by_name:
        near = difflib.get_close_matches(element, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(
            f"windows={name!r:.40}: the list {chosen} has no such element{hint}, but {', '.join(known)}; or give "
            "ranges in vacuum Angstrom, windows=[[15743.4,15747.3]]"
        )
    return known[by_name[element.lower()]]


def _ranges(given: Any, where: str) -> Ranges:  # noqa: ANN401  (whatever was given)
    expected = f"{where}: expected an element's name, or [[start, end], ...] in vacuum Angstrom with start < end"
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise InputError(f"{expected}, got {given!r:.60}")
    for each in given:
        pair = isinstance(each, Sequence) and not isinstance(each, str) and len(each) == 2
        numbers = pair and all(isinstance(end, int | float) and math.isfinite(end) for end in each)
        if not numbers or not 0 < each[0] < each[1]:
            raise InputError(f"{expected}, got {each!r:.60}")
    return tuple((float(first), float(last)) for first, last in given)
