"""What a program holds while it runs: memory, descriptors, processes and shared memory, sampled, and their pictures."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import psutil

from rsca_torch.drawing.style import in_style

__all__ = ["Held", "Watch", "draw", "held_by", "write"]

SHARED_MEMORY = Path("/dev/shm")


class Held(NamedTuple):
    """At one moment, by a process and all that it started.

    Attributes:
        seconds: since the watch began.
        label: what was being done.
        memory: anonymous memory, GB; mapped files are not in it.
        descriptors: open files, sockets and pipes.
        processes: it and what it started.
        threads: of all of them.
        shared: entries of the machine's shared memory, of every program on it.
        done: how much of the work was done, as the watch was told.
    """

    seconds: float
    label: str
    memory: float
    descriptors: int
    processes: int
    threads: int
    shared: int
    done: int


def held_by(process: psutil.Process, seconds: float = 0.0, label: str = "", done: int = 0) -> Held:
    """Now."""
    memory = descriptors = processes = threads = 0
    with suppress(psutil.NoSuchProcess):
        for each in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                size = each.memory_info()
                memory, descriptors = memory + size.rss - size.shared, descriptors + each.num_fds()
                processes, threads = processes + 1, threads + each.num_threads()
    shared = len(list(SHARED_MEMORY.iterdir())) if SHARED_MEMORY.is_dir() else 0
    return Held(seconds, label, memory / 1e9, descriptors, processes, threads, shared, done)


class Watch(threading.Thread):
    """Within a `with`: samples of a process.

    Args:
        process: whom to watch.
        label: of the samples.
        begin: the clock at which seconds start, of `time.perf_counter`.
        done: says how much of the work is done.
        every: seconds between two samples.
    """

    def __init__(
        self,
        process: psutil.Process,
        label: str,
        begin: float,
        done: Callable[[], int] = lambda: 0,
        every: float = 0.5,
    ) -> None:
        super().__init__(daemon=True)
        self.process, self.label, self.begin, self.done, self.every = process, label, begin, done, every
        self.samples: list[Held] = []
        self._ended = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Sample until the end."""
        while not self._ended.wait(self.every):
            self.samples.append(held_by(self.process, time.perf_counter() - self.begin, self.label, self.done()))


def write(samples: Sequence[Held], path: Path) -> None:
    """As CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Held._fields)
        writer.writerows(samples)


@in_style()
def draw(samples: Sequence[Held], path: Path, title: str, by: str = "seconds", unit: str = "time [s]") -> None:
    """Memory against time, or against what was done; every label a colour."""
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for label in dict.fromkeys(sample.label for sample in samples):
        some = [sample for sample in samples if sample.label == label]
        axes.plot([getattr(sample, by) for sample in some], [sample.memory for sample in some], label=label)
    axes.set(xlabel=unit, ylabel="anonymous memory of all processes [GB]", title=title)
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path)
    plt.close(figure)
