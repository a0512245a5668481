"""Every block of docs/own-data.md is run, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rsca_torch.cli.main import main
from rsca_torch.survey.store import Store

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),  # a small survey drops dimensions
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

PAGE = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:`([\w./]+)`:\n\n)?```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def test_every_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for name, kind, text in BLOCKS:
        if kind == "python":
            exec(text, names)
        elif kind == "yaml":
            Path(name).write_text(text, encoding="utf-8")
        else:
            for line in text.splitlines():
                command, *options = shlex.split(line, comments=True)
                assert command == "rsca"
                assert main(options) == 0, line
    assert len(BLOCKS) == 9
    memory, arrays, described = (Store.open(f"of_{name}") for name in ("memory", "arrays", "description"))
    assert memory.stars.id.tolist() == arrays.stars.id.tolist() == described.stars.id.tolist()
    assert memory.stars.group.tolist() == described.stars.group.tolist()
    assert abs(memory.wavelength - arrays.wavelength).max() < 1e-6
    assert 60 <= len(described.wavelength) <= 70
