"""Commands that are killed at one of the moments at which they change files, and are typed again (docs of `faulty`).

`campaign.py` does the same, and more, at random and at length.
"""

from __future__ import annotations

import shutil
import sys

import faulty
import pytest
from archive_server import serving, write_lists
from chain import Chain, stages
from mini_archive import BASE, write_archive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks with threads of torch in it")

#: How many moments of each; the last ones are always among them, when a result is there and not yet tidied up.
KILLS = {
    "simulate": 3, "ingest": 4, "ingest into": 4, "fit": 4, "compare": 4, "compare into": 3, "sweep": 2,
    "reproduce": 2, "embed": 4, "siblings": 4, "export numpy": 2, "evaluate": 2, "report": 2, "download": 2,
}  # fmt: skip
FULL = ("ingest", "embed")


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The commands, each with its folder before and what is in it afterwards."""
    folder = tmp_path_factory.mktemp("faults")
    archive = write_archive(folder / "sas")
    write_lists(archive, f"{BASE}/*/*/*.fits", "r12_l33_{TELESCOPE}_{FIELD}.sha1sum")
    with serving(archive) as server:
        yield Chain(folder / "chain", [stage for stage in stages(server.address) if stage.name in KILLS])


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
    for moment in moments(changes, 4):
        folder = chain.before(stage, tmp_path / f"full_at_{moment}")
        full = faulty.fails(faulty.DISK_FULL)
        ended = faulty.run(folder, stage.command, at=moment, then=full, kinds=faulty.GROWING)
        said = faulty.said(folder)
        if ended.code != 0:  # a lock that cannot be made is no reason to stop
            assert ended.code == 2, (moment, said)
            assert said.count("error: ") == 1
            assert "No space left on device" in said, (moment, said)
            assert str(tmp_path) in said or "store=store" in said, said
        assert chain.harm(stage, folder) == [], moment
