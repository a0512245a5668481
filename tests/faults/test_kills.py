"""Commands that are killed at one of the moments at which they change files, or are refused what they need.

They are typed again, and come to the same end (docs of `faulty`).

`campaign.py` does the same, and more, at random and at length.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import sys
import time

import faulty
import pytest
from chain import Chain, archive, stages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks with threads of torch in it")

#: How many moments of each; the last ones are always among them, when a result is there and not yet tidied up.
KILLS = {
    "ingest": 6, "ingest into": 4, "fit": 5, "compare": 2, "reproduce": 2, "embed": 7, "siblings": 6,
    "export numpy": 4, "evaluate": 2, "download": 2,
}  # fmt: skip
FULL = ("ingest", "embed")


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The commands, each with its folder before and what is in it afterwards."""
    folder = tmp_path_factory.mktemp("faults")
    with archive(folder / "sas") as address:
        yield Chain(folder / "chain", [stage for stage in stages(address) if stage.name in KILLS])


def stage_of(chain, name):
    return next(stage for stage in chain.stages if stage.name == name)


def moments(count, tried):
    """The last ones, and others spread evenly before them."""
    last = min(3, tried - 1)
    return sorted(
        {*(1 + number * count // (tried - last) for number in range(tried - last)), *range(count - last + 1, count + 1)}
    )


@pytest.mark.parametrize("name", KILLS)
def test_a_killed_command_goes_on_ends_the_same_and_leaves_nothing(chain, tmp_path, name):
    stage = stage_of(chain, name)
    for moment in moments(chain.ended[name].changes, KILLS[name]):
        folder = chain.before(stage, tmp_path / f"killed_at_{moment}")
        ended = faulty.run(folder, stage.command, at=moment)
        assert (ended.code, ended.left, ended.memory) == (-9, [], []), (moment, faulty.said(folder))
        assert chain.harm(stage, folder) == [], moment
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_said_in_one_message_and_the_next_run_goes_on(chain, tmp_path, name):
    stage = stage_of(chain, name)
    changes = faulty.run(chain.before(stage, tmp_path / "counted"), stage.command, kinds=faulty.GROWING).changes
    for moment in moments(changes, 3):
        folder = chain.before(stage, tmp_path / f"full_at_{moment}")
        full = faulty.fails(faulty.DISK_FULL)
        ended = faulty.run(folder, stage.command, at=moment, then=full, kinds=faulty.GROWING)
        said = faulty.said(folder)
        if ended.code != 0:  # a lock that cannot be made is no reason to stop
            assert ended.code == 2, (moment, said)
            assert said.count("error: ") == 1
            assert "No space left on device" in said, (moment, said)
            assert re.search(rf"No space left on device: ({tmp_path}|stars|store=)", said), said  # where that is
        assert chain.harm(stage, folder) == [], moment


@pytest.mark.parametrize("name", ["ingest", "fit", "download"])
def test_a_disk_that_can_be_read_only_is_said_to_be_one(chain, tmp_path, name):
    stage = stage_of(chain, name)
    folder = chain.before(stage, tmp_path / "read_only")
    ended = faulty.run(folder, stage.command, at=faulty.EVERY, then=faulty.fails(errno.EROFS))
    said = faulty.said(folder)
    assert ended.code == 2, said
    assert said.count("error: ") == 1
    assert "can be read only" in said or "cannot be written" in said, said
    assert chain.harm(stage, folder) == []


@pytest.mark.parametrize("name", ["ingest", "embed"])
def test_a_folder_that_may_not_be_written_is_said_to_be_one(chain, tmp_path, name):
    stage = stage_of(chain, name)
    folder = chain.before(stage, tmp_path / "here")
    for above in (tmp_path, tmp_path.parent, tmp_path.parent.parent):  # pytest's are its user's alone
        above.chmod(0o755)
    faulty.temporary_of(folder).mkdir()
    faulty.temporary_of(folder).chmod(0o777)
    folder.chmod(0o555)
    ended = faulty.run(folder, stage.command, before=lambda: os.geteuid() or os.setuid(65534))
    folder.chmod(0o755)
    said = faulty.said(folder)
    assert ended.code == 2, said
    assert said.count("error: ") == 1
    assert "Permission denied" in said
    assert "choose a place where you may" in said
    assert chain.harm(stage, folder) == []


@pytest.mark.parametrize("name", ["fit", "reproduce"])
def test_of_two_at_once_one_makes_the_result_and_the_other_is_refused(chain, tmp_path, name):
    stage = stage_of(chain, name)
    folder = chain.before(stage, tmp_path / "two")
    first = faulty.start(folder, stage.command)
    while (
        not any(folder.rglob("*.lock"))
        and os.waitid(os.P_PID, first.child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        time.sleep(0.001)
    first.tell(signal.SIGSTOP)  # in the middle of its work
    second = faulty.run(folder, stage.command)
    first.tell(signal.SIGCONT)
    # A lock's file is there a moment before it is held: stopped in that moment, the first is the one refused.
    assert sorted((first.end().code, second.code)) == [0, 2], faulty.said(folder)
    assert "is in use: another run writes there; wait for its end, or choose another place" in faulty.said(folder)
    assert faulty.differing(chain.wanted[name], faulty.content(folder)) == []


@pytest.mark.parametrize("name", ["embed"])
def test_a_clock_that_goes_backwards_changes_nothing(chain, tmp_path, name):
    stage = stage_of(chain, name)
    folder = chain.before(stage, tmp_path / "clock")
    faulty.run(folder, stage.command, at=chain.ended[name].changes // 2)
    assert faulty.run(folder, stage.command, before=faulty.backwards).code == 0
    assert chain.harm(stage, folder) == []


@pytest.mark.parametrize("megabytes", [8])
@pytest.mark.parametrize("name", ["fit", "siblings"])
def test_too_little_memory_is_said_in_one_sentence(chain, tmp_path, name, megabytes):
    stage = stage_of(chain, name)
    folder = chain.before(stage, tmp_path / "memory")
    ended = faulty.run(folder, stage.command, before=faulty.with_memory(megabytes))
    said = faulty.said(folder)
    assert ended.code == 0 or (ended.code == 2 and said.count("error: ") == 1 and "memory" in said), said
    assert chain.harm(stage, folder) == []
