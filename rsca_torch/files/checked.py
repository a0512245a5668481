"""What is read back from files: JSON and CSV, with one kind of error for all that can be wrong with it, and checksums."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["json_of", "read_json", "rows_of", "sealed", "unsealed"]

SEAL = "sha256"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds keys with values.

    Raises:
        ValueError: it is no such file: not UTF-8, no JSON, nested too deeply, or another value.
        OSError: it cannot be read.
    """
    return json_of(path.read_bytes())


def json_of(text: str | bytes) -> dict[str, Any]:
    """Keys with values of a text of JSON.

    Raises:
        ValueError: as `read_json`.

    >>> json_of('{"a": 1}')
    {'a': 1}
    >>> json_of("[" * 100_000)
    Traceback (most recent call last):
    ValueError: JSON that is nested too deeply
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"JSON of keys with values expected, got a {type(content).__name__}")
    return content


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same with a checksum of it.

    >>> unsealed(sealed({"rate": 0.5}))
    {'rate': 0.5}
    """
    return {**content, SEAL: _sum(content)}


def unsealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What was sealed, without its checksum.

    Raises:
        ValueError: the checksum is of something else, or is not there.

    >>> unsealed({**sealed({"rate": 0.5}), "rate": 0.4})
    Traceback (most recent call last):
    ValueError: its checksum is of something else
    """
    rest = {name: value for name, value in content.items() if name != SEAL}
    if content.get(SEAL) != _sum(rest):
        raise ValueError("its checksum is of something else")
    return rest


def _sum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def rows_of(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV file.

    Raises:
        ValueError: a cell is longer than any that this program writes (131,072 characters), or has NUL.
        OSError: it cannot be read.
    """
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:  # a path may be any bytes
        try:
            yield from csv.reader(file)
        except csv.Error as error:
            raise ValueError(f"{path.name}: {error}") from error
