"""A partial store that was damaged after it was begun: said and read anew, and the store is the same."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from rsca_torch.files.checked import sealed
from rsca_torch.survey import store_writer
from rsca_torch.survey.store_writer import Partial

FLUX = np.arange(24, dtype=np.float32).reshape(6, 4)


@pytest.fixture
def begun(tmp_path):
    """A partial with two blocks, the second with a spectrum that cannot be used."""
    partial = Partial(tmp_path / "store", "print", np.arange(4), np.arange(4.0))
    for first in (0, 3):
        valid = np.ones((3, 4), dtype=bool)
        valid[0] = first == 0
        partial.append(FLUX[first : first + 3], FLUX[first : first + 3] + 1, valid, {})
    return partial.path


def again(begun):
    return Partial(begun.with_name("store"), "print", np.arange(4), np.arange(4.0))


def test_what_is_whole_goes_on(begun, caplog):
    partial = again(begun)
    assert (partial.done, partial.failed) == (6, {3: store_writer.NO_VALID_BIN})
    assert not caplog.records


def truncated(begun):
    for name in ("flux", "error"):
        os.truncate(begun / f"{name}.raw", 20)


def flipped(begun):
    content = bytearray((begun / "error.raw").read_bytes())
    content[50] ^= 4
    (begun / "error.raw").write_bytes(content)


def removed(begun):
    (begun / "flux.raw").unlink()


def edited(**changes):
    def edit(begun):
        journal = json.loads((begun / "journal.json").read_text())
        (begun / "journal.json").write_text(json.dumps({**journal, **changes}))

    return edit


def resealed(**changes):
    def edit(begun):
        journal = json.loads((begun / "journal.json").read_text())
        journal.pop("sha256")
        (begun / "journal.json").write_text(json.dumps(sealed({**journal, **changes})))

    return edit


def journal(content):
    return lambda begun: (begun / "journal.json").write_bytes(content)


DAMAGE = {
    "truncated": truncated,
    "flipped": flipped,
    "removed": removed,
    "more than is there": edited(done=10**9),
    "less than none": edited(done=-5),
    "other counts": edited(n_valid=5),
    "no text": journal(b"\xff\xfe\0"),
    "empty": journal(b""),
    "a list": journal(b"[]"),
    "deep": journal(b"[" * 100_000),
    "resealed, other numbers": resealed(done=99),
    "resealed, no blocks": resealed(blocks=[]),
    "resealed, no list": resealed(blocks=3),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_said_and_read_anew(begun, caplog, damage):
    DAMAGE[damage](begun)
    partial = again(begun)
    assert (partial.done, partial.failed) == (0, {})
    assert [path.stat().st_size for path in begun.glob("*.raw")] == [0, 0]
    assert "is damaged" in caplog.text
    assert "read anew" in caplog.text
