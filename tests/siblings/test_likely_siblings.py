"""From a model and stars to the table of likely siblings."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from astropy.table import Table

from rsca_torch import RSCA, InputError, ScaledComponents, Spectra, allowed_pairs, likely_siblings
from rsca_torch.evaluation.calibration import Calibration
from rsca_torch.evaluation.sibling_calibration import sibling_calibration
from rsca_torch.files.whole import MACHINE
from rsca_torch.learners.likelihood_ratio import joint_log_ratio, joint_log_ratio_of_cluster
from rsca_torch.parallel import Parallel
from rsca_torch.siblings import likely_siblings as module
from rsca_torch.siblings.asked import ids_in, members_of, rows_of
from rsca_torch.siblings.chance import by_chance, kept_by_chance, share_above
from rsca_torch.siblings.embedded_stars import embedded_stars
from rsca_torch.siblings.measure import Measure
from rsca_torch.siblings.pairs_within import PairsWithin
from rsca_torch.training.members import Members

EVERYBODY = partial(allowed_pairs, max_velocity=None, max_extinction=None)
AXES = np.random.default_rng(7).normal(size=(4, 30)) * 0.1
CLUSTERS = 6


def spectra(latents, first=0, noise=0.01, seed=0, **stars):
    flux = 1 + latents @ AXES + np.random.default_rng(seed).normal(size=(len(latents), 30)) * noise
    stars = {"id": [f"2M{first + number:04d}" for number in range(len(latents))], **stars}
    stars = {"velocity": np.zeros(len(latents)), "extinction": np.full(len(latents), 0.1), **stars}
    return Spectra(flux, sigma=np.full(flux.shape, noise), stars=stars)


@pytest.fixture(scope="module")
def survey():
    """(field of 120, members of 6 clusters of 5, all of them together)."""
    random = np.random.default_rng(3)
    centres = np.repeat(random.normal(size=(CLUSTERS, 4)), 5, axis=0)
    names = np.repeat([f"NGC {number}" for number in range(CLUSTERS)], 5)
    velocity = np.concatenate([random.normal(0, 3, 120), np.zeros(30)])
    latents = np.concatenate([random.normal(size=(120, 4)), centres + random.normal(size=centres.shape) * 0.05])
    group, snr = np.concatenate([np.full(120, ""), names]), random.uniform(50, 200, 150)
    every = spectra(latents, group=group, snr=snr, velocity=velocity, FE_H=latents[:, 0])
    return every.take(np.arange(120)), every.take(np.arange(120, 150)), every


@pytest.fixture(scope="module")
def model(survey):
    field, members, _ = survey
    fitted = RSCA.fit(field, members, n_components=4, floor="noise")
    of_field, of_members = fitted.ppca.embed(field), fitted.ppca.embed(members, covariances=True)
    given = Members(of_members.latents, members.stars.group, np.ones((30, 120), dtype=bool), None, of_members.noise)
    make = partial(ScaledComponents, robust=False, floor="noise", trim=2.0)
    fitted.calibration = sibling_calibration(make, of_field.latents, given)
    fitted.calibration["pairs_within"] = {"max_velocity": 5.0, "max_extinction": 0.05}
    assert torch.isfinite(fitted.sigma_r).all()
    return fitted


@pytest.fixture(scope="module")
def stars(model, survey):
    return embedded_stars(model, survey[2])


def test_the_table_is_what_all_pairs_say(model, stars):
    found = likely_siblings(model, stars, "2M0121", n=8, prior=0.05)
    own = stars.at(np.array([121]))
    ratio = joint_log_ratio(own, stars.at(np.arange(150)), stars.sigma_r)[0].numpy()
    velocity = stars.stars.velocity
    may = np.flatnonzero((np.abs(velocity - velocity[121]) < 5) & (np.arange(150) != 121))
    best = may[np.argsort(-ratio[may], kind="stable")][:8]
    assert found["SIBLING"].tolist() == stars.stars.id[best].tolist()
    assert found["RANK"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert set(found["STAR"]) == {"2M0121"}
    np.testing.assert_allclose(found["LOG_RATIO"], ratio[best], rtol=1e-9)
    distance = (stars.at(best) - own).square().sum(1).sqrt()
    np.testing.assert_allclose(found["DISTANCE"], distance, rtol=1e-12)
    calibration = Calibration(**model.calibration["pairs"])
    np.testing.assert_allclose(found["P_SIBLING"], calibration.probability(ratio[best], 0.05), rtol=1e-9)
    assert found["COMPARED"].tolist() == [len(may)] * 8
    assert found["SAME_GROUP"][:4].all()
    assert found["GROUP"][:4].tolist() == ["NGC 0"] * 4
    assert (found["snr"], found["STAR_snr"][0]) == (pytest.approx(stars.stars.snr[best]), stars.stars.snr[121])
    assert {"velocity", "FE_H", "STAR_velocity", "STAR_FE_H", "NOISE", "STAR_NOISE"} <= set(found.colnames)
    assert found.meta["prior"] == 0.05
    assert (np.diff(found["EXPECTED"]) >= 0).all()


def test_field_stars_are_of_no_group_together(model, stars):
    found = likely_siblings(model, stars, "2M0003", n=149, pairs=EVERYBODY)
    assert (found["GROUP"] == "").sum() == 119
    assert not found["SAME_GROUP"].any()


def test_what_is_expected_by_chance_is_the_share_of_field_pairs(model, stars):
    """By all pairs of field stars, whatever the search did."""
    found = likely_siblings(model, stars, "2M0121", n=100)
    field = np.arange(120)
    ratio = joint_log_ratio(stars.at(field), stars.at(field), stars.sigma_r).numpy()
    velocity = stars.stars.velocity[field]
    may = (np.abs(velocity[:, None] - velocity) < 5) & ~np.eye(120, dtype=bool)
    for row in (0, 3, 50, 99):
        above = (ratio[may] >= found["LOG_RATIO"][row] - 1e-9).sum()
        assert found["EXPECTED"][row] == pytest.approx((above + 1) / (may.sum() + 1) * found["COMPARED"][row])


def test_all_stars_one_by_one_and_in_any_pieces_are_the_same(model, stars, monkeypatch):
    whole = likely_siblings(model, stars, n=3)
    assert whole["STAR"].tolist() == np.repeat(stars.stars.id, 3).tolist()
    monkeypatch.setattr(module, "AT_ONCE", 17)
    monkeypatch.setattr(module, "MANY", 10)  # sorted by velocity
    pieces = likely_siblings(model, stars, n=3, parallel=Parallel(processes=1))
    assert pieces["SIBLING"].tolist() == whole["SIBLING"].tolist()
    assert pieces["LOG_RATIO"].tolist() == whole["LOG_RATIO"].tolist()
    one = likely_siblings(model, stars, "2M0077", n=3)
    rows = np.asarray(whole["STAR"]) == "2M0077"
    assert one["SIBLING"].tolist() == whole["SIBLING"][rows].tolist()


def test_the_order_of_the_stars_does_not_matter(model, survey):
    order = np.random.default_rng(0).permutation(150)
    mixed = likely_siblings(model, survey[2].take(order), ["2M0121", "2M0003"], n=5)
    there = likely_siblings(model, survey[2], ["2M0121", "2M0003"], n=5)
    assert mixed["SIBLING"].tolist() == there["SIBLING"].tolist()
    np.testing.assert_allclose(mixed["LOG_RATIO"], there["LOG_RATIO"], rtol=1e-9)


def test_candidates_for_a_cluster_against_all_its_members(model, stars):
    found = likely_siblings(model, stars, cluster="NGC 1", n=7)
    members = np.arange(125, 130)
    known = stars.at(members)
    expected = joint_log_ratio_of_cluster(known, stars.at(np.arange(150)), stars.sigma_r).numpy()
    for number, row in enumerate(members):  # a member against the others
        rest = np.delete(np.arange(5), number)
        expected[row] = joint_log_ratio_of_cluster(known[rest], known[number : number + 1], stars.sigma_r)[0]
    velocity = stars.stars.velocity
    expected[np.abs(velocity) >= 5] = -np.inf
    best = np.argsort(-expected, kind="stable")[:7]
    assert found["SIBLING"].tolist() == stars.stars.id[best].tolist()
    np.testing.assert_allclose(found["LOG_RATIO"], expected[best], rtol=1e-9)
    assert found["SAME_GROUP"].tolist() == [star in members for star in best]
    assert found["SAME_GROUP"].sum() == 5
    middle = [known[[number for number in range(5) if members[number] != star]].mean(0) for star in best]
    distance = (stars.at(best) - torch.stack(middle)).norm(dim=1)  # a member's from the others
    np.testing.assert_allclose(found["DISTANCE"], distance, rtol=1e-9)
    assert set(found["STAR"]) == {"NGC 1"}
    assert np.isfinite(found["EXPECTED"]).all()
    calibration = Calibration(**model.calibration["clusters"])
    np.testing.assert_allclose(found["P_SIBLING"], calibration.probability(expected[best], 0.01), rtol=1e-9)


def test_the_only_star_of_a_group_is_no_candidate_for_it(model, stars):
    table = stars.stars.copy()
    table["group"] = np.where(table.id == "2M0121", "ALONE", table.group)
    found = likely_siblings(model, replace(stars, stars=table), cluster="ALONE", n=149, pairs=EVERYBODY)
    assert set(found["SIBLING"]) == {*table.id} - {"2M0121"}
    assert not found["SAME_GROUP"].any()


def test_pairs_all_takes_everybody_and_says_what_the_probabilities_are_of(model, stars):
    found = likely_siblings(model, stars, "2M0121", n=2, pairs=EVERYBODY)
    assert found["COMPARED"].tolist() == [149, 149]
    assert "calibrated under pairs.max_velocity=5, pairs.max_extinction=0.05" in found.meta["why"]


def test_faint_stars_are_no_candidates_unless_asked_for_and_are_marked(model, survey):
    _, members, _ = survey
    flux, valid, sigma = (part.clone() for part in members.read(slice(None)))
    sigma[1] *= 300
    valid[2] = False
    faint = Spectra(flux, valid, sigma, members.wavelength, members.stars)
    found = likely_siblings(model, faint, "2M0120", n=29, pairs=EVERYBODY)
    assert not {"2M0121", "2M0122"} & {*found["SIBLING"]}
    assert (found.meta["uncertain_left_out"], found.meta["without_valid_bin"]) == (1, 1)
    assert found["COMPARED"][0] == 27
    asked = likely_siblings(model, faint, "2M0120", n=29, pairs=EVERYBODY, uncertain=True)
    assert asked["UNCERTAIN"].sum() == 1
    assert asked["SIBLING"][asked["UNCERTAIN"]].tolist() == ["2M0121"]
    assert "2M0122" not in {*asked["SIBLING"]}
    own = likely_siblings(model, faint, "2M0121", n=2, pairs=EVERYBODY)
    assert own["STAR_UNCERTAIN"].all()
    with pytest.raises(InputError, match="the star 2M0122 has no valid bin"):
        likely_siblings(model, faint, "2M0122", pairs=EVERYBODY)
    several = likely_siblings(model, faint, ["2M0122", "2M0120", "2M9999"], n=1, pairs=EVERYBODY)
    assert several["STAR"].tolist() == ["2M0120"]
    assert several.meta["not_told"] == ["2M9999", "2M0122"]


def test_without_a_calibration_there_is_no_probability_and_it_says_why(model, survey, tmp_path):
    model.save(tmp_path / "m")
    bare = RSCA.load(tmp_path / "m")
    assert bare.calibration == model.calibration
    for calibration, why in (
        ({}, "no probability: the model was not calibrated; rsca fit"),
        ({"why": "3 clusters have both"}, "no probability: 3 clusters have both"),
    ):
        bare.calibration = calibration
        bare.save(tmp_path / "bare")
        found = likely_siblings(RSCA.load(tmp_path / "bare"), survey[2], "2M0121", n=2)
        assert np.isnan(found["P_SIBLING"]).all()
        assert np.isfinite(found["LOG_RATIO"]).all()
        assert found.meta["why"].startswith(why)


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_a_prior_that_is_no_share_is_refused(model, stars, prior):
    for given in (stars, replace(stars, calibration={})):  # without a calibration too
        with pytest.raises(InputError, match="must lie between 0 and 1, both excluded"):
            likely_siblings(model, given, "2M0121", prior=prior)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"star": "2M0l21"}, "the star 2M0l21 is not there; the nearest ids: 2M0121"),
        ({"star": []}, "no id is given"),
        ({"star": "2M0121", "n": 0}, "n=0: at least 1 star"),
        ({"star": "2M0121", "cluster": "NGC 1"}, "about stars or about a cluster, not about both"),
        ({"cluster": "NGC1"}, "the group NGC1 has no star here; the nearest names: NGC 1"),
        ({"star": "2M0121", "columns": ["TEFF"]}, "no column TEFF"),
    ],
    ids=["unknown", "empty", "n", "both", "group", "column"],
)
def test_what_cannot_be_answered_is_refused(model, stars, options, said):
    with pytest.raises(InputError, match=said):
        likely_siblings(model, stars, **options)


def test_another_wavelength_grid_says_both(model, survey):
    _, members, _ = survey
    flux, _, sigma = members.read(slice(None))
    other = Spectra(flux, sigma=sigma, wavelength=0.3 + np.arange(30.0), stars=members.stars)
    with pytest.raises(InputError, match=r"30 bins from 0.3 to 29.3 Angstrom, wanted are 30 bins from 0 to 29 "):
        likely_siblings(model, other, "2M0121")


def test_a_rule_of_pairs_needs_its_columns(model, survey):
    _, members, _ = survey
    flux, _, sigma = members.read(slice(None))
    bare = Spectra(flux, sigma=sigma, wavelength=members.wavelength, stars={"id": members.stars.id})
    with pytest.raises(InputError, match="plays the role velocity, by which pairs are compared"):
        likely_siblings(model, bare, "2M0121")
    assert len(likely_siblings(model, bare, "2M0121", n=4, pairs=EVERYBODY)) == 4


class TestIds:
    @pytest.mark.parametrize("kind", ["text", "csv", "fits"])
    def test_of_a_file_are_read_to_the_last_digit(self, stars, tmp_path, kind):
        long = ["4611686018427387905", "4611686018427387907"]
        if kind == "text":
            path = tmp_path / "ids.txt"
            path.write_text("# mine\nid\n" + "\n".join(long) + "\n\n")
        else:
            path = tmp_path / f"ids.{kind}"
            Table({"other": [1, 2], "id": np.array(long, dtype=np.int64)}).write(path)
        assert ids_in(path, stars.stars) == long

    def test_that_passed_through_a_float_are_refused(self, stars, tmp_path):
        Table({"id": [4611686018427387905.0]}).write(tmp_path / "ids.fits")
        with pytest.raises(InputError, match="passed through a float"):
            ids_in(tmp_path / "ids.fits", stars.stars)

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("none.txt", None, "there is no such file"),
            ("empty.txt", "# nothing\n", "holds no id"),
            ("ids.csv", "a,b\n1,2\n", "no column ID, ID or STAR; there are A, B"),
        ],
    )
    def test_that_are_none_are_refused(self, stars, tmp_path, name, content, said):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=said):
            ids_in(tmp_path / name, stars.stars)

    def test_each_comes_once_and_the_unknown_are_named(self, stars):
        rows, missing = rows_of(stars.stars, ["2M0007", "x", "2M0003", "2M0007"])
        assert rows.tolist() == [7, 3]
        assert missing == ["x"]

    def test_whole_numbers_are_ids(self):
        table = Spectra(np.ones((2, 3)), stars={"id": np.array([2**62 + 1, 2**62 + 3])}).stars
        assert rows_of(table, [2**62 + 3])[0].tolist() == [1]
        with pytest.raises(InputError, match="is not there"):
            rows_of(table, [2**62 + 2])

    def test_an_id_in_two_rows_is_refused(self):
        table = Spectra(np.ones((2, 3)), stars={"id": ["a", "b"]}).stars
        table["id"][1] = "a"
        with pytest.raises(InputError, match="the id a stands in several rows"):
            rows_of(table, ["a"])

    def test_what_would_move_the_cursor_is_told_as_its_code(self, stars):
        with pytest.raises(InputError, match=r"the star \\x1b\[2Jx is not there"):
            rows_of(stars.stars, ["\x1b[2Jx"])
        with pytest.raises(InputError, match=r"the group \\x07 has"):
            members_of(stars.stars, "\x07")


def test_what_a_run_left_that_was_killed_when_chance_had_just_been_kept_goes(stars, tmp_path):
    stars = replace(stars, file=tmp_path / "features.npy")
    pairs, measure = PairsWithin.of(EVERYBODY, stars.stars), Measure.ratio(stars.sigma_r)
    field = np.ones(150, dtype=bool)
    first = kept_by_chance(stars, pairs, measure, field)
    (kept,) = tmp_path.iterdir()
    left = tmp_path / f".{kept.name}.{MACHINE}-{2**22 + 1}-0123abcd"  # more than any process has
    left.mkdir()
    assert np.array_equal(kept_by_chance(stars, pairs, measure, field), first)
    assert [*tmp_path.iterdir()] == [kept]


def test_chance_is_drawn_from_the_field_alone(stars):
    pairs = PairsWithin.of(EVERYBODY, stars.stars)
    rising = by_chance(stars, pairs, Measure.ratio(stars.sigma_r), np.ones(150, dtype=bool))
    assert len(rising) == 120 * 119
    ratio = joint_log_ratio(stars.at(np.arange(120)), stars.at(np.arange(120)), stars.sigma_r)
    expected = ratio[~torch.eye(120, dtype=torch.bool)].sort().values
    np.testing.assert_allclose(rising, expected, rtol=1e-9)
    assert share_above(np.empty(0), torch.zeros(2)).isnan().all()
