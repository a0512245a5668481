"""What is read back from files: JSON and CSV, one kind of error for all that can be wrong, and checksums."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

__all__ = ["SEAL", "json_of", "read_json", "require_plain_yaml", "rows_of", "sealed", "unsealed"]

SEAL = "sha256"
csv.field_size_limit(2**31 - 1)  # Python refuses cells of more than 131,072 characters
DEEPEST = 50  # of YAML


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


def require_plain_yaml(text: str) -> None:
    r"""Refuse YAML that is small and means something huge.

    Raises:
        ValueError: it has aliases, of which ten lines can mean a billion values, or is nested too deeply.
        yaml.YAMLError: it is no YAML.

    >>> require_plain_yaml("a: &a [1, 2]\nb: [*a, *a]")
    Traceback (most recent call last):
    ValueError: aliases (*a) are not read: write each value out
    """
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"aliases (*{event.anchor}) are not read: write each value out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError("YAML that is nested too deeply")


def rows_of(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV file.

    Raises:
        ValueError: it is no CSV.
        OSError: it cannot be read.
    """
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:  # a path may be any bytes
        try:
            yield from csv.reader(file)
        except csv.Error as error:
            raise ValueError(f"{path.name}: {error}") from error
