"""What an option does to what ships is said: cuts by name, lists that replace others, mappings that leave the rest."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from rsca_torch.cli.main import main
from rsca_torch.cli.options import hydra_overrides
from rsca_torch.cli.replaced import tell_replaced
from rsca_torch.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")

SHIPPED = ["extinction", "teff", "logg", "star_bad", "abundances", "authors_list"]
SNR = "{column: SNR, above: 100}"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A small simulated survey."""
    root = tmp_path_factory.mktemp("cuts") / "archive"
    assert main(["simulate", f"root={root}", "simulation.n_field=20", "simulation.stars.clusters=4"]) == 0
    return root


@pytest.fixture
def cuts_made(archive, tmp_path, caplog):
    """Ingests with options: the cuts that were made, and what was said."""

    def made(*options):
        assert main(["ingest", f"survey.root={archive}", f"store={tmp_path / 'store'}", *options]) == 0
        steps = json.loads((tmp_path / "store" / "selection.json").read_text())
        names = [step["cut"] for step in steps]
        return names[1 : names.index("duplicate observations")], caplog.text

    return made


def test_one_is_added_one_changed_one_left_out(cuts_made):
    given = (f"+survey.cuts.snr={SNR}", "survey.cuts.logg.below=2.5", "survey.cuts.teff=null")
    names, said = cuts_made(*given, "survey.cuts.extinction.below=0.5")  # a bound that it did not have
    assert names == ["extinction", "logg", "star_bad", "abundances", "authors_list", "snr"]
    assert "replace" not in said


def test_a_list_replaces_all_and_that_is_said(cuts_made):
    names, said = cuts_made("+survey.cuts=[{name: snr, column: SNR, above: 100}]")
    assert names == ["snr"]
    there = ", ".join(SHIPPED)
    assert f"survey.cuts: the 6 cuts of survey=apogee_dr16 ({there}) are replaced by those given; +survey.cuts." in said


@pytest.mark.parametrize("none", ["survey.cuts=[]", "survey.cuts={}", "survey.cuts=null"])
def test_no_cut_at_all_is_said(cuts_made, none):
    names, said = cuts_made(none)
    assert names == []
    assert f"({', '.join(SHIPPED)}) are all left out" in said


def test_a_cut_that_is_there_keeps_its_other_bound_and_that_is_said(cuts_made):
    names, said = cuts_made("survey.cuts.logg={column: LOGG, below: 2.9}", f"survey.cuts.snr={SNR}")
    assert names == [*SHIPPED, "snr"]
    assert "survey.cuts.logg keeps above=1.5" in said


def test_other_lists_say_what_they_replace(cuts_made):
    _, said = cuts_made("survey.censoring.interstellar_pixels=[[720,910],[10,20]]")
    assert (
        "interstellar_pixels: the list given replaces 3 of 4 entries: [2370, 2470], [2600, 2750], [4300, 4600]" in said
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("survey.cuts.lgg.below=3", "there is no cut 'lgg' that could be changed"),
        ("survey.cuts.lgg=null", "did you mean survey.cuts.logg?"),
        ("survey.cuts.logg.bellow=3", "got bellow"),
        ("+survey.cuts.snr={column: SNR, above: much}", "cut 'snr': above must be a number, got 'much'"),
        ("survey.membership={}", "survey.membership={} would change nothing"),
        ("survey.cuts.logg.above=9", "no star is left after 'logg'"),
    ],
)
def test_what_cannot_be_meant_is_refused(archive, tmp_path, capfd, option, message):
    assert main(["ingest", f"survey.root={archive}", f"store={tmp_path / 'store'}", option]) == 2
    assert message in capfd.readouterr().err


def test_options_of_cuts_as_hydra_takes_them():
    assert hydra_overrides("ingest", ["survey.cuts=[1]", "seed=2"]) == ["~survey.cuts", "+survey.cuts=[1]", "seed=2"]
    named = ["survey.cuts.logg=null", "survey.cuts.logg.below=3", "survey.cuts.snr={column: SNR, above: 9}"]
    assert hydra_overrides("ingest", named) == [named[0], f"++{named[1]}", f"++{named[2]}"]


def test_a_list_and_a_name_at_once_are_refused():
    with pytest.raises(InputError, match=r"survey.cuts.logg=null: survey.cuts is a list here"):
        hydra_overrides("ingest", ["survey.cuts=[1]", "survey.cuts.logg=null"])


def test_a_survey_whose_own_yaml_has_a_list():
    usual = OmegaConf.create({"survey": {"name": "mine", "cuts": [{"name": "a"}, {"name": "b"}]}})
    tell_replaced([], usual, usual)
    with pytest.raises(InputError, match="would change nothing"):
        tell_replaced(["survey={}"], usual, usual)
