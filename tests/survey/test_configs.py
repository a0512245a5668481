"""Every survey of conf/ composes and instantiates; its numbers are the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from mini_archive import PAPER
from omegaconf.errors import MissingMandatoryValue

from rsca_torch.survey.apogee import ELEMENTS
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.survey import Survey

CONF = Path(__file__).parents[2] / "conf"
RELEASES = ("dr13", "dr14", "dr16", "dr17")
NAMES = ["extinction", "teff", "logg", "star_bad", "abundances", "authors_list"]


def composed(name, *overrides):
    with initialize_config_dir(str(CONF), version_base=None):
        return compose(overrides=[f"+survey={name}", *overrides]).survey


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "survey").glob("a[ps]*.yaml")))
def test_every_survey_instantiates(name):
    survey = instantiate(composed(name, "survey.root=somewhere"))
    assert isinstance(survey, Survey)
    assert survey.censoring == Censoring(
        interstellar_pixels=[[720, 910], [2370, 2470], [2600, 2750], [4300, 4600]], interstellar_angstrom=[]
    )
    assert survey.config()["root"] == "somewhere"
    with pytest.raises(MissingMandatoryValue, match="root"):
        _ = composed(name).root


@pytest.mark.parametrize("release", RELEASES)
def test_the_paper_s_cuts_with_the_elements_that_the_release_has(release):
    survey = instantiate(composed(f"apogee_{release}", "survey.root=x"))
    cuts = {cut.name: cut for cut in survey.cuts}
    assert [name for name in cuts if name not in ("chi2_bad", "snr")] == NAMES
    assert (cuts["teff"].above, cuts["teff"].below) == (4000, 5000)
    assert (cuts["logg"].above, cuts["logg"].below) == (1.5, 3.0)
    assert len(cuts["authors_list"].none_of) == 4
    defined = set(cuts["abundances"].defined)
    assert defined <= set(ELEMENTS[release])
    assert set(PAPER) - defined == {"dr13": {"Ce", "Cu"}, "dr14": {"Ce", "Cu"}, "dr16": set(), "dr17": {"Cu"}}[release]
    assert all(release in path for path in (*survey.reader.catalogue, survey.reader.spectrum))


def test_overrides():
    survey = instantiate(
        composed("apogee_dr16", "survey.root=x", "survey.censoring.max_error=0.1", "survey.members=null")
    )
    assert survey.censoring.max_error == 0.1
    assert survey.members is None


def test_the_dr16_survey_reads_the_miniature_archive(archive, tmp_path):
    store = ingest(instantiate(composed("apogee_dr16", f"survey.root={archive}")), tmp_path / "store")
    assert len(store) == 13  # star 99999999 is not on the authors' list
    assert store.manifest["survey"]["release"] == "dr16"


def test_membership_by_flags_can_be_given_as_an_option():
    given = "survey.membership={column: MEMBER_FLAG, above: null, any_of: [GM, DM]}"
    for name in ("apogee_dr16", "aspcapstar_files"):
        survey = instantiate(composed(name, "survey.root=x", given))
        assert (survey.membership.column, survey.membership.above) == ("MEMBER_FLAG", None)
        assert list(survey.membership.any_of) == ["GM", "DM"]


def test_a_cut_is_changed_left_out_and_added_by_its_name():
    given = ("survey.cuts.logg.below=3.2", "survey.cuts.teff=null", "+survey.cuts.snr={column: SNR, above: 100}")
    survey = instantiate(composed("apogee_dr16", "survey.root=x", *given))
    cuts = {cut.name: cut for cut in survey.cuts}
    assert list(cuts) == ["extinction", "logg", "star_bad", "abundances", "authors_list", "snr"]
    assert (cuts["logg"].above, cuts["logg"].below, cuts["snr"].above) == (1.5, 3.2, 100)


@pytest.mark.parametrize("name", sorted({p.stem for p in (CONF / "survey").glob("[!a]*.yaml")} - {"described"}))
def test_every_described_survey_instantiates(name):
    text = (CONF / "survey" / f"{name}.yaml").read_text(encoding="utf-8")
    if "\n  - described\n" not in text:
        pytest.skip("read by a reader of its own")
    survey = instantiate(composed(name, "survey.root=somewhere"))
    assert survey.config()["description"]["arms"], "a store says how its survey was read"
    assert survey.meant_for == f"survey={name}"
