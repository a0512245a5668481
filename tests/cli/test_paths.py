"""Whatever a shell can name is a path, and stays the same file wherever the process goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rsca_torch.cli.paths import quoted_paths

NAMES = [
    "16", "1_6", "1e3", "nan", "true", "store (1)", "it's", 'say "x"', "Größe", "a=b", "s#1", "a[b]", "[a]", "{a: b}",
    "a,b", "a:b", "a b ", " a", "back\\slash", "end\\", "it\\'s", "choice(a,b)", "range(3)",
    "seed=0,x=1/rsca.safetensors",
    "$HOME", "a;b", "a&b", "a*b", "+a", "~a", "@a", "plain/path.fits",
]  # fmt: skip


def value(option):
    return OverridesParser.create().parse_override(option).value()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["store", "out", "model", "sweep", "survey.root", "+survey.members", "checkpoints"])
def test_a_name_is_the_path_of_that_name(key, name):
    if key == "+survey.members" and name == "[a]":
        pytest.skip("a list there")
    (option,) = quoted_paths([f"{key}={name}"], sweeping=False)
    assert value(option) == name
    assert quoted_paths([option], sweeping=False) == [option]


def test_what_hydra_means_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    same = [
        "store=null",
        "out=",
        "out='a b'",
        "seed=16",
        "learner=rca",
        "~store",
        "-m",
        "hydra.run.dir=16",
        "store=a/b.c",
    ]
    assert quoted_paths(same, sweeping=False) == same
    assert quoted_paths(["survey.members=[a,b]"], sweeping=False) == ["survey.members=[a,b]"]
    assert quoted_paths(["survey.ids={gaia_dr3:a}"], sweeping=False) == ["survey.ids={gaia_dr3:a}"]
    assert quoted_paths(["store=a,b"], sweeping=True) == ["store=a,b"]
    assert quoted_paths(["store=16"], sweeping=True) == ["store='16'"]
    assert value(quoted_paths(["store=runs/${seed} (1)"], sweeping=False)[0]) == "runs/${seed} (1)"
    assert Path(value(quoted_paths(["store=~/store"], sweeping=False)[0])) == tmp_path / "store"
    assert os.path.isabs(value(quoted_paths(["store=~"], sweeping=False)[0]))  # noqa: PTH117
