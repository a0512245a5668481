"""A folder with a model, as the Hugging Face Hub keeps them: the file, what it tells as JSON, and their checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsca_torch.errors import InputError
from rsca_torch.files.checked import read_json
from rsca_torch.ppca.frozen_file import require_schema

__all__ = ["CARD", "CONFIG", "FOLDER_SCHEMA", "MODEL", "SUMS", "model_in", "write_folder"]

FOLDER_SCHEMA = 1
MODEL, CONFIG, CARD, SUMS = "model.safetensors", "config.json", "README.md", "SHA256SUMS"
SUMMED = (MODEL, CONFIG)  # a card may be edited


def write_folder(folder: Path, model: bytes, told: Mapping[str, Any], card: str) -> None:
    """Fill an empty folder.

    Args:
        folder: that is there.
        model: of the file.
        told: what config.json says besides its schema.
        card: README.md.
    """
    (folder / MODEL).write_bytes(model)
    config = json.dumps({**told, "schema": FOLDER_SCHEMA}, indent=1, allow_nan=False)
    (folder / CONFIG).write_text(config + "\n", encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")
    sums = [f"{_sum(folder / name)}  {name}\n" for name in SUMMED]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def model_in(folder: str | Path) -> Path:
    """The model's file in a folder that `write_folder` filled; every checksum is looked at first.

    Raises:
        InputError: where a file is missing, cut short or altered, or the folder is of another schema.
    """
    folder = Path(folder)
    missing = [name for name in (*SUMMED, SUMS) if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder} is no whole model folder: {', '.join(missing)} is not in it; copy it again, or write it by "
            "`rsca export to=hub`"
        )
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    altered = [name for name in SUMMED if sums.get(name) != _sum(folder / name)]
    if altered:
        raise InputError(
            f"{folder} is damaged: {' and '.join(altered)} is not what {SUMS} says; copy it again, or write it by "
            "`rsca export to=hub`"
        )
    try:
        config = read_json(folder / CONFIG)
    except ValueError as error:
        raise InputError(
            f"{folder / CONFIG} is no configuration of a model ({error}); copy the folder again"
        ) from error
    require_schema(folder, config.get("schema"), FOLDER_SCHEMA, f"model folder of schema {FOLDER_SCHEMA}")
    return folder / MODEL


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
