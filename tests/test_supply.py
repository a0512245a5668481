"""What the project is made of: tested versions complete, licences known, what is released built from what is here."""

from __future__ import annotations

import re
import runpy
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml")) if (ROOT / ".github").is_dir() else []

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="a checkout is looked at, not what was made of it")


@pytest.fixture(scope="module")
def pinned():
    return runpy.run_path(str(ROOT / ".ci" / "pinned.py"))


def test_every_package_that_is_installed_is_among_the_tested_versions(pinned):
    assert pinned["problems"](pinned["needed"]()) == []


def test_a_package_that_is_lacking_or_another_is_told(pinned):
    some = iter([("torch", "2.13.0+cpu", "x"), ("numpy", "1.0", "x"), ("unheard-of", "3", "somebody")])
    assert [said.partition(",")[0] for said in pinned["problems"](some)] == [
        "numpy is 1.0 here",
        "somebody needs unheard-of 3",
    ]


def test_what_needs_a_package_of_an_extra_is_found(pinned, monkeypatch):
    """As pip does: the extras of a requirement count for what it asks for."""
    names = {name for name, _, _ in pinned["needed"]()}
    assert {"torch", "lightning", "hypothesis", "lazy-importer", "mpmath"} <= names

    def nowhere(name):
        raise PackageNotFoundError(name)

    monkeypatch.setitem(pinned["needed"].__globals__, "distribution", nowhere)
    assert list(pinned["needed"]()) == []


def test_the_list_of_licences_is_of_the_tested_versions(pinned):
    """`docs/licences.md` has the command that makes it."""
    text = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([\w.-]+) \| (\d[\w.+]*) \|", text, re.MULTILINE))
    known = pinned["pins"]()
    normal = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in rows.items()}
    assert {name: version for name, version in normal.items() if known.get(name) != version.partition("+")[0]} == {}
    here = {name for name, _, _ in pinned["needed"]()}
    assert here <= set(normal)
    assert re.findall(r"^\| ([\w.-]+) .*UNKNOWN", text, re.MULTILINE) == ["ppca", "spectres"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_read_and_every_step_runs_something(path):
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    for job in jobs.values():
        assert job["timeout-minutes"] <= 60
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_who_checks_what():
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    for each in (".ci/run", ".ci/lowest.py", "pip-audit", "cyclonedx-py", ".ci/pinned.py", "--hypothesis-profile=long"):
        assert each in text, each


def test_what_is_released_holds_what_is_promised(tmp_path):
    """The sdist has what tests and docs need, the wheel what runs; neither has a file of this machine."""
    backend = pytest.importorskip("hatchling.build")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        sdist, wheel = (tmp_path / make(str(tmp_path)) for make in (backend.build_sdist, backend.build_wheel))
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        installed = set(archive.namelist())
    assert {"pyproject.toml", "constraints.txt", "LICENSE", "tests/conftest.py", "conf/compare.yaml"} <= inside
    assert {"docs/licences.md", "CONTRIBUTING.md", "rsca_torch/layers/rsca.py"} <= inside
    assert {"rsca_torch/py.typed", "rsca_torch/conf/compare.yaml", "rsca_torch/layers/rsca.py"} <= installed
    assert any(name.endswith("licenses/LICENSE") for name in installed)
    assert [name for name in inside | installed if "__pycache__" in name or "/." in name] == []
