"""Files and folders that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsca_torch.files import updated_folder


def test_a_folder_is_filled_at_the_end_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "kept.txt").write_text("mine")

    def stop():
        with updated_folder(tmp_path) as part:
            (part / "results.json").write_text("{}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop()
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    moved, replace = [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: moved.append(target.name) or replace(self, target))
    with updated_folder(tmp_path) as part:
        (part / "results.json").write_text("{}")
        (part / "logs" / "fold").mkdir(parents=True)
        (part / "logs" / "fold" / "metrics.csv").write_text("1")
        (part / "set_aside.fits").write_text("2")
    assert moved[-1] == "results.json"  # what says that the run is finished
    assert (tmp_path / "logs" / "fold" / "metrics.csv").read_text() == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "kept.txt",
        "logs",
        "results.json",
        "set_aside.fits",
    ]
