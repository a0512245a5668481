"""Representations, results and their report, on a table made up here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from astropy.table import Table

from rsca_torch import (
    NCA,
    Identity,
    InputError,
    NumericalWarning,
    Scaled,
    ScaledComponents,
    Spectra,
    allowed_pairs,
    fit_ppca,
)
from rsca_torch.comparison.abundances import abundances
from rsca_torch.comparison.comparison import compare
from rsca_torch.comparison.representation import Representation, represent
from rsca_torch.comparison.several_models import side_by_side
from rsca_torch.report.results import write_csv, write_results
from rsca_torch.spectra.stars import Stars

pytestmark = pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning")


def star_table(prefix, clusters, seed):
    rng = np.random.default_rng(seed)
    n = len(clusters)
    table = Table({"APOGEE_ID": [f"{prefix}{i}" for i in range(n)], "CLUSTER": np.array(clusters, dtype=str)})
    for name in ("FE_H", "MG_H", "CE_H"):
        table[name] = rng.normal(size=n)
    table["VHELIO_AVG"], table["AK_TARG"] = rng.uniform(-4, 4, n), rng.uniform(0, 0.08, n)
    return Stars.of(table, id="APOGEE_ID", group="CLUSTER", velocity="VHELIO_AVG", extinction="AK_TARG")


@pytest.fixture
def tables():
    return star_table("f", [""] * 40, 0), star_table("m", ["a", "a", "a", "b", "b", "c", "c"], 1)


def test_abundances_to_hydrogen_and_to_iron(tables):
    field, members = tables
    to_hydrogen = abundances("x", field, members, ["Mg", "Fe"])
    np.testing.assert_array_equal(to_hydrogen.field, np.stack([field["MG_H"], field["FE_H"]], axis=1))
    to_iron = abundances("x", field, members, ["Mg", "Fe"], relative_to_iron=True)
    np.testing.assert_array_equal(to_iron.members[:, 0], members["MG_H"] - members["FE_H"])
    np.testing.assert_array_equal(to_iron.members[:, 1], members["FE_H"])
    assert to_iron.clusters.tolist() == members["CLUSTER"].tolist()


def test_an_element_that_most_lack_is_left_out_and_then_stars_are(tables):
    field, members = tables
    field["CE_H"][:21] = np.nan
    field["MG_H"][3] = np.nan
    members["CE_H"] = np.nan
    with pytest.warns(
        NumericalWarning, match=r"of 47 stars too many lack Ce \(28\): elements left out; abundances.x.elements"
    ):
        given = abundances("x", field, members, ["Mg", "Fe", "Ce"])
    assert given.field.shape == (39, 2)
    assert "f3" not in given.field_stars["APOGEE_ID"]
    with pytest.warns(NumericalWarning, match=r"1 of 40 field stars lack an abundance .*: Mg \(1\); "):
        abundances("x", field, members, ["Mg", "Fe"])


def test_elements_that_only_members_lack_or_that_few_stars_have_together_are_left_out(tables):
    field, members = tables
    members["CE_H"] = np.nan
    field["MG_H"][:16], field["NI_H"] = np.nan, np.where(np.arange(40) < 26, 0.0, np.nan)  # 10 stars have both
    members["NI_H"] = 0.0
    with pytest.warns(NumericalWarning, match=r"too many lack Mg \(16\), Ce \(7\): elements") as said:
        given = abundances("x", field, members, ["Mg", "Fe", "Ni", "Ce"])
    assert (given.field.shape, given.members.shape) == ((26, 2), (7, 2))
    assert "14 of 40 field stars lack an abundance and are left out: Ni (14); " in str(said[1].message)


def test_abundances_that_cannot_be_judged(tables):
    field, members = tables
    with pytest.raises(InputError, match=r"no abundances of Zn: columns are named e\.g\. FE_H"):
        abundances("x", field, members, ["Fe", "Zn"])
    members["FE_H"][:6] = np.nan
    with pytest.raises(InputError, match="1 elements are known, in 0 clusters with two members"):
        abundances("x", field, members, ["Fe"])


@pytest.fixture
def spectra(make_spectra):
    """Fifty stars, of which the last ten are members."""
    made = make_spectra(n_stars=50, n_components=3)
    both = Spectra(torch.from_numpy(made.flux), valid=torch.from_numpy(made.valid))
    return both, both.take(slice(0, 40)), both.take(slice(40, 50))


def test_raw_distances_of_spectra_are_those_of_the_model_spectra(spectra):
    both, field, members = spectra
    given = represent(field, members, lambda f, _: fit_ppca(f.flux, f.valid, 3))
    model = given.ppca.reconstruct(both.flux, both.valid)
    seen = given.seen_by(Identity)
    expected = torch.linalg.norm(model[45] - model[7])
    torch.testing.assert_close(torch.linalg.norm(seen.members[5] - seen.field[7]), expected, rtol=1e-9, atol=0)


def test_a_learner_whose_results_depend_on_no_unit_sees_the_latents_themselves(spectra):
    _, field, members = spectra
    given = represent(field, members, lambda f, _: fit_ppca(f.flux, f.valid, 3))
    scales = given.ppca.scales
    for learner, units in ((ScaledComponents, torch.ones(3).double()), (Scaled, torch.ones(3).double()), (NCA, scales)):
        seen = given.seen_by(learner)
        torch.testing.assert_close(seen.field, given.ppca(field.flux, field.valid) * units, rtol=1e-12, atol=0)
        covariance = given.ppca.posterior(members.flux, members.valid)[1] * units * units[:, None]
        torch.testing.assert_close(seen.roots @ seen.roots.mT, covariance, rtol=1e-9, atol=1e-12)


def test_models_side_by_side(spectra):
    _, field, members = spectra
    given = {k: represent(field, members, lambda f, _, k=k: fit_ppca(f.flux, f.valid, k)) for k in (2, 4)}
    both = side_by_side([given[2], given[4]])
    assert torch.equal(both.field, torch.cat([given[2].field, given[4].field], dim=1))
    assert torch.equal(both.members, torch.cat([given[2].members, given[4].members], dim=1))
    assert both.ppcas == (given[2].ppca, given[4].ppca)
    assert both.ppca is None
    assert both.roots.shape == (10, 6, 6)
    assert torch.equal(both.roots[3, 2:, 2:], given[4].roots[3])
    assert not both.roots[:, :2, 2:].any()
    assert both.seen_by(Scaled).make_learner().widths == (2, 4)
    assert side_by_side([given[2]]) is given[2]
    assert given[2].seen_by(Scaled).make_learner is Scaled


def test_every_learner_chooses_for_itself(tables):
    field, members = tables
    clusters = ["a", "a", "a", "b", "b", "b", "c", "c", "c", "d", "d"]
    members = star_table("m", clusters, 1)
    torch.manual_seed(5)
    z, own = torch.randn(40, 3), torch.randn(11, 3)
    each = {number: Representation("x", z[:, :number], own[:, :number], field, members) for number in (1, 2, 3)}
    first, second, in_sample = compare([each], [Identity, Scaled], allowed_pairs).results
    for result in (first, second):
        assert result.representation is each[result.nested.best]
        assert result.loco is result.nested.loco
    assert first.nested.best != second.nested.best
    assert in_sample.representation is first.representation
    assert in_sample.nested is None
    assert not in_sample.loco.held_out


def test_pairs_join_velocity_and_extinction_of_the_right_stars(tables):
    field, members = tables
    on = abundances("x", field, members, ["Fe"])
    allowed = on.allowed(allowed_pairs)
    for i in range(len(members)):
        for j in range(len(field)):
            close = abs(members["VHELIO_AVG"][i] - field["VHELIO_AVG"][j]) < 5
            assert bool(allowed[i, j]) == bool(close and abs(members["AK_TARG"][i] - field["AK_TARG"][j]) < 0.05)


def test_a_cluster_without_pairs_is_null_in_json_and_nan_in_csv(tables, tmp_path):
    field, members = tables
    members["VHELIO_AVG"][members["CLUSTER"] == "b"] = 500.0
    on = abundances("x", field, members, ["Fe", "Mg"])
    comparison = compare([on], [Identity, Scaled], allowed_pairs)
    write_results(tmp_path / "r.json", comparison, {"path": "p"}, 3, {"compressor": {}})
    content = json.loads((tmp_path / "r.json").read_text())
    for result in content["results"]:
        rates = {c["cluster"]: c["doppelganger_rate"] for c in result["clusters"]}
        assert rates["b"] is None
        assert result["doppelganger_rate"] == pytest.approx((3 * rates["a"] + 2 * rates["c"]) / 5)
    write_csv(tmp_path / "r.csv", comparison)
    assert ",b,2,0,nan," in (tmp_path / "r.csv").read_text()
    assert [d["learner"] for d in content["differences"]] == ["scaled"]
    (difference,) = content["differences"]
    raw, scaled = (r["doppelganger_rate"] for r in content["results"][:2])
    assert difference["difference"] == pytest.approx(scaled - raw)


def test_a_warning_that_every_learner_repeats_is_said_once(tables, recwarn):
    field, members = tables
    members["VHELIO_AVG"][members["CLUSTER"] == "b"] = 500.0
    on = Representation("x", torch.randn(40, 2), torch.randn(7, 2), field, members)
    compare([on], [Identity, Scaled], allowed_pairs)
    with pytest.raises(InputError, match="every learner needs a name of its own, got raw, raw"):
        compare([on], [Identity, Identity], allowed_pairs)
    said = [str(w.message) for w in recwarn if "no allowed pair" in str(w.message)]
    assert said == ["raw on x: 1 clusters with no allowed pair (rate NaN, left out of the mean): b"]
