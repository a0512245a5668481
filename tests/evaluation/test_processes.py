"""Folds in several processes: of a script, of classes that are in no module, and when one of them ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch

from rsca_torch import InputError, leave_one_cluster_out
from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.fold_files import FoldFiles
from rsca_torch.learners.learner import Identity
from rsca_torch.parallel import Parallel
from rsca_torch.testing import drawn_problem

SCRIPT = """
from rsca_torch import Identity, leave_one_cluster_out
from rsca_torch.testing import drawn_problem

print("the script runs")

class Mine(Identity):
    factor = 2.0

    def forward(self, z):
        return super().forward(z) * self.factor

problem = drawn_problem()
one, two = (
    leave_one_cluster_out(make, problem.field, problem.members, problem.clusters, processes=processes)
    for make, processes in ((Mine, 1), (lambda: Mine(), 2))
)
print(one.cluster_rates == two.cluster_rates)
"""


def test_a_script_needs_no_guard_and_its_classes_no_module(tmp_path):
    """Nothing is run again by the other processes, where a script would start processes in turn."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the script runs\nTrue\n", "")


class Ends(Identity):
    """A learner of which a process comes to a sudden end."""

    def initialise(self, *_):
        os.kill(os.getpid(), signal.SIGKILL)


class UnsendableError(RuntimeError):
    """An exception that cannot be made again from what it says."""

    def __init__(self, what, why):
        super().__init__(f"{what}: {why}")


class Fails(Identity):
    def initialise(self, *_):
        raise UnsendableError("no luck", "today")


def two_processes(make):
    problem = drawn_problem()
    return leave_one_cluster_out(make, problem.field, problem.members, problem.clusters, processes=2)


def test_a_process_that_is_killed_says_so():
    with pytest.raises(InputError, match=r"one of processes=2 was ended from outside, .* give fewer"):
        two_processes(Ends)


def test_an_exception_that_cannot_be_sent_is_told():
    with pytest.raises(RuntimeError, match="no luck: today"):
        two_processes(Fails)


class Drawn(Identity):
    """A learner that draws random numbers, slowly, says something, and needs an array that is worth sharing."""

    scales = torch.linspace(1, 2, 300_000)

    def initialise(self, field, *_):
        time.sleep(0.02)
        self.weight = torch.rand(field.shape[1]) * self.scales[-1]
        warnings.warn("of no weight", NumericalWarning, stacklevel=2)

    def forward(self, z):
        return z * self.weight.to(z)


def test_a_cluster_of_dask_gives_the_folds_of_one_process(tmp_path):
    pytest.importorskip("distributed")
    problem = drawn_problem()
    results = []
    for number, parallel in enumerate((None, Parallel("dask", processes=2))):
        kept = FoldFiles(tmp_path / str(number))
        with pytest.warns(NumericalWarning, match="in 5 of 5 folds, first: of no weight"):
            results.append(
                leave_one_cluster_out(
                    Drawn, problem.field, problem.members, problem.clusters, kept=kept, parallel=parallel
                )
            )
    assert results[0] == results[1]
    names = [sorted(file.name for file in (tmp_path / name).iterdir()) for name in ("0", "1")]
    assert names[0] == names[1]
    assert len(names[0]) == 5


SLOW = """
import os
import signal
import time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests in its background
from rsca_torch import Identity, leave_one_cluster_out
from rsca_torch.testing import drawn_problem

class Slow(Identity):
    def initialise(self, field, members, clusters):
        os.write(1, b"fitting\\n")  # whole, beside another process
        time.sleep(60)

problem = drawn_problem()
try:
    leave_one_cluster_out(Slow, problem.field, problem.members, problem.clusters, processes=2)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_ends_all_processes_at_once_and_silently(tmp_path):
    script = subprocess.Popen(
        [sys.executable, "-c", SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    assert script.stdout.readline() == "fitting\n"
    started = time.monotonic()
    os.killpg(script.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    out, err = script.communicate(timeout=30)
    assert time.monotonic() - started < 20
    assert (out.replace("fitting\n", ""), err) == ("interrupted\n", "")
