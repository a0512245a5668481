"""Commands that are told to end, or whose processes are: in seconds, in one line, and no process is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import faulty
import lightning  # noqa: F401  (once, for all that is forked)
import pytest
from small_store import small_store

from rsca_torch.cli import main as module
from rsca_torch.cli.signals import SECONDS, heard_of
from rsca_torch.parallel import Parallel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks with threads of torch in it, and looks at /proc")

SOON = 5.0  # seconds
LINE = re.compile(r"^(interrupted|terminated)(;.*)?$", re.MULTILINE)
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
SMALL = ["compressor.n_components=4", "compressor.max_iterations=2", "~baselines.raw", "~baselines.scaled"]
TRAINED = [
    "compare",
    "store=store",
    *SMALL,
    "learner=nca",
    "learner.recipe.epochs=100000",
    "learner.recipe.inner=0",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("signals") / "here"
    place.mkdir()
    small_store(place / "store")
    return place


def waits(seconds):
    time.sleep(seconds)
    return seconds


def in_processes():
    """A command that has processes of its own."""
    module._function = lambda _: lambda _: sum(Parallel(processes=2).each(waits, [0.01, 60.0, 60.0, 60.0]))
    return module.main(["learners"])


def told_when(folder, command, ready, number, all_of_it=False):
    """It gets a signal as soon as something is the case."""
    going = faulty.start(folder, command)
    until = time.monotonic() + 60
    while not ready(going) and time.monotonic() < until:
        time.sleep(0.05)
    now = time.monotonic()
    going.tell(number, all_of_it)
    return going.end(now)


def has_workers(going):
    return len([each for each in faulty.processes_of(going.child) if "popen_loky" in each]) == 2


def require_clean(folder, ended, number):
    said = faulty.said(folder)
    assert ended.code == 128 + number, said
    assert ended.after < SOON
    assert len(LINE.findall(said)) == 1, said
    assert "Traceback" not in said
    assert (ended.left, ended.memory, faulty.left_temporary(folder)) == ([], [], [])


@BOTH
def test_a_training_is_ended_in_one_line(folder, number):
    (folder.parent / "here.log").unlink(missing_ok=True)
    before = faulty.content(folder)
    ended = told_when(folder, TRAINED, lambda _: any(folder.rglob("training")), number)
    require_clean(folder, ended, number)
    assert not [name for name in faulty.differing(before, faulty.content(folder)) if "rsca_checkpoints" not in name]


@BOTH
def test_processes_end_with_the_command_that_is_told_to(tmp_path, number):
    place = tmp_path / "here"
    place.mkdir()
    ended = told_when(place, in_processes, has_workers, number, all_of_it=True)
    require_clean(place, ended, number)


def test_processes_end_with_the_command_that_is_killed_and_what_it_shared_goes_with_the_next(tmp_path):
    place = tmp_path / "here"
    place.mkdir()
    ended = told_when(place, in_processes, has_workers, signal.SIGKILL)
    assert (ended.code, ended.left, ended.memory) == (-9, [], [])
    assert len(faulty.left_temporary(place)) == 1
    assert faulty.run(place, lambda: len(list(Parallel(processes=2).each(waits, [0.0]))) - 1).code == 0
    assert faulty.left_temporary(place) == []


def test_jobs_of_a_launcher_end_with_the_sweep_that_is_killed(folder):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launched = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1", "out=sweep", "-m"]
    ended = told_when(folder, [*TRAINED, *launched], has_workers, signal.SIGKILL)
    assert (ended.code, ended.left, ended.memory) == (-9, [], [])


def test_a_command_that_cannot_stop_is_ended(tmp_path):
    """In a long product of matrices, say, nothing is heard."""

    def deaf():
        with heard_of():
            until = time.monotonic() + 60
            while time.monotonic() < until:
                try:
                    time.sleep(60)
                except KeyboardInterrupt:
                    continue
        return 0

    place = tmp_path / "here"
    place.mkdir()
    ended = faulty.told_at(place, deaf, 0.3, signal.SIGTERM)
    assert ended.code == 143
    assert SECONDS - 0.1 < ended.after < SOON
    assert faulty.said(place) == "terminated; what is half done goes with the next run of the same command\n"


def test_who_follows_the_first_signal_with_another_does_not_disturb(tmp_path):
    def tidying():
        with heard_of() as told:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.1)
                return told.code
        return 0

    place = tmp_path / "here"
    place.mkdir()
    assert faulty.told_at(place, tidying, 0.3, signal.SIGTERM).code == 143


def test_handlers_are_those_of_the_caller_afterwards_and_in_what_it_forks():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with heard_of():
        assert signal.getsignal(signal.SIGTERM) not in before
        child = os.fork()
        if not child:
            os._exit([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before)
        assert os.waitpid(child, 0)[1] == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@BOTH
def test_what_is_ignored_stays_so(tmp_path, number):
    """As nohup has it."""

    def ignores():
        signal.signal(number, signal.SIG_IGN)
        with heard_of():
            time.sleep(0.5)
        return 7

    place = tmp_path / "here"
    place.mkdir()
    assert faulty.told_at(place, ignores, 0.2, number).code == 7


PYTHON = [sys.executable, "-m", "rsca_torch"]


@BOTH
def test_it_is_told_in_one_line_while_it_is_loaded(number):
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell has its background jobs ignore it
    with subprocess.Popen([*PYTHON, "learners"], **pipes, preexec_fn=heard) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        while "libtorch" not in maps.read_text() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate()
    assert (process.returncode, said.split("\n")[0].partition(";")[0]) == (
        128 + number,
        "interrupted" if number == signal.SIGINT else "terminated",
    )


@pytest.mark.parametrize("megabytes", [200, 500])
def test_too_little_memory_to_be_loaded_is_said_in_one_sentence(megabytes):
    limited = f"ulimit -v {1024 * megabytes}; exec {sys.executable} -m rsca_torch learners"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {megabytes * 2**20 / 1e9:.1f} GB of memory (ulimit -v) are")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]], ids=["one", "sweep"])
def test_what_a_library_makes_of_an_interruption_is_one_still(tmp_path, monkeypatch, caplog, capfd, sweep):
    """omegaconf's tidying up fails where it was interrupted; that is no bug, and no failed job."""

    def interrupted(_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        finally:
            raise AttributeError("of a library that tidies up")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_function", lambda _: interrupted)
    assert module.main(["compare", *sweep, "out=here"]) == 143
    said = caplog.text + capfd.readouterr().err
    assert "bug" not in said
    assert said.count("terminated") == 1
