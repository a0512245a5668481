"""`rsca COMMAND --help`: every option with its value and what it means, from the comments in conf/."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from rsca_torch.cli.help import help_of
from rsca_torch.cli.main import COMMANDS, CONFIG, main
from rsca_torch.cli.meanings import comments, composed
from rsca_torch.cli.options import hydra_overrides

composed_once = cache(composed)  # by the two tests of every YAML
FILES = sorted(str(path.relative_to(CONFIG).with_suffix("")) for path in CONFIG.rglob("*.yaml"))


def keys(node, above=""):
    """Every key of a YAML, dotted, but Hydra's own; {...} in one line is one."""
    for key, value in node.value:
        name = f"{above}{key.value}"
        if name == "defaults" or key.value.startswith("_"):
            continue
        yield name
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from keys(value, f"{name}.")


@pytest.mark.parametrize("name", FILES)
def test_every_key_of_conf_has_a_meaning(name):
    text = (CONFIG / f"{name}.yaml").read_text(encoding="utf-8")
    root = yaml.compose(text)
    folder = name.rpartition("/")[0]
    # What another YAML of the folder says counts too, where it is built on that.
    meanings = composed_once(None, (f"+{name.replace('/', '=')}",)).meanings if folder else comments(text)
    place = f"{folder}." if folder else ""
    lacking = [key for key in keys(root) if not meanings[f"{place}{key}"]]
    assert not lacking, "give each a comment in its line: what it means, and its unit in brackets"
    torn = [key for key in keys(root) if re.match(r"(of|at|in|than) (?!which|\w+=)", meanings[f"{place}{key}"])]
    assert not torn, "say what it is, not only of what: --help shows the line by itself"


@pytest.mark.parametrize("name", [name for name in FILES if "/" in name])
def test_every_choice_says_what_it_is(name):
    folder, _, choice = name.partition("/")
    (said,) = [group.said for group in composed_once(None, (f"+{folder}={choice}",)).groups if group.place == folder]
    assert said[choice]


def leaves(values, meanings, above=""):
    for name, value in values.items():
        key = f"{above}{name}"
        if not str(name).startswith("_"):
            if isinstance(value, dict) and any(known.startswith(f"{key}.") for known in meanings):
                yield from leaves(value, meanings, f"{key}.")
            else:
                yield key


@pytest.mark.parametrize("command", COMMANDS)
def test_one_line_an_option_with_its_value_and_meaning(command, capfd, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main([command, "--help"]) == 0
    said = capfd.readouterr().out
    assert "?." not in said
    assert "Returns:" not in said
    assert "Raises:" not in said
    assert "_target_:" not in said.replace("{_target_: ", "")
    found = composed(command, hydra_overrides(command, []))
    lines = said.splitlines()
    for key in leaves(found.values, found.meanings):
        mine = [line for line in lines if line.startswith(f"  {key}=")]
        if any(group.place == key for group in found.groups):  # nothing in it but a class
            assert any(f"{key}=" in line for line in lines)
            continue
        assert len(mine) == 1, key
        assert found.meanings[key]
        assert mine[0].endswith(f"  {found.meanings[key]}")


@pytest.mark.parametrize("command", COMMANDS)
def test_it_fits_a_terminal(command):
    said = help_of(command, hydra_overrides(command, []), 80)
    assert max(len(line) for line in said.splitlines()) <= 80


def test_it_is_of_the_options_that_are_given(capfd, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["compare", "learner=nca", "seed=3", "compressor.remove=fibre", "pairs=all", "-h"]) == 0
    said = capfd.readouterr().out
    assert "stands with the value that it has with learner=nca seed=3" in " ".join(said.split())
    for line in ("  seed=3", "  * nca", "    rsca", "  learner.objective=expected", "  learner.recipe.epochs=300"):
        assert re.search(rf"^{re.escape(line)} +\w", said, re.MULTILINE), line
    assert "learner.mad_factor" not in said
    assert re.search(r"^  \* fibre +\w", said, re.MULTILINE)
    assert re.search(r"^      width: 10.0 +width of a group \[fibres, of 300\]$", said, re.MULTILINE)
    assert re.search(r"^  pairs.max_velocity=null +.* \[km/s\]$", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("+survey.cuts.snr={column: SNR, above: 100}", "  survey.cuts.snr={column: SNR, above: 100}"),
        ("survey.cuts=[]", "  survey.cuts=[]"),
        ("abundances=null", "learner=NAME"),
        ("abundances=none", "  * none"),
        ("baselines.raw=null", "pairs=NAME"),
        ("+learner@baselines.lda=lda", "  baselines.lda.n_dimensions=null"),
        ("learner._target_=my_package.Mine", "learner=NAME"),
    ],
    ids=["a cut", "no cut", "no abundances", "none", "without a baseline", "another baseline", "a class"],
)
def test_what_is_added_or_left_out(given, line, capfd):
    assert main(["compare", given, "--help"]) == 0
    assert [said for said in capfd.readouterr().out.splitlines() if said.startswith(line)]


def test_a_yaml_of_ones_own_is_told_of_too(tmp_path, capfd):
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "mine.yaml").write_text("# Mine, of like colour.\nmost: 0.1 # difference in colour [mag]\n")
    assert main(["compare", "--config-dir", str(tmp_path), "pairs=mine", "--help"]) == 0
    said = capfd.readouterr().out
    assert re.search(r"^  \* mine +Mine, of like colour$", said, re.MULTILINE)
    assert re.search(r"^  pairs.most=0.1 +difference in colour \[mag\]$", said, re.MULTILINE)


def test_a_sweep_is_no_obstacle_and_a_misspelt_group_is_said(capfd):
    assert main(["compare", "-m", "learner=rsca,nca", "seed=2", "--help"]) == 0
    assert "  seed=2 " in capfd.readouterr().out
    assert main(["compare", "learner=rcsa", "--help"]) == 2
    assert "rcsa" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")
def test_hydras_own_help_is_still_there(capfd):
    with pytest.raises(SystemExit):
        main(["compare", "--hydra-help"])
    assert "--multirun" in capfd.readouterr().out
    main(["compare", "--cfg", "job"])
    assert "n_components: 60" in capfd.readouterr().out


def test_help_does_not_load_lightning():
    code = "import sys; from rsca_torch.cli.main import main; main(['fit', '-h']); sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=Path(CONFIG).parent).returncode == 0


def test_comments_are_read_where_they_stand():
    text = """# Head.
a: "x # no comment" # one
b: # two
  - [1, 2] # not the key's
c: {d: 1, e: "#"} # three
# above
# it
f: null
# far

g: 1
_target_: x # no option
"""
    assert comments(text) == {"a": "one", "b": "two", "c": "three", "f": "above it", "g": ""}
