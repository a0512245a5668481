"""Every tutorial is followed to the letter: its blocks run in order, in an empty folder, and print what it shows."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from rsca_torch.cli.main import main
from rsca_torch.ppca.trainer import without_tips

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),  # a small survey drops dimensions
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([DOCS / "start.md", *(DOCS / "tutorials").glob("*.md")])
#: The survey of most pages; it is made once, as it is the same.
SURVEY = """\
rsca simulate root=sky simulation.n_field=600 simulation.stars.clusters=14
rsca ingest survey.root=sky store=store
"""
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
FILE = re.compile(r"Save as `([\w.]+)`:\s*\Z")  # stands before a block that is a file


def blocks(text):
    """(language, block, what stands before it) of a page, in order."""
    before = 0
    for found in re.finditer(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield found[1], found[2], text[before : found.start()]
        before = found.end()


def run(command):
    """One line of a page, in this process."""
    words, told = shlex.split(command, comments=True), re.search(r"# ends with exit code (\d)", command)
    path = [word.partition("=")[2] for word in words if word.startswith("PYTHONPATH=")]
    words = words[len(path) :]
    assert words[0] == "rsca", command
    sys.path[:0] = path
    try:
        with without_tips():
            assert main(words[1:]) == int(told[1] if told else 0), command
    finally:
        del sys.path[: len(path)]


def unlike(shown, printed):
    """Lines of a page that were not printed; numbers are alike to 5 % or one of the last digit."""
    said = [" ".join(line.split()) for line in printed.splitlines()]
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    return [line for line in lines if line not in ("", "...") and not any(_alike(line, each) for each in said)]


def _alike(shown, printed):
    if NUMBER.sub("#", shown) != NUMBER.sub("#", printed):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(_near(*pair) for pair in pairs)


def _near(shown, printed):
    one, other = (float(each.replace(",", "")) for each in (shown, printed))
    digits = len(shown.partition(".")[2].partition("e")[0])
    return abs(one - other) <= max(0.05 * abs(one), 1.01 * 10.0**-digits if digits else 0)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """(folder with `sky` and `store`, what was printed)."""
    folder = tmp_path_factory.mktemp("survey")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in SURVEY.splitlines():
            run(line)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs_to_the_letter(page, survey, tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    caplog.set_level("INFO")
    names, printed, ran = {"__name__": "__main__"}, "", 0
    for language, block, before in blocks(page.read_text(encoding="utf-8")):
        saved = FILE.search(before)
        if language == "text":
            assert unlike(block, printed) == [], printed
        elif saved:
            Path(saved[1]).write_text(block, encoding="utf-8")
        elif block == SURVEY:
            for folder in ("sky", "store"):
                shutil.copytree(survey / folder, folder)
        elif language in ("python", "sh"):
            capfd.readouterr()
            caplog.clear()
            if language == "python":
                with without_tips():
                    exec(compile(block, str(page), "exec"), names)
            else:
                for line in block.splitlines():
                    run(line)
            printed = "\n".join([*capfd.readouterr(), *caplog.messages])
            ran += 1
    assert ran or page.stem == "index"


@pytest.mark.skipif(not (ROOT / ".ci").is_dir(), reason="a checkout has what makes the site")
def test_a_notebook_runs_and_prints_what_its_page_shows(tmp_path, monkeypatch):
    site = runpy.run_path(str(ROOT / ".ci" / "site.py"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for page in site["NOTEBOOKS"]:
        text = (DOCS / "tutorials" / f"{page}.md").read_text(encoding="utf-8")
        made = nbformat.reads(site["notebook"](text), as_version=4)
        NotebookClient(made, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
        cells = [cell for cell in made.cells if cell.cell_type == "code"]
        assert len(cells) == sum(language == "python" for language, _, _ in blocks(text))
        printed = "".join(out.get("text", "") for cell in cells for out in cell.outputs)
        shown = "".join(block for language, block, _ in blocks(text) if language == "text")
        assert unlike(shown, printed) == [], printed
