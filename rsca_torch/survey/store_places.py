"""Where a store comes to be and grows, and what a run that was killed left there."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from rsca_torch.errors import InputError
from rsca_torch.files.places import is_free, remove_left
from rsca_torch.files.whole import beside, part_of, remove_abandoned

__all__ = ["OURS", "partial_path", "remove_folder", "remove_partial", "require_free"]

OURS = {"flux.raw", "error.raw", "journal.json", "journal.new", "store"}  # what there is in a partial


def partial_path(store: Path) -> Path:
    """Where a store grows until it is whole."""
    return beside(store, ".partial")


def require_free(store: Path) -> None:
    """Check that a store may be written there.

    Raises:
        InputError: something is there already.
    """
    if not is_free(store):
        remove_partial(store)
        raise InputError(f"store={store} exists already; choose another, or remove it")


def remove_partial(store: Path) -> None:
    """What a run left that was killed after its store was in place and before it had tidied up."""
    remove_left(store)
    real = store.resolve()
    if not (real / "manifest.json").is_file():
        return
    for left in (real.with_name(f"{real.name}.partial"), real / ".partial"):
        if left.is_dir() and {entry.name for entry in left.iterdir()} <= OURS:
            shutil.rmtree(left, ignore_errors=True)
    for uncensored in (real.with_name(f"{real.name}.uncensored"), real / ".uncensored"):
        if (uncensored / "manifest.json").is_file():
            remove_partial(uncensored)
            remove_folder(uncensored)
        remove_abandoned(uncensored.parent, f".{uncensored.name}.")


def remove_folder(path: Path) -> None:
    """Remove a folder that is not needed any more, at once by name: a run that is killed leaves no half of it there."""
    with suppress(OSError):
        shutil.rmtree(path.replace(part_of(path)), ignore_errors=True)
