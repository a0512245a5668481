"""`rsca cite`: every reference parses, everything that is used has one or says none, and a run cites what it used."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from rsca_torch import RSCA, InputError, Spectra
from rsca_torch.cli.main import main
from rsca_torch.learners.registry import CONFIG, builtin
from rsca_torch.report import citations
from rsca_torch.report.citations import UNPUBLISHED, cited_in, entries, of_installation, packages

USED_FOR = {one for entry in entries() for one in entry.used_for}
KINDS = "article inproceedings misc".split()
NEEDED = {"article": "author title journal volume pages year", "inproceedings": "author title booktitle year"}


def parsed(text):
    """Entries by key: kind and fields, of BibTeX whose values stand in braces; anything else is an error."""
    found, place = {}, 0
    plain = re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
    while start := re.compile(r"\s*@(\w+)\{([\w-]+),").match(plain, place):
        fields, place = {}, start.end()
        while field := re.compile(r"\s*(\w+) = \{").match(plain, place):
            place, depth = field.end(), 1
            begin = place
            while depth:
                depth += {"{": 1, "}": -1}.get(plain[place], 0)
                place += 1
            assert field[1] not in fields
            fields[field[1]] = plain[begin : place - 1]
            place += plain[place] == ","
        assert plain[place : place + 2] == "\n}", plain[place - 40 : place + 40]
        place += 2
        assert start[2] not in found, f"two entries {start[2]}"
        found[start[2]] = start[1], fields
    assert not plain[place:].strip()
    return found


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def printed(capsys, *arguments):
    assert main(["cite", *arguments]) == 0
    return capsys.readouterr().out


def test_every_reference_parses_and_says_what_a_reference_must():
    file = (Path(__file__).parents[2] / "rsca_torch" / "report" / "references.bib").read_text(encoding="ascii")
    found = parsed(file)
    assert [*found] == [entry.key for entry in entries()]
    for key, (kind, fields) in found.items():
        assert kind in KINDS, key
        assert not {*NEEDED.get(kind, "author title").split()} - {*fields}, key
        for name, value in fields.items():
            if name != "usedfor":
                assert not re.search(r"(?<!\\)[&%$#_]", value), (key, name)  # LaTeX would stumble
        assert re.fullmatch(r"10\.\d{4,5}/\S+", fields.get("doi", "10.1234/x")), key
        assert re.fullmatch(r"(19|20)\d\d", fields.get("year", "2000")), key


def test_the_method_is_that_of_the_citation_file():
    told = OmegaConf.load(Path(__file__).parents[2] / "CITATION.cff")["preferred-citation"]
    _, fields = parsed(entries()[0].text)["deMijolla2022"]
    assert [fields[name] for name in ("title", "journal", "volume", "pages", "year", "doi")] == [
        str(told[name]) for name in ("title", "journal", "volume", "start", "year", "doi")
    ]


@pytest.mark.parametrize("plugin", builtin(), ids=lambda plugin: plugin.name)
def test_every_learner_has_its_papers_or_says_none(plugin):
    left = plugin.paper
    for one in cited_in(plugin.paper):
        left = left.replace(one.removeprefix("paper "), "")
    assert not left.strip(" ;,").replace("on", "", 1).strip(" ;,"), f"no entry for {left}"


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIG / "survey").glob("apogee*.yaml")))
def test_every_survey_has_its_release_and_its_members(name):
    survey = OmegaConf.load(CONFIG / "survey" / f"{name}.yaml")
    above = [one for one in survey.defaults if one == "apogee_dr14"]  # another survey's YAML that it starts from
    survey = OmegaConf.merge(*(OmegaConf.load(CONFIG / "survey" / f"{one}.yaml") for one in above), survey)
    assert f"release {survey.release}" in USED_FOR
    assert f"members {Path(survey.members).stem}" in USED_FOR


def test_every_package_that_is_needed_is_there_or_said_to_be_without():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^\w.-]", each)[0] for each in project["dependencies"]}
    assert {"rsca_torch", *needed} == {*packages(), *UNPUBLISHED}
    assert not {*packages()} & {*UNPUBLISHED}
    assert packages()[0] == "rsca_torch"


def test_method_and_software(capsys):
    text = printed(capsys)
    found = parsed(text)
    assert {"deMijolla2022", "Tipping1999", "rsca_torch", "Ansel2024", "Astropy2022"} <= {*found}
    assert not {"Majewski2017", "Donor2020", "Fisher1936"} & {*found}
    assert found["rsca_torch"][1]["note"] == f"Version {version('rsca_torch')}"
    assert found["Harris2020"][1]["note"] == f"Version {version('numpy')}"
    assert "usedfor" not in text
    assert f"safetensors {version('safetensors')}" in text


def written(folder, **changes):
    """A run's results.json, as far as it is read."""
    content = {
        "versions": {"rsca_torch": "0.0.9", "numpy": "2.1.0", "python": "3.11.0"},
        "store": {"path": str(folder / "store")},
        "config": {
            "compressor": {"n_components": 30},
            "learner": {"_target_": "rsca_torch.learners.LDA"},
            "baselines": {"raw": {"_target_": "rsca_torch.learners.Identity"}},
            "survey": {"name": "apogee_dr17", "release": "dr17", "members": "vac/occam_member-DR17.fits"},
        },
    }
    content["config"] |= changes
    (folder / "results.json").write_text(json.dumps(content))


