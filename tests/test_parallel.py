from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from rsca_torch.errors import InputError
from rsca_torch.parallel import Parallel


def process_and(number):
    if number < 0:
        raise InputError(f"{number}: a positive number expected")
    return os.getpid(), number


def test_in_this_process_nothing_is_started():
    assert list(Parallel(processes=1).each(process_and, range(3))) == [(os.getpid(), number) for number in range(3)]


def test_little_to_do_is_done_here():
    assert {process for process, _ in Parallel(processes=2).each(process_and, range(3), pieces=0)} == {os.getpid()}


def test_several_processes_keep_the_order():
    found = list(Parallel(processes=2).each(process_and, range(20), pieces=20))
    assert [number for _, number in found] == list(range(20))
    assert os.getpid() not in {process for process, _ in found}


def test_an_error_of_another_process_is_raised_here():
    with pytest.raises(InputError, match="-1: a positive number expected"):
        list(Parallel(processes=2).each(process_and, [3, -1, 2]))


class Times:
    """A task with an array and a tensor that are worth sharing, of which a fresh copy counts its calls."""

    def __init__(self):
        self.array, self.tensor, self.calls = np.arange(300_000), torch.arange(300_000)[:, None], 0

    def __call__(self, number):
        self.calls += 1
        time.sleep(0.05)
        self.array[:1] = self.tensor[:1] = number  # nobody else's
        return os.getpid(), int(self.array[1] * number + self.tensor[number, 0]), self.calls, where_is(self.array)


def where_is(array):
    """Mapped into memory, in a worker of Dask, or neither."""
    while array is not None:
        if isinstance(array, np.memmap):
            return "mapped"
        array = getattr(array, "base", getattr(array, "obj", None))
    if "distributed" not in sys.modules:
        return "copied"
    return type(sys.modules["distributed"].get_worker()).__name__


@pytest.mark.parametrize("backend", ["processes", "dask"])
def test_a_task_is_made_once_in_each_process(backend):
    if backend == "dask":
        pytest.importorskip("distributed")
    task = Times()
    found = list(Parallel(backend, processes=2).each(task, range(1, 7)))
    assert [value for _, value, *_ in found] == [2 * number for number in range(1, 7)]
    assert os.getpid() not in {process for process, *_ in found}
    for process in {process for process, *_ in found}:
        calls = sorted(number for other, _, number, _ in found if other == process)
        assert calls == [*range(1, len(calls) + 1)]
    assert {where for *_, where in found} == {"mapped" if backend == "processes" else "Worker"}
    assert (task.calls, task.array[0]) == (0, 0)


def waits_for(seconds):
    time.sleep(seconds)
    return seconds


def test_no_more_is_begun_than_is_taken():
    """However fast others are, results do not pile up here."""
    taken = []
    found = Parallel(processes=2).each(waits_for, (taken.append(number) or 0.0 for number in range(50)))
    next(found)
    time.sleep(0.5)
    assert len(taken) == 5
    assert list(found) == [0.0] * 49


def test_what_is_done_first_comes_first():
    assert list(Parallel(processes=2).as_done(waits_for, [1.5, 0.0])) == [0.0, 1.5]


def ends(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_told():
    with pytest.raises(InputError, match=r"one of processes=2 was ended from outside, .*: give fewer"):
        list(Parallel(processes=2).each(ends, range(2)))


def test_a_task_that_cannot_be_sent_is_refused():
    held = (number for number in range(3))
    with pytest.raises(InputError, match=r"sent to other processes, which this cannot be: TypeError: .*generator"):
        list(Parallel(processes=2).each(lambda number: (held, number), range(2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "threads"}, "parallel.backend must be processes, dask or ray, got 'threads'"),
        ({"processes": 0}, "parallel.processes=0: at least 1 expected"),
        ({"address": "tcp://a:1"}, "only parallel=dask and parallel=ray have a scheduler"),
    ],
    ids=["backend", "processes", "address"],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        Parallel(**options)


def test_a_cluster_without_its_package_is_refused(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match="parallel=ray needs the package ray: pip install ray"):
        list(Parallel(backend="ray").each(abs, [1]))


def test_a_process_that_starts_knows_at_once_with_whom_it_ends():
    """Torch takes seconds to import, in which nobody would look whether its parent is there."""
    code = "import sys, rsca_torch.parallel.workers; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def held_signals(_):
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals of POSIX")
def test_processes_leave_signals_to_the_one_that_started_them():
    for held in Parallel(processes=2).each(held_signals, range(4)):
        assert {signal.SIGINT, signal.SIGTERM} <= held
    assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, ())
