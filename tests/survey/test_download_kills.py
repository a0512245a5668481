"""Killed at random moments, a download goes on, and no wrong file ever has a final name."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from archive_server import serving, write_lists
from mini_archive import BASE, write_archive

KILLS = 20
HERE = Path(__file__).parent


@contextmanager
def runs(address: str):
    """A function that starts a run and kills it after so many seconds (None: lets it end): its exit code, its time."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}
    command = [sys.executable, str(HERE / "download_child.py"), address]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
    ) as parent:
        assert parent.stdout.readline() == "ready\n"

        def run(root: Path, killed_after: float | None = None) -> tuple[int, float]:
            start = time.monotonic()
            parent.stdin.write(f"{root}\n")
            child = int(parent.stdout.readline())
            if killed_after is not None:
                time.sleep(killed_after)
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            return int(parent.stdout.readline()), time.monotonic() - start

        yield run
        parent.stdin.close()


def require_right(root: Path, archive: Path) -> int:
    files = list(root.rglob("*.fits"))
    for path in files:
        assert path.read_bytes() == (archive / path.relative_to(root)).read_bytes(), path
    return len(files)


def test_killed_at_random_moments_it_goes_on(tmp_path):
    archive, root = write_archive(tmp_path / "sas"), tmp_path / "tree"
    write_lists(archive, f"{BASE}/*/*/*.fits", "r12_l33_{TELESCOPE}_{FIELD}.sha1sum")
    moments = random.Random(0)
    with serving(archive) as server:
        server.piece, server.delay = 0.004, 0.005  # seconds for a part of a file: a whole run takes about half a second
        with runs(server.address) as run:
            code, lasts = run(tmp_path / "another")
            assert code == 0
            seen = []
            for _ in range(KILLS):
                code, _ = run(root, moments.uniform(0, lasts / 3))
                assert code in (0, -signal.SIGKILL)
                seen.append(require_right(root, archive) if root.exists() else 0)
            assert run(root)[0] == 0
    assert require_right(root, archive) == 16
    assert seen == sorted(seen)
    assert len({*seen}) > 2  # it went on, and not from the beginning
    assert server.ranges  # in the middle of a file too
    assert server.most <= 4
    assert {path.name for path in root.iterdir()} <= {"dr16", "download_manifest.csv", ".lock"}
    assert not list(root.rglob("*.part"))