def test_a_run_cites_what_it_used(tmp_path, capsys):
    written(tmp_path)
    text = printed(capsys, "run=.")
    found = parsed(text)
    assert {"Fisher1936", "Rao1948", "Abdurrouf2022", "Majewski2017", "Myers2022", "deMijolla2022"} <= {*found}
    assert not {"Ahumada2020", "Donor2020", "Weinberger2009"} & {*found}
    assert found["rsca_torch"][1]["note"] == "Version 0.0.9"
    assert "note" not in found["Virtanen2020"][1]  # the run did not write it down
    assert "% No entry for raw, rsca_torch.learners.Identity: it names no paper" in text
    assert "% Data of apogee_dr17: its collaboration may ask for an acknowledgement too" in text


@pytest.mark.parametrize(
    ("changes", "said", "absent"),
    [
        ({"simulation": {}}, "% The survey is simulated by rsca_torch: there are no data to cite", "Majewski2017"),
        (
            {"survey": {"name": "mine", "release": "v2", "members": ["/a/my list.csv"]}},
            "% No entry for the members my list: cite where they are from",
            "Majewski2017",
        ),
        (
            {"learner": {"_target_": "not_installed.Learner"}},
            "% Learner not_installed.Learner: of no package that is trusted; trust=any imports it to ask its paper",
            "Fisher1936",
        ),
        ({"compressor": {}}, "% Stars and abundances are those of store: cite where they are from", "Tipping1999"),
    ],
    ids=["simulated", "own survey", "plugin gone", "table of stars"],
)
def test_what_there_is_no_entry_for_is_said(tmp_path, capsys, changes, said, absent):
    written(tmp_path, **changes)
    text = printed(capsys, "run=.")
    assert said in text
    assert absent not in parsed(text)


@pytest.fixture
def model():
    random = np.random.default_rng(0)
    axes, centres = random.normal(size=(2, 20)), np.repeat(random.normal(size=(3, 2)), 4, axis=0)

    def drawn(latents, **stars):
        flux = 1 + latents @ axes + random.normal(size=(len(latents), 20)) / 10
        return Spectra(flux, sigma=np.full(flux.shape, 0.1), stars=stars)

    field = drawn(random.normal(size=(60, 2)), id=np.arange(60))
    siblings = centres + random.normal(size=(12, 2)) / 5
    members = drawn(siblings, id=np.arange(60, 72), group=np.repeat(["A", "B", "C"], 4))
    return RSCA.fit(field, members, n_components=2)


def test_a_model_cites_what_it_was_fitted_on(capsys, model):
    model.version = "0.0.7"
    model.save("memory")
    text = printed(capsys, "model=memory")
    assert "% Fitted on spectra in memory: cite where they are from" in text
    assert parsed(text)["rsca_torch"][1]["note"] == "Version 0.0.7"
    origin = {"store": "0" * 64, "survey": "apogee_dr16", "release": "dr16", "members": "a/occam_member-DR16.fits"}
    model.sources = ({**origin, "simulated": False},)
    model.save("store")
    text = printed(capsys, "model=store")
    assert {"Ahumada2020", "Majewski2017", "Donor2020"} <= {*parsed(text)}
    assert "in memory" not in text
    model.sources = ({**origin, "simulated": True},)
    model.save("simulated")
    assert "Majewski2017" not in parsed(printed(capsys, "model=simulated"))


def test_what_cannot_be_cited(capsys):
    for given, said in (
        (["run=nowhere"], "run=nowhere holds no finished run of rsca compare: its results.json is expected"),
        (["store=nowhere"], "nowhere is not a store"),
        (["model=nowhere"], "no model at nowhere"),
        (["model=a", "store=b"], "store and model are given: cite one at a time"),
    ):
        assert main(["cite", *given]) == 2
        assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("value", [True, 3, {"a": 1}])
def test_lists_that_are_none_are_refused(value):
    used = of_installation()
    with pytest.raises(InputError, match="lists of members are texts, got"):
        citations._add_survey(used, {"name": "x", "members": value}, simulated=False)
