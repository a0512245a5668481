"""3,000 damaged and hostile files (docs of `fuzz`): each is used, listed with a reason, or refused; none does harm."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits of Linux")

FILES, SEED = 3000, 0


def test_no_file_does_harm(tmp_path):
    from fuzz import Fuzz

    verdicts = Fuzz(tmp_path / "fuzz", SEED).run(range(FILES))
    assert verdicts.defects == {}, f"python tests/faults/fuzz.py seed={SEED} case=N shows one of them again"
    assert sum(verdicts.counts.values()) == FILES
    assert min(verdicts.total(what) for what in ("used", "listed", "refused")) > FILES / 20


def test_a_defect_is_found(tmp_path):
    """Readers that fail, are slow, take memory, or believe what a checksum denies."""
    import time

    import numpy as np
    from fuzz import Fuzz
    from fuzz_kinds import Kind

    def fails(_):
        raise ZeroDivisionError

    def slow(_):
        end = time.process_time() + 20
        while time.process_time() < end:
            pass

    class Few(Fuzz):
        def __init__(self):
            self.folder, self.seed = tmp_path, 0
            (tmp_path / "file").write_bytes(b"content")
            readers = {
                "fails": fails,
                "slow": slow,
                "memory": lambda _: np.ones(2 * 10**8),
                "ends": lambda _: __import__("os")._exit(3),
            }
            kinds = {
                name: Kind(None, str(tmp_path / "file"), lambda _, content: content, read)
                for name, read in readers.items()
            }
            kinds["believed"] = Kind(
                None, str(tmp_path / "file"), lambda *_: b"other", lambda p: p.read_bytes(), checked=True
            )
            self.kinds, self.names, self.good = kinds, [*kinds], dict.fromkeys(kinds, "")

        def name(self, number):
            return self.names[number]

        def case(self, number):
            name = self.names[number]
            return name, self._placed(self.kinds[name], None)

    verdicts = Few().run(range(5))
    assert {kind for kind, _ in verdicts.defects.values()} == {"fails", "slow", "memory", "ends", "believed"}
