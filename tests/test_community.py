"""What a visitor finds before the code: README, issue templates, the draft of a paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from rsca_torch.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAPER = ROOT / "docs/joss/paper.md"
NAMED = ("CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md", "CITATION.cff", "LICENSE")
#: Not in an sdist, which these tests must pass in too.
TEMPLATES = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def entries(path: Path) -> dict[str, dict[str, str]]:
    """Key -> field -> value of a BibTeX file."""
    found = re.findall(r"@\w+\{(\w+),\n(.*?)\n\}", path.read_text(encoding="utf-8"), re.DOTALL)
    return {key: dict(re.findall(r"^  (\w+) = \{(.*?)\},?$", body, re.MULTILINE)) for key, body in found}


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("name", NAMED)
def test_is_there(name):
    assert (ROOT / name).stat().st_size > 200


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_issue_templates_are_forms(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        return
    assert {"name", "description", "body"} <= set(form)
    fields = {part["id"]: part for part in form["body"] if part["type"] != "markdown"}
    assert all(part["attributes"]["label"] for part in fields.values())
    if path.stem == "bug":
        assert "rsca --version" in fields["version"]["attributes"]["description"]
        assert fields["version"]["validations"]["required"]
        assert fields["message"]["validations"]["required"]


def test_the_paper_cites_what_its_list_has():
    text, listed = PAPER.read_text(encoding="utf-8"), entries(PAPER.with_name("paper.bib"))
    assert set(re.findall(r"@(\w+)", text)) == set(listed)
    for section in ("Summary", "Statement of need", "State of the field", "References"):
        assert f"\n# {section}\n" in text


def test_the_papers_references_are_those_of_rsca_cite():
    ours = entries(ROOT / "rsca_torch/report/references.bib")
    for key, entry in entries(PAPER.with_name("paper.bib")).items():
        if key in ours:
            assert entry == {field: value for field, value in ours[key].items() if field != "usedfor"}


def test_pages_named_in_the_paper_and_the_checklists_are_there():
    for page in (PAPER, ROOT / "docs/review.md"):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:docs|tests)/[\w./-]+)`", text):
            assert (ROOT / name).exists(), name


def test_no_command_is_forgotten():
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    table = text.partition("## All commands")[2].partition("\n## ")[0]
    assert {command for command in COMMANDS if f"| `rsca {command}" not in table} == set()
