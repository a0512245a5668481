"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rsca_torch.errors import InputError

__all__ = ["atomic_file", "atomic_folder", "require_new_file", "require_new_folder", "updated_folder", "write_json"]


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
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` that becomes `path` at the end, and vanishes if the end is not reached.

    Args:
        path: nothing, or an empty folder (`require_new_folder`).
    """
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
def atomic_file(path: Path) -> Iterator[Path]:
    """A name in a new folder beside `path`; what is written there becomes `path` at the end.

    Args:
        path: of the file; one that is there is replaced.
    """
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        part = Path(folder) / path.name
        yield part
        part.replace(path)


@contextmanager
def updated_folder(path: Path, last: str = "results.json") -> Iterator[Path]:
    """A new folder in `path`; at the end its files move to `path`, where other files stay.

    If the end is not reached, nothing moves.

    Args:
        path: the folder; made if it is not there.
        last: the file that says that all are there: it moves last.
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


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401  (whatever JSON can hold)
    """A file that every JSON reader takes: NaN and infinities, of which JSON has none, are null."""
    path.write_text(json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _without_nan(value: Any) -> Any:  # noqa: ANN401  (any JSON)
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
