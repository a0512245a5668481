"""Checksums and sizes of a store's files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rsca_torch.errors import InputError
from rsca_torch.files.checked import SEAL, unsealed

__all__ = ["as_written", "check_size", "checksum", "digest"]


def digest(file: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def checksum(manifest: Mapping[str, Any]) -> str:
    """One SHA-256 for what a store gives: its files' checksums, the rule that makes bins valid, and the roles."""
    files = {name: file["sha256"] for name, file in manifest["files"].items()}
    content = {"files": files, **{name: manifest[name] for name in ("censoring", "roles", "segments")}}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def as_written(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """A store's manifest without its seal.

    Raises:
        InputError: it is not what was written.
    """
    with suppress(ValueError):
        manifest = unsealed(manifest) if SEAL in manifest else manifest  # earlier stores of this schema have none
        if checksum(manifest) == manifest["checksum"]:
            return manifest
    raise InputError(f"store {path}: manifest.json changed since it was written; ingest again")


def check_size(file: Path, expected: int) -> None:
    """Refuse a file that is not there, or has another size.

    Raises:
        InputError: says which.
    """
    if not file.is_file():
        raise InputError(f"store {file.parent} is not complete: {file.name} is missing; remove it and ingest again")
    if (size := file.stat().st_size) != expected:
        raise InputError(
            f"store {file.parent} is damaged: {file.name} has {size} bytes, expected {expected}; "
            "remove it and ingest again"
        )
