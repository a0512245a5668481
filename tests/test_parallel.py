from __future__ import annotations

import os
from functools import partial

import pytest

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


def test_a_dask_cluster_gives_the_same():
    pytest.importorskip("distributed")
    found = list(Parallel(backend="dask", processes=2).each(partial(pow, 2), range(9)))
    assert found == [2**number for number in range(9)]


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
