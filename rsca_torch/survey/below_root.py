"""Paths made of what a table says: below the survey's root, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from rsca_torch.survey.fits_files import UnusableFileError

__all__ = ["below_root"]


def below_root(root: Path, path: str, values: Mapping[str, Any] | None = None) -> Path:
    """The file below root that a table's row names, where the row cannot lead out of it.

    Tables are data: whoever wrote one must not choose which files are read or written. Links inside root are the
    user's own and are followed.

    Args:
        root: the folder.
        path: below it; with {NAME} where a value is filled in, as `str.format` does.
        values: what is filled in, each one name of a file or folder, or a number. None: nothing is, and braces stay.

    Raises:
        UnusableFileError: a value has a slash, a backslash or NUL or is ``.`` or ``..``; or the path is absolute, has
            a part ``..`` or NUL. With a short reason, for the table of problems.
        KeyError: the path names what is not in `values`.

    Example:
        >>> below_root(Path("tree"), "{TELESCOPE}/{FIELD}.fits", {"TELESCOPE": "apo25m", "FIELD": "060+00"}).as_posix()
        'tree/apo25m/060+00.fits'
        >>> below_root(Path("tree"), "{FIELD}/star.fits", {"FIELD": "../../home"})
        Traceback (most recent call last):
        ...
        rsca_torch.survey.unusable.UnusableFileError: FIELD is ..., which is no name of one file or folder: ...
    """
    for name, value in (values or {}).items():
        text = str(value)
        if f"{{{name}" in path and (set(text) & set("/\\\0") or text in (".", "..")):
            raise UnusableFileError(f"{name} is {text!r}, which is no name of one file or folder: not looked for")
    filled = path if values is None else path.format(**values)
    parts = PurePosixPath(filled)
    if parts.is_absolute() or ".." in parts.parts or "\0" in filled:
        raise UnusableFileError(f"{filled!r} leads out of the survey's root: not looked for")
    return root / filled
