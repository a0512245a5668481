"""A task as it goes to other processes: sent once, made there once, its arrays shared on one machine."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray

from rsca_torch.errors import InputError

__all__ = ["Sent", "call"]

Item = TypeVar("Item")
Result = TypeVar("Result")
SHARED = 1_000_000  # bytes of an array from which on processes of this machine share it


class Sent(Generic[Item, Result]):
    """A task as it goes to other processes: made there once, however many items it is called with.

    Args:
        task: any function.
        folder: for large arrays, which processes of this machine map into memory. None: they are sent with the rest.
        threads: of torch, for the task. None: as they are.
    """

    def __init__(self, task: Callable[[Item], Result], folder: Path | None = None, threads: int | None = None) -> None:
        buffers: list[pickle.PickleBuffer] = []
        code = BytesIO()
        try:
            _Pickler(code, protocol=5, buffer_callback=buffers.append).dump(task)
        except Exception as error:  # whatever somebody's class raises
            raise InputError(
                "what runs side by side is sent to other processes, which this cannot be: "
                f"{type(error).__name__}: {error}; let learners, loggers and figures of merit hold no open file, lock "
                "or generator, or give processes=1"
            ) from error
        self.name, self.threads, self.code, self.path = uuid4().hex, threads, code.getvalue(), [*sys.path]
        self.arrays: list[NDArray[np.uint8] | Path] = [np.asarray(buffer.raw()) for buffer in buffers]
        for number, array in enumerate(self.arrays):
            if folder is not None and isinstance(array, np.ndarray) and array.nbytes >= SHARED:
                np.save(folder / f"{number}.npy", array, allow_pickle=False)
                self.arrays[number] = folder / f"{number}.npy"

    def task(self) -> Callable[[Item], Result]:
        """In the other process."""
        with _made:
            if self.name not in _tasks:
                _tasks.clear()
                sys.path.extend(folder for folder in self.path if folder not in sys.path)  # it was started before
                arrays = [np.load(array, mmap_mode="c") if isinstance(array, Path) else array for array in self.arrays]
                arrays = [array if array.flags.writeable else array.copy() for array in arrays]
                # As multiprocessing and Dask themselves send work: from one process of this run to another, no file.
                _tasks[self.name] = pickle.loads(self.code, buffers=arrays)
            task: Callable[[Item], Result] = _tasks[self.name]
            return task


_tasks: dict[str, Any] = {}  # of this process: the one that was called last
_made = threading.Lock()  # a worker of Dask has several threads


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Has arrays beside what it writes, and tensors as arrays."""

    def reducer_override(self, given: object) -> object:
        if type(given) is torch.Tensor:
            try:
                return torch.from_numpy, (given.numpy(),)
            except (TypeError, RuntimeError):  # on a device, with a gradient, of a type that NumPy has not
                pass
        return super().reducer_override(given)


def call(sent: Sent[Item, Result], item: Item) -> Result:
    """In the other process."""
    if sent.threads is not None:
        torch.set_num_threads(max(1, sent.threads))
    try:
        return sent.task()(item)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # whether it can be sent
        except Exception:  # then the process that waits would be told that this one came to a sudden end
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise
