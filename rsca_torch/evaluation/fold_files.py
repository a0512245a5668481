"""Finished folds as files, so that an interrupted run goes on and a finished one is not done again."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rsca_torch.files.checked import json_of, sealed, unsealed
from rsca_torch.files.whole import atomic_file, atomic_folder, remove_abandoned
from rsca_torch.learners.learner import Learner
from rsca_torch.training.members import Trained

__all__ = ["Fold", "FoldFiles", "LeftOut", "code_of"]

log = logging.getLogger(__name__)

TENSORS = ("siblings", "strangers")
NOT_OURS = {"builtins", "torch", "typing"}


LeftOut = tuple[str, ...]  # clusters that a learner does not see; of a fold, the first is the one that it judges


@dataclass(frozen=True)
class Fold:
    """What a learner that never saw a cluster said of it; distances are empty where they are not kept."""

    rate: float
    members: int
    pairs: int
    median_sibling_distance: float
    siblings: Tensor
    strangers: Tensor
    note: str = ""  # the first warning of the fit
    trained: Trained | None = None
    merits: dict[str, float] = field(default_factory=dict)  # NaN where no pair is allowed, as the rate
    floor: str = "none"  # what bounded the scatter of siblings


class FoldFiles:
    """A folder with one safetensors file a fold, for `kept` of `leave_one_cluster_out`.

    Args:
        folder: made when the first fold is kept. Its name must tell all that a fold depends on but the clusters that
            are left out.
        logs: clusters left out -> the folder of the training's log, which is kept beside the fold, and is put there
            again where the fold is not fitted anew. None: none is kept.

    Examples:
        >>> import tempfile
        >>> from rsca_torch import Identity, leave_one_cluster_out
        >>> from rsca_torch.testing import drawn_problem
        >>> problem = drawn_problem()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kept = FoldFiles(Path(folder))
        ...     result = leave_one_cluster_out(
        ...         Identity, problem.field, problem.members, problem.clusters, kept=kept
        ...     )
        ...     print(kept.get(("NGC 0",)).rate == result.cluster_rates["NGC 0"])
        True
    """

    def __init__(self, folder: Path, logs: Callable[[LeftOut], Path] | None = None) -> None:
        self.folder, self.logs = folder, logs

    def get(self, left_out: LeftOut) -> Fold | None:
        """The fold in which the first cluster is judged without any of these; one that is damaged is said to be."""
        file = self._file(left_out)
        try:
            fold = _fold_of(file.read_bytes(), left_out)
        except FileNotFoundError:
            return None
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            log.warning("warning: the fold kept in %s is damaged (%s) and is fitted anew", file, error)
            return None
        remove_abandoned(file.parent, f".{file.name}.")  # by a run that was killed when it had just been kept
        if self.logs is not None:
            _copy_new(file.with_suffix(".log"), self.logs(left_out))
        return fold

    def put(self, left_out: LeftOut, fold: Fold) -> None:
        """Keep it, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        told = {name: value for name, value in vars(fold).items() if name not in (*TENSORS, "trained")}
        told["trained"] = None if fold.trained is None else asdict(fold.trained)
        tensors = {name: getattr(fold, name).contiguous() for name in TENSORS}
        told = json.loads(json.dumps({**told, "left_out": left_out, "tensors": _sum(tensors)}, default=float))
        if self.logs is not None:
            _copy_new(self.logs(left_out), self._file(left_out).with_suffix(".log"))
        with atomic_file(self._file(left_out)) as part:
            part.write_bytes(save(tensors, metadata={"fold": json.dumps(sealed(told))}))

    def _file(self, left_out: LeftOut) -> Path:
        return self.folder / f"{hashlib.sha256(json.dumps(left_out).encode()).hexdigest()[:16]}.safetensors"


def _fold_of(content: bytes, left_out: LeftOut) -> Fold:
    """What `FoldFiles.put` wrote.

    Raises:
        SafetensorError, ValueError, KeyError, TypeError: it is something else, or was changed.
    """
    tensors = load(content)
    size = int.from_bytes(content[:8], "little")  # of the JSON that follows, which `load` does not hand on
    told = unsealed(json_of(json_of(content[8 : 8 + size])["__metadata__"]["fold"]))
    if told.pop("left_out") != list(left_out) or told.pop("tensors") != _sum(tensors):
        raise ValueError("it is of another fold, or its distances were changed")
    trained = None if told["trained"] is None else Trained(**told.pop("trained"))
    distances: dict[str, Any] = {name: tensors[name] for name in TENSORS}
    fold = Fold(**{**told, "trained": trained, **distances})
    if not (math.isnan(fold.rate) or 0 <= fold.rate <= 1) or fold.members < 1 or fold.pairs < 0:
        raise ValueError(f"a rate of {fold.rate} of {fold.members} members and {fold.pairs} pairs")
    if any(tensor.isnan().any() for tensor in tensors.values()):
        raise ValueError("a distance is no number")
    return fold


def _sum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of their numbers, dtypes and shapes."""
    total = hashlib.sha256()
    for name in TENSORS:
        total.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}\n".encode())
        total.update(tensors[name].numpy().tobytes())
    return total.hexdigest()


def _copy_new(folder: Path, to: Path) -> None:
    """Copy a folder that is there to a place where nothing is, whole or not at all."""
    if folder.is_dir() and not to.exists():
        with atomic_folder(to) as part:
            shutil.copytree(folder, part, dirs_exist_ok=True)


def code_of(learner: Learner) -> str:
    """SHA-256 of the source of this package and of those that the classes of a learner and of its parts are from.

    So that a learner whose author went on with it is not given the folds of what it was.
    """
    kinds = {kind for part in learner.modules() for kind in type(part).__mro__}
    total = hashlib.sha256()
    for name in sorted({"rsca_torch", *(kind.__module__.partition(".")[0] for kind in kinds)} - NOT_OURS):
        above = sys.modules[name]
        folders = [Path(folder) for folder in getattr(above, "__path__", [])]
        single = getattr(above, "__file__", None)  # a notebook has none
        files = [*(file for folder in folders for file in folder.rglob("*.py")), *([Path(single)] if single else [])]
        for file in sorted(set(files)):
            total.update(file.read_bytes())
    return total.hexdigest()
