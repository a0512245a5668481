"""A result is written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsca_torch.errors import InputError

__all__ = ["filled_folder", "require_new_file", "require_new_folder", "whole_file", "whole_folder"]


def require_new_folder(path: Path) -> None:
    """Raises InputError where something is there already, other than an empty folder."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise InputError(f"{path} holds another run: choose another with out=PATH, or remove it")


def require_new_file(path: Path) -> None:
    """Raises InputError where something is there already; makes the folders above it."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file to make, out=PATH")
    if path.exists():
        raise InputError(f"{path} holds another run: choose another with out=PATH, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that becomes `path` at the end, and vanishes if the end is not reached."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield folder
        folder.chmod(path.parent.stat().st_mode & 0o777)  # a temporary folder is its maker's alone
        if path.exists():
            path.rmdir()  # empty, as require_new_folder saw
        folder.replace(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name in a new folder beside `path`; what is written there becomes `path` at the end."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        part = Path(folder) / path.name
        yield part
        part.replace(path)


@contextmanager
def filled_folder(path: Path, last: str = "results.json") -> Iterator[Path]:
    """A new folder in `path`, which is made if it is not there; at the end its files move there, `last` last.

    What else lies in `path` stays. If the end is not reached, nothing moves.
    """
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part.", dir=path) as name:
        part = Path(name)
        yield part
        files = [file for file in part.rglob("*") if not file.is_dir()]
        for file in sorted(files, key=lambda file: file == part / last):
            target = path / file.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
