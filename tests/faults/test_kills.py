"""Commands that are killed at one of the moments at which they change files, and are typed again (docs of `faulty`)."""

from __future__ import annotations

import shutil
import sys

import faulty
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks with threads of torch in it")

SURVEY = ["simulate", "root=archive", "simulation.n_field=20", "simulation.repeats=5"]
STORE = ["ingest", "survey.root=archive", "store=store"]
FIT = ["fit", "store=store", "compressor.n_components=4", "compressor.max_iterations=2", "out=rsca.safetensors"]
EMBED = ["embed", "model=rsca.safetensors", "store=store", "out=features.fits"]
CHAIN = [SURVEY, STORE, FIT, EMBED]
#: How many moments of each; the last ones are always among them, when a result is there and not yet tidied up.
TRIED = {"simulate": 3, "ingest": 5, "fit": 4, "embed": 4}
IS_THERE = ("holds another run", "exists already", "holds something already")


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """Command -> (the folder before it, the folder after it, how many changes it makes)."""
    folder, found = tmp_path_factory.mktemp("chain"), {}
    before = folder / "start"
    before.mkdir()
    for command in CHAIN:
        after = folder / f"after_{command[0]}"
        shutil.copytree(before, after)
        code, changes = faulty.run(after, command)
        assert code == 0, faulty.said(after)
        found[command[0]] = before, after, changes
        before = after
    return found


def moments(count, tried):
    """Evenly spread, and the last three."""
    return sorted({*(1 + number * count // tried for number in range(tried - 3)), count - 2, count - 1, count})


@pytest.mark.parametrize("command", CHAIN, ids=lambda command: command[0])
def test_a_killed_command_goes_on_ends_the_same_and_leaves_nothing(states, tmp_path, command):
    before, after, changes = states[command[0]]
    wanted = faulty.content(after)
    for moment in moments(changes, TRIED[command[0]]):
        folder = tmp_path / f"killed_at_{moment}"
        shutil.copytree(before, folder)
        assert faulty.run(folder, command, at=moment)[0] == -9
        code, _ = faulty.run(folder, command)
        said = faulty.said(folder)
        assert code == 0 or (code == 2 and any(text in said for text in IS_THERE)), (moment, said)
        assert faulty.content(folder) == wanted, moment
        assert [path for path in folder.rglob(".*") if path.is_dir()] == [], moment


@pytest.mark.parametrize("command", [STORE, EMBED], ids=lambda command: command[0])
def test_a_full_disk_is_said_in_one_message_and_the_next_run_goes_on(states, tmp_path, command):
    before, after, _ = states[command[0]]
    shutil.copytree(before, tmp_path / "counted")
    _, changes = faulty.run(tmp_path / "counted", command, kinds=faulty.GROWING)
    for moment in moments(changes, 4):
        folder = tmp_path / f"full_at_{moment}"
        shutil.copytree(before, folder)
        full = faulty.fails(faulty.DISK_FULL)
        code, _ = faulty.run(folder, command, at=moment, then=full, kinds=faulty.GROWING)
        said = faulty.said(folder)
        assert "Traceback" not in said
        if code != 0:  # a lock that cannot be made is no reason to stop
            assert code == 2, (moment, said)
            assert said.count("error: ") == 1
            assert "No space left on device" in said, (moment, said)
            code, _ = faulty.run(folder, command)
        assert code == 0, (moment, faulty.said(folder))
        assert faulty.content(folder) == faulty.content(after), moment
