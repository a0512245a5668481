"""Every block of the pages for other people's models is run, in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rsca_torch.cli.main import main
from rsca_torch.ppca.trainer import without_tips

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),  # a small survey drops dimensions
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]
DOCS = Path(__file__).parents[1] / "docs"
PAGES = {"judge-your-own": 7, "scikit-learn": 5, "own-training": 6, "notebooks": 4}  # blocks of Python and commands

PAGES |= {
    "coming-from/apogee": 3,
    "coming-from/astroNN": 2,
    "coming-from/metric-learn": 2,
    "coming-from/pytorch-metric-learning": 5,
    "coming-from/the-cannon": 3,
}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(python|sh)\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == PAGES[page]
    names: dict[str, object] = {}
    for kind, block in blocks:
        if kind == "python":
            with without_tips():
                exec(block, names)
            continue
        for line in block.splitlines():
            command, *options = shlex.split(line, comments=True)
            assert command == "rsca"
            assert main(options) == 0, line
