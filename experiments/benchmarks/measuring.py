"""What a task costs: seconds and memory at its peak, in a process of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch

__all__ = ["Meter", "in_own_process", "products"]

Result = TypeVar("Result")


class Meter(threading.Thread):
    """Within a `with`: seconds, and the peak of the process's anonymous memory (GB), in which mapped files are not."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seconds = self.memory = 0.0
        self._done = threading.Event()

    def __enter__(self) -> Meter:
        self.start()
        self.begin = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.begin
        self._done.set()
        self.join()

    def run(self) -> None:
        """Sample until the end."""
        while True:
            self.memory = max(self.memory, _anonymous_memory())
            if self._done.wait(0.01):
                return


def _anonymous_memory() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024 / 1e9


def in_own_process(task: Callable[..., Result], *arguments: object) -> Result:
    """Fork, so that nothing is imported again: the process that calls this must not have used torch's threads."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(task, *arguments).result()


def products(n_stars: int, n_bins: int, n_components: int, dtype: torch.dtype) -> float:
    """Seconds of (N x P) @ (P x K (K + 1) / 2) and (P x N) @ (N x (K + 1) (K + 2) / 2): the better of two."""
    weight = torch.rand(n_stars, n_bins, dtype=dtype)
    outer = torch.rand(n_bins, n_components * (n_components + 1) // 2, dtype=dtype)
    second = torch.rand(n_stars, (n_components + 1) * (n_components + 2) // 2, dtype=dtype)
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        weight @ outer
        weight.T @ second
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
