"""What makes the documentation site (.ci/site.py), and what looks for dead links in it (.ci/links.py)."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path

import pytest

import rsca_torch
import rsca_torch.learners
from rsca_torch.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / ".ci").is_dir(), reason="a checkout has what makes the site")


@pytest.fixture(scope="module")
def site():
    return runpy.run_path(str(ROOT / ".ci" / "site.py"))


@pytest.fixture(scope="module")
def links():
    return runpy.run_path(str(ROOT / ".ci" / "links.py"))


def test_every_public_name_is_on_a_page(site):
    pages = site["public"]()
    shown = {name.rpartition(".")[2] for names in pages.values() for name in names}
    public = {
        name
        for module in (rsca_torch, rsca_torch.learners)
        for name in module.__all__
        if inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name))
    }
    assert public <= shown
    assert "Store" in shown  # what pages import is public too
    assert "::: rsca_torch.survey.store.Store" in site["python_page"]("survey", pages["survey"])


def test_every_command_and_every_yaml_is_in_the_reference(site):
    text = site["commands"]()
    assert [name for name in COMMANDS if f"## rsca {name}\n\n```text\n" not in text] == []
    configuration = site["configuration"]()
    files = list((ROOT / "conf").glob("*/*.yaml"))
    assert [path for path in files if f"### {path.parent.name}={path.stem}\n" not in configuration] == []
    assert "| `max_velocity` | `5.0` |" in configuration


def test_a_table_of_options_keeps_what_would_be_markup(site):
    text = "a: 1 # of <ELEMENT>_H | [dex]\nb: # both\n  c: {d: 2} # two\n"
    assert list(site["options"](text)) == [
        ("a", "`1`", "of <ELEMENT>_H | [dex]"),
        ("b", "", "both"),
        ("b.c", "`{d: 2}`", "two"),
    ]
    assert site["_cell"]("of <ELEMENT>_H | [dex]") == "of &lt;ELEMENT&gt;\\_H \\| \\[dex\\]"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('<a href="b.html#there">x</a><a href="https://x.y/z">x</a><img src="p.png">', []),
        ('<a href="c.html">x</a>', ["a.html: c.html is not there"]),
        ('<a href="b.html#gone">x</a>', ["a.html: b.html#gone names a place that is not there"]),
        ('<a href="#gone">x</a>', ["a.html: #gone names a place that is not there"]),
        ('<img src="q.png">', ["a.html: q.png is not there"]),
        ('<script src="https://x.y/z.js"></script>', ["a.html fetches https://x.y/z.js"]),
        ('<link rel="stylesheet" href="//x.y/z.css">', ["a.html fetches //x.y/z.css"]),
        ("<style>@font-face{src:url('https://x.y/z.woff')}</style>", ["a.html fetches https://x.y/z.woff"]),
        ('<link rel="canonical" href="https://x.y/">', []),
    ],
    ids=["sound", "page", "anchor", "own-anchor", "picture", "script", "style", "font", "canonical"],
)
def test_dead_links_and_what_comes_from_elsewhere_are_found(links, tmp_path, more, said):
    (tmp_path / "a.html").write_text(f"<html>{more}</html>", encoding="utf-8")
    (tmp_path / "b.html").write_text('<h1 id="there">x</h1><a href="a.html">x</a>', encoding="utf-8")
    (tmp_path / "p.png").write_bytes(b"x")
    assert list(links["problems"](tmp_path)) == said


def test_a_folder_without_pages_is_no_site(links, tmp_path):
    assert list(links["problems"](tmp_path)) == [f"{tmp_path} has no page"]
