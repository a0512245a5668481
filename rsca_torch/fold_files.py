"""Finished folds as files, so that an interrupted run goes on and a finished one is not done again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from rsca_torch.learning import Trained
from rsca_torch.loco import Fold
from rsca_torch.whole import whole_file

__all__ = ["FoldFiles"]

TENSORS = ("siblings", "strangers")


class FoldFiles:
    """A folder with one safetensors file a fold; a `loco.KeptFolds`.

    Args:
        folder: made when the first fold is kept. Its name must tell all that a fold depends on but its cluster.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, cluster: str) -> Fold | None:
        """The fold, if it is there; a damaged file counts as none."""
        try:
            with safe_open(self._file(cluster), framework="pt") as file:
                told: dict[str, Any] = json.loads(file.metadata()["fold"])
                tensors = {name: file.get_tensor(name) for name in TENSORS}
        except (FileNotFoundError, SafetensorError):
            return None
        trained = None if told["trained"] is None else Trained(**told.pop("trained"))
        return Fold(**{**told, "trained": trained}, **tensors)

    def put(self, cluster: str, fold: Fold) -> None:
        """Keep it, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        told = {name: value for name, value in vars(fold).items() if name not in (*TENSORS, "trained")}
        told["trained"] = None if fold.trained is None else asdict(fold.trained)
        tensors = {name: getattr(fold, name).contiguous() for name in TENSORS}
        with whole_file(self._file(cluster)) as part:
            part.write_bytes(save(tensors, metadata={"fold": json.dumps(told), "cluster": cluster}))

    def _file(self, cluster: str) -> Path:
        return self.folder / f"{hashlib.sha256(cluster.encode()).hexdigest()[:16]}.safetensors"
