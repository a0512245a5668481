"""What the README shows is what runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from rsca_torch.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("default::rsca_torch.NumericalWarning")
def test_the_python_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = "rsca_simulated/seed-0/store"
    assert main(["simulate", "root=archive", "simulation.n_field=60"]) == 0
    assert main(["ingest", "survey.root=archive", f"store={store}"]) == 0
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    smaller = example.replace("repeats=store.repeats", "n_components=4, repeats=store.repeats")
    assert smaller.count("n_components=4") == 1
    smaller = smaller.replace("Linear(60,", "Linear(4,")
    exec(smaller, names)
    assert names["alike"].shape == (185, 185)
    assert names["network"](torch.ones(3, len(names["rsca"].wavelength))).shape == (3, 1)


def test_commands_and_links():
    for command in re.findall(r"rsca (\w+) [a-z]+[.=]", README):
        assert command in COMMANDS
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_both_commands_install_the_tested_versions():
    for name in ("main job", "tests"):
        (block,) = re.findall(rf"<!-- {name} -->\n```sh\n(.*?)\n```\n<!-- end -->", README)
        assert "pip install -c constraints.txt" in block
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().split()
