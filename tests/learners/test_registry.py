"""Learners from elsewhere: by class, by entry point, and as docs/plugins.md says, which is run from the page itself."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from inspect import signature
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from sklearn.linear_model import LogisticRegression

import rsca_torch.learners
from rsca_torch import InputError, Scaled
from rsca_torch.cli.main import CONFIG, main
from rsca_torch.learners import Recipe
from rsca_torch.learners.registry import GROUP, Plugin, builtin, installed, learner_class, register

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))
SMALL = [
    *("simulation.n_field=150", "simulation.stars.clusters=8"),
    *("compressor.n_components=6", "compressor.max_iterations=30"),
    *("figures=false", "calibration=null"),
]
SPECTRA_ALONE = ["~abundances.abundances", "~abundances.abundance_subset"]


@pytest.fixture(scope="module")
def diagonal():
    """The class that the page shows."""
    names = {"__name__": "diagonal_metric"}
    exec(FILES["diagonal_metric.py"], names)
    return names["DiagonalMetric"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package that the page shows, built and installed by pip into a folder of its own; its sources beside it."""
    pytest.importorskip("hatchling", reason="builds the package without the network")
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "installed"))
    for name, text in FILES.items():
        (source / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    return source, target


def run(package, *command, cwd):
    """A command, with the package installed."""
    path = os.pathsep.join([str(package[1]), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def offer(folder, name, version="1.0", **points):
    """Somebody's package, as pip leaves it: its entry points alone."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{point} = {value}" for point, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that Python looks for modules and packages in."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(ConfigStore.instance(), "repo", {**ConfigStore.instance().repo, "learner": {}})
    yield folder
    for name, module in list(sys.modules.items()):
        if str(folder) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


MODULE = """
from rsca_torch import Learner
class Halves(Learner):
    paper = "Nobody 2026"
    def __init__(self, share=0.5):
        super().__init__()
        self.share = share
    def forward(self, z):
        return z * self.share
class Quarters(Halves):
    class Inner(Halves):
        pass
"""


def test_the_built_in_learners_are_those_of_conf():
    plugins = builtin()
    assert [plugin.name for plugin in plugins] == sorted(path.stem for path in (CONFIG / "learner").glob("*.yaml"))
    assert {plugin.source for plugin in plugins} == {"built in"}
    assert [plugin.problem for plugin in plugins] == [""] * len(plugins)
    by_name = {plugin.name: plugin for plugin in plugins}
    assert by_name["rsca"] == Plugin(
        "rsca", "rsca_torch.learners.ScaledComponents", "built in", "de Mijolla & Ness 2022"
    )
    assert all(plugin.paper for plugin in plugins if plugin.name != "raw")


@pytest.mark.parametrize("name", [plugin.name for plugin in builtin()])
def test_a_configuration_has_every_option_at_its_default(name):
    """So that the file and Python mean the same."""
    written = OmegaConf.load(CONFIG / "learner" / f"{name}.yaml")
    kind = learner_class(written._target_)
    named = [option for option in signature(kind).parameters.values() if option.kind is option.POSITIONAL_OR_KEYWORD]
    assert list(written) == ["_target_", *(option.name for option in named)]
    learner, default = hydra.utils.instantiate(written), kind()
    assert type(learner) is kind
    assert kind.__name__ in rsca_torch.learners.__all__
    assert learner.recipe == default.recipe
    if "recipe" in written:
        assert list(written.recipe) == ["_target_", *(field.name for field in fields(Recipe))]
    values = {key: tuple(value) if OmegaConf.is_list(value) else value for key, value in written.items()}
    differs = {option.name for option in named if option.name != "recipe" and values[option.name] != option.default}
    # The class is RSCA as the paper's text has it; the authors' program differs, and what is recommended.
    assert differs == {"paper": {"clamp"}, "rsca": {"robust", "floor", "trim"}}.get(name, set())
    assert learner.name == ("rsca" if name in ("paper", "paper_text") else name)


def test_a_learner_of_one_file_and_one_configuration(tmp_path, monkeypatch, capfd):
    """Both in a folder that is named on the command line; nothing is installed or registered."""
    (tmp_path / "somebodys.py").write_text(MODULE)
    (tmp_path / "learner").mkdir()
    (tmp_path / "learner" / "halves.yaml").write_text("_target_: somebodys.Halves\nshare: 0.25\n")
    monkeypatch.chdir(tmp_path)
    given = ["compare", *SMALL, *SPECTRA_ALONE, "learner=halves", "learner.share=0.125"]
    wrong = [*given[:-1], "learner.share=half", "out=none"]
    for number, place in enumerate((["--config-dir", "."], [f"hydra.searchpath=[file://{tmp_path}]"])):
        done = run((None, tmp_path), "rsca_torch", *given, f"out=out{number}", *place, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / f"out{number}" / "results.json").read_text())
        assert results["config"]["learner"] == {"_target_": "somebodys.Halves", "share": 0.125}
        assert results["results"][0]["learner"] == "Halves"
        assert main([*wrong, *place]) == 2
        assert "learner.share=half is text, expected a number like 0.25" in capfd.readouterr().err
    shutil.rmtree(tmp_path / "rsca_simulated")  # some megabytes


def test_entry_points_are_listed_with_package_version_and_paper(site):
    (site / "somebodys.py").write_text(MODULE)
    offer(site, "others", "2.5", quarters="somebodys:Quarters", inner="somebodys:Quarters.Inner")
    assert installed() == [
        Plugin("inner", "somebodys.Quarters.Inner", "others 2.5", "Nobody 2026"),
        Plugin("quarters", "somebodys.Quarters", "others 2.5", "Nobody 2026"),
    ]


def test_one_that_fails_is_listed_with_the_reason_and_harms_no_other(site):
    (site / "somebodys.py").write_text(MODULE)
    (site / "broken.py").write_text("import nowhere_at_all")
    (site / "leaving.py").write_text("raise SystemExit(3)")
    (site / "halved.py").write_text("class Halves(:")
    offer(
        site,
        "others",
        a="broken:Anything",
        b="leaving:Anything",
        c="halved:Halves",
        d="gone:Halves",
        e="somebodys:Halfs",
        f="somebodys:Learner",
        g="json:JSONDecoder",
        h="somebodys",
        i="somebodys:Halves",
    )
    by_name = {plugin.name: plugin for plugin in installed()}
    expected = {
        "a": "cannot be imported: importing broken raised ModuleNotFoundError: No module named 'nowhere_at_all'",
        "b": "cannot be imported: importing leaving raised SystemExit: 3",
        "c": "cannot be imported: importing halved raised SyntaxError: invalid syntax",
        "d": "cannot be imported: there is no module gone",
        "e": "cannot be imported: somebodys has no Halfs; did you mean somebodys.Halves?",
        "f": "is no learner yet: Learner must define forward(z)",
        "g": "is no learner: a subclass of rsca_torch.Learner expected, got another class",
        "h": "names no class: module:Class expected, got somebodys",
        "i": "",
    }
    assert by_name.keys() == expected.keys()
    for name, problem in expected.items():
        assert by_name[name].problem.startswith(problem), by_name[name]
        assert bool(by_name[name].problem) == bool(problem)


def test_a_name_that_is_taken_is_said_to_be(site):
    (site / "somebodys.py").write_text(MODULE)
    offer(site, "first", rsca="somebodys:Halves", halves="somebodys:Halves")
    offer(site, "second", halves="somebodys:Quarters")
    problems = {(plugin.name, plugin.source): plugin.problem for plugin in installed()}
    assert problems == {
        ("rsca", "first 1.0"): "the name is taken (built in): choose it by learner._target_=somebodys.Halves",
        ("halves", "first 1.0"): "",
        ("halves", "second 1.0"): "the name is taken (first 1.0): choose it by learner._target_=somebodys.Quarters",
    }
    register()
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        assert hydra.compose("compare", ["learner=rsca"]).learner._target_ == "rsca_torch.learners.ScaledComponents"
        assert hydra.compose("compare", ["learner=halves"]).learner._target_ == "somebodys.Halves"


def test_an_entry_point_is_chosen_by_its_name_and_takes_options(site):
    (site / "somebodys.py").write_text(MODULE)
    (site / "broken.py").write_text("import nowhere_at_all")
    offer(site, "others", halves="somebodys:Halves", bad="broken:Anything")
    register()
    assert not {"somebodys", "broken"} & set(sys.modules)  # nothing is imported before it is chosen
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = hydra.compose("compare", ["learner=halves", "learner.share=0.25", "+learner@baselines.other=halves"])
        assert config.baselines.other == {"_target_": "somebodys.Halves"}
        learner = hydra.utils.instantiate(config.learner)
    assert torch.equal(learner(torch.ones(1, 2)), torch.full((1, 2), 0.25))
    with pytest.raises(InputError, match="importing broken raised ModuleNotFoundError"):
        learner_class("broken.Anything")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Scaled", r"=Scaled is no dotted name of a class: module.Class expected; did you mean rsca_torch.*\.Scaled\?"),
        ("rsca_torch.learners.", "no dotted name of a class"),
        ("no.Where", "=no.Where cannot be imported: there is no module no"),
        ("jsn.Decoder", r"there is no module jsn; did you mean json\.?"),
        ("json.decodr.JSONDecoder", r"json has no decodr; did you mean json.decoder"),
        ("rsca_torch.learners.Scald", r"rsca_torch.learners has no Scald; did you mean rsca_torch.learners.Scaled\?"),
        ("rsca_torch.learner.Scaled", r"rsca_torch has no learner; did you mean rsca_torch.learners or .*\.Scaled\?"),
        ("somewhere.ScaledComponent", r"no module somewhere; did you mean rsca_torch.learners.ScaledComponents\?"),
        ("rsca_torch.learners.Scaled.depth.more", "rsca_torch.learners.Scaled has no depth"),
        ("rsca_torch.InputError", "is no learner: a subclass of rsca_torch.Learner expected, got another class"),
        ("rsca_torch.fit_ppca", "expected, got a function"),
        ("rsca_torch.learners.learner", "expected, got a module"),
        ("rsca_torch.Learner", r"is no learner yet: Learner must define forward\(z\)"),
    ],
)
def test_a_target_that_cannot_be_used_says_which_part_and_what_is_near(target, message):
    with pytest.raises(InputError, match=message):
        learner_class(target)


def test_a_module_that_lies_here_is_said_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lies_here.py").write_text(MODULE)
    with pytest.raises(InputError, match=r"there is no module lies_here; it lies in this folder: PYTHONPATH=\. rsca"):
        learner_class("lies_here.Halves")


def test_classes_are_found_as_hydra_finds_them(site):
    (site / "somebodys.py").write_text(MODULE)
    for target in ("rsca_torch.Scaled", "rsca_torch.learners.weighing.Scaled", "somebodys.Quarters.Inner"):
        assert learner_class(target) is hydra.utils.get_class(target)
    assert learner_class("rsca_torch.Scaled") is Scaled


def test_the_command_refuses_what_is_no_learner(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "learner._target_=torch.nn.Identity", "out=x"]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "learner._target_=torch.nn.Identity is no learner: a subclass of rsca_torch.Learner expected" in said
    assert not list(tmp_path.iterdir())


def test_the_page_has_a_learner_of_thirty_lines():
    (learner,) = [node for node in ast.parse(FILES["diagonal_metric.py"]).body if isinstance(node, ast.ClassDef)]
    lines = ast.get_source_segment(FILES["diagonal_metric.py"], learner).splitlines()
    assert len([line for line in lines if line.strip()]) <= 30
    entry = tomllib.loads(FILES["pyproject.toml"])["project"]["entry-points"][GROUP]
    assert entry == {"diagonal": f"diagonal_metric:{learner.name}"}


def test_the_page_s_table_of_recipes_is_the_recipe():
    (table,) = re.findall(r"\| field \| default .*?\n\n", PAGE, re.DOTALL)
    said = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", table, re.MULTILINE))
    recipe = {field.name: field.default for field in fields(Recipe)}
    assert {name: ast.literal_eval(value) for name, value in said.items()} == recipe


def test_the_page_s_commands_exist():
    for command in re.findall(r"rsca (\w+)", "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))):
        assert (CONFIG / f"{command}.yaml").exists()
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists()


def test_the_page_s_learner_is_logistic_regression_on_pairs(diagonal):
    """At the optimum of scikit-learn's regression its loss is the same, and its gradient zero."""
    rng = np.random.default_rng(0)
    clusters = np.repeat([f"NGC {number}" for number in range(8)], 5)
    members = np.repeat(rng.normal(size=(8, 3)), 5, axis=0) + rng.normal(size=(40, 3)) * [0.3, 0.5, 0.7]
    one, other = np.triu_indices(40, 1)
    squared, siblings = (members[one] - members[other]) ** 2, clusters[one] == clusters[other]
    # Balanced: siblings and strangers weigh alike.
    regression = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-12, max_iter=10_000, solver="newton-cg")
    regression.fit(squared, siblings)
    weight, probability = -regression.coef_[0], regression.predict_proba(squared)[:, 1]
    assert (weight > 0).all()
    learner = diagonal()
    learner.log_weight = torch.nn.Parameter(torch.from_numpy(weight).log())
    learner.bias = torch.nn.Parameter(torch.tensor(regression.intercept_[0]))
    loss = learner.loss(torch.from_numpy(members), clusters)
    loss.backward()
    expected = -np.log(probability[siblings]).mean() - np.log(1 - probability[~siblings]).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert max(abs(learner.bias.grad), *learner.log_weight.grad.abs()) < 1e-7


def test_a_package_from_scratch_is_listed(package, tmp_path):
    done = run(package, "rsca_torch", "learners", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [re.split(r" {2,}", line.strip()) for line in done.stdout.splitlines()]
    assert [
        "diagonal",
        "diagonal_metric.DiagonalMetric",
        "diagonal_metric 0.1.0",
        "Guillaumin et al. 2009, diagonal",
    ] in rows
    assert ["rsca", "rsca_torch.learners.ScaledComponents", "built in", "de Mijolla & Ness 2022"] in rows


def test_a_package_from_scratch_passes_the_contract(package):
    source, _ = package
    done = run(package, "pytest", "-q", "-p", "no:cacheprovider", "test_diagonal_metric.py", cwd=source)
    assert done.returncode == 0, done.stdout
    assert re.search(r"19 passed, 4 skipped", done.stdout), done.stdout


def test_a_package_from_scratch_stands_in_the_table(package, tmp_path):
    chosen = ["learner=diagonal", "learner.epochs=2"]
    done = run(package, "rsca_torch", "compare", *SMALL, *SPECTRA_ALONE, *chosen, "out=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^spectra +diagonal +\d+ +\d+\.\d\d ", done.stdout, re.MULTILINE), done.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    rates = {r["learner"]: r["doppelganger_rate"] for r in results["results"] if r["held_out"]}
    assert 0 <= rates["diagonal"] < 1
    assert results["config"]["learner"] == {"_target_": "diagonal_metric.DiagonalMetric", "epochs": 2}
    shutil.rmtree(tmp_path / "rsca_simulated")  # some megabytes
