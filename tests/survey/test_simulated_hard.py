"""What makes the simulated survey harder, switch by switch, and further observations of its stars."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from rsca_torch.errors import InputError
from rsca_torch.survey.apogee import CHIPS
from rsca_torch.survey.simulated import (
    Companions,
    Detector,
    FaintLines,
    Population,
    Repeats,
    SimulatedSurvey,
    Synthesis,
)
from rsca_torch.survey.simulated.release import RELEASES

CONF = Path(__file__).parents[2] / "conf"
DR16 = RELEASES["dr16"]
IN_CHIP = np.r_[tuple(slice(*chip) for chip in CHIPS.values())]
PLAIN = SimulatedSurvey(n_field=40, repeats=0)
QUIET = Detector(sky_fade=50.0, bad_runs=0.0, cosmic_rays=0.0, sky_residual=0.0)


def configured(*overrides):
    with initialize_config_dir(str(CONF), version_base=None):
        return instantiate(compose(overrides=overrides).simulation)


def observed(survey, seed=1):
    """The stars, and model, flux and error of each."""
    stars = survey.draw(np.random.default_rng(seed))
    spectra = np.zeros((3, len(stars), 8575), np.float32)
    for rows, *block in survey.observe(stars, np.random.SeedSequence(seed)):
        spectra[:, rows] = block
    return stars, *spectra


@pytest.fixture(scope="module")
def plain():
    return observed(PLAIN)


@pytest.fixture(scope="module")
def again():
    return observed(replace(PLAIN, repeats=30))


def of_chips(flux):
    return flux[..., IN_CHIP]


# --- as it was -----------------------------------------------------------------------------------------------------

# Projections of spectra of today's default survey on fixed signs, and sums over its catalogue, made before there was a
# switch (the whole tree had the same SHA-256 before and after). No checksum here: exp() rounds otherwise elsewhere.
KEPT = Path(__file__).with_name("simulated_giants.csv")


def projections(survey):
    """20 numbers of the spectra and of the catalogue; one draw more or less anywhere changes most of them by far."""
    stars, model, flux, error = observed(survey)
    signs = np.random.default_rng(5).choice([-1.0, 1.0], 8575)
    rows = np.linspace(0, len(stars) - 1, 5).astype(int)
    spectra = [values[rows] @ signs for values in (model, flux, np.minimum(error, 1))]
    measured = survey._measure(stars, DR16, np.random.default_rng(3))
    numbers = [np.where(np.asarray(measured["X_H"])[rows] > -900, measured["X_H"][rows], 0).sum(axis=1)]
    return np.concatenate([*spectra, *numbers])


def test_the_default_survey_is_what_it_was_before_there_were_switches():
    np.testing.assert_allclose(
        projections(configured("+simulation=giants", "simulation.n_field=40", "simulation.repeats=0")),
        np.loadtxt(KEPT),
        rtol=1e-3,
        atol=1e-3,
    )


def test_every_switch_is_on_in_the_hard_survey():
    giants, hard = configured("+simulation=giants"), configured("+simulation=hard")
    changed = {
        f"{part}.{name}"
        for part in ("stars", "again", "companions", "pipeline", "synthesis", "faint_lines", "detector")
        for name, value in vars(getattr(giants, part)).items()
        if vars(getattr(hard, part))[name] != value
    }
    assert changed == {
        "stars.interlopers",
        "companions.share",
        "synthesis.velocity_error",
        "faint_lines.number",
        "detector.misquoted",
        "detector.correlation",
    }
    assert (giants.repeats, giants.n_repeats, hard.repeats) == (None, 246, 600)
    assert hard.detector.misquoted == [0.7, 1.4]
    assert hard.stars.interlopers == 0.1


# --- further observations ------------------------------------------------------------------------------------------


def test_further_observations_change_nothing_of_the_others(plain, again):
    stars, *spectra = again
    first = stars["ROLE"] != "repeat"
    main = stars["ROLE"][first] != "duplicate"  # which are further observations too: they share with their star now
    assert (stars["APOGEE_ID"][first] == plain[0]["APOGEE_ID"]).all()
    for with_repeats, without in zip(spectra, plain[1:], strict=True):
        np.testing.assert_array_equal(with_repeats[first][main], without[main])
    survey = replace(PLAIN, repeats=30)
    measured = survey._measure(stars, DR16, np.random.default_rng(0))[first]
    np.testing.assert_array_equal(measured["X_H"], PLAIN._measure(plain[0], DR16, np.random.default_rng(0))["X_H"])


def test_a_further_observation_is_of_another_field_and_fainter(again):
    stars = again[0]
    further = stars[stars["ROLE"] == "repeat"]
    assert len(further) == 30
    for star in further:
        same = stars[stars["APOGEE_ID"] == star["APOGEE_ID"]]
        main = same[np.isin(same["ROLE"], ["field", "member"])]
        assert len(main) == 1
        assert star["SNR"] < main["SNR"][0]
        assert len(set(same["FIELD"])) == len(same)  # else two would be one file
        for name in ("BIRTH_X_H", "PRESENT_X_H", "TEFF", "LOGG", "VHELIO", "AK", "V_GAS", "CLUSTER"):
            assert np.array_equal(star[name], main[name][0])
        assert not (star["FIBER"] == main["FIBER"][0]).all()
        assert not set(star["NIGHT"]) & set(main["NIGHT"][0])


def test_the_archive_holds_them_as_rows_of_the_same_star(tmp_path):
    survey = replace(PLAIN, repeats=60, stars=Population(signal_to_noise=(60.0, 0.1)))
    survey.write(tmp_path / "sas", seed=1)
    truth = Table.read(tmp_path / "sas" / "truth.fits").filled("")
    further = np.asarray(truth["ROLE"] == "repeat")
    with fits.open(tmp_path / "sas" / DR16.catalogue, character_as_bytes=True) as hdus:
        rows = Table(hdus[1].data)
    np.testing.assert_array_equal((rows["EXTRATARG"] & 16) != 0, further | (truth["ROLE"] == "duplicate"))
    faint = further & (truth["SNR"] < 50)
    assert 0 < faint.sum() < further.sum()
    np.testing.assert_array_equal((rows["ASPCAPFLAG"][further] & (1 << 23)) != 0, faint[further])
    files = {
        DR16.spectrum.format(**{name: str(star[name]) for name in ("TELESCOPE", "FIELD", "APOGEE_ID")})
        for star in truth
    }
    assert len(files) == len(truth)
    there = [
        (
            tmp_path / "sas" / DR16.spectrum.format(**dict(zip(star.colnames, map(str, star.values()), strict=True)))
        ).exists()
        for star in truth[further]
    ]
    assert all(there)
    members = Table.read(tmp_path / "sas" / "dr16/apogee/vac/apogee-occam/occam_member-DR16.fits")
    assert len(members) == len(set(zip(members["APOGEE_ID"], members["CLUSTER"], strict=True)))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)], ids=["none", "half", "all"])
def test_what_is_shared_is_correlated_by_its_share(share, expected):
    rng = np.random.default_rng(0)
    stars = Table({"APOGEE_ID": [f"star {n}" for n in range(2000)]})
    rule = Repeats(shared_turbulence=share, shared_broadening=share, shared_continuum=share)
    seen = {}
    first, second, third = (rule.share(Synthesis().draw_own(2000, rng), stars, seen, rng) for _ in range(3))
    for one, other in [*zip(first, second, strict=True), *zip(second, third, strict=True)]:
        assert np.mean(one * other) == pytest.approx(expected, abs=0.06)
        assert np.mean(other**2) == pytest.approx(1, abs=0.1)


def spread_of_pairs(stars, values):
    """The mean square difference of a star's first observation and its further ones."""
    further = np.flatnonzero(stars["ROLE"] == "repeat")
    main = [
        np.flatnonzero((stars["APOGEE_ID"] == stars["APOGEE_ID"][n]) & np.isin(stars["ROLE"], ["field", "member"]))[0]
        for n in further
    ]
    return np.square(of_chips(values[further] - values[main])).mean()


def test_two_observations_of_a_star_share_all_that_is_the_star(again):
    still = Synthesis(line_spread=(0.0, 0.0, 0.0))
    stars, model, _, _ = observed(replace(PLAIN, repeats=30, synthesis=still))
    assert spread_of_pairs(stars, model) == 0
    apart = replace(PLAIN, repeats=30, synthesis=still, again=Repeats(shared_turbulence=0.0, shared_broadening=0.0))
    stars, model, _, _ = observed(apart)
    assert spread_of_pairs(stars, model) > 1e-7
    assert spread_of_pairs(again[0], again[1]) > 1e-7  # fibres differ


# --- the switches --------------------------------------------------------------------------------------------------


def exposed(detector, snr=200.0, n=40):
    stars = PLAIN.stars.draw(40, np.random.default_rng(0))[np.zeros(n, dtype=int)]
    stars["SNR"] = snr
    return detector.expose(np.ones((n, 8575), np.float32), stars, DR16, np.random.default_rng(0))


def test_quoted_errors_are_wrong_by_chip_and_star():
    _, right = exposed(QUIET, snr=50.0)
    flux, wrong = exposed(replace(QUIET, misquoted=(0.7, 1.4)), snr=50.0)
    factors = np.stack([wrong[:, first + 100] / right[:, first + 100] for first, _ in CHIPS.values()])
    assert factors.min() > 0.69
    assert factors.max() < 1.41
    assert factors.std(axis=1).min() > 0.1  # from star to star
    assert factors.std(axis=0).min() > 0.0  # from chip to chip
    blue = flux[:, 300:3000]
    assert blue.std() == pytest.approx(0.93 / 50, rel=0.02)  # the noise is what it was


def test_noise_of_neighbouring_bins_is_correlated_and_as_large_as_before():
    flux = exposed(replace(QUIET, correlation=0.3))[0][:, 300:3000] - 1
    assert flux.std() == pytest.approx(0.93 / 200, rel=0.02)
    for lag, expected in ((1, 0.3), (2, 0.09), (6, 0.0)):
        assert np.mean(flux[:, lag:] * flux[:, :-lag]) / flux.var() == pytest.approx(expected, abs=0.02)


def test_faint_lines_lie_where_the_list_has_none_and_siblings_share_their_chemistry():
    survey = replace(PLAIN, n_field=200, faint_lines=FaintLines(number=6000))
    stars, model, _, _ = observed(survey)
    without = observed(replace(PLAIN, n_field=200))[1]
    field = stars["ROLE"] == "field"
    quiet = without[field].std(axis=0) < 1e-4  # between the listed lines
    quiet[: CHIPS["blue"][0]] = quiet[CHIPS["red"][1] :] = False
    on_chip = np.zeros(8575, dtype=bool)
    on_chip[IN_CHIP] = True
    assert np.median(model[field].std(axis=0)[quiet & on_chip]) > 0.002
    hidden = np.asarray(stars["HIDDEN_X_H"])
    members = np.flatnonzero(stars["ROLE"] == "member")
    of = np.asarray(stars["CLUSTER"])[members]
    inside = np.concatenate(
        [hidden[members[of == name], 2] - hidden[members[of == name], 2].mean() for name in set(of)]
    )
    assert inside.std() == pytest.approx(0.018, rel=0.2)
    assert hidden[field, 2].std() == pytest.approx(np.hypot(0.03, 0.018), rel=0.2)
    assert hidden[field, 1].std() > 0.08  # two are mixed up as each star goes, which siblings do not share
    warm, cool = (field & mask for mask in (stars["TEFF"] > 4700, stars["TEFF"] < 4500))
    for chip in CHIPS.values():  # the normalisation gives back what they take on the whole
        np.testing.assert_allclose(np.log(model / without)[:, slice(*chip)].mean(axis=1), 0, atol=1e-5)
    depth = np.log(model / without)[:, IN_CHIP].std(axis=1)
    assert depth[cool].mean() > 1.2 * depth[warm].mean()


def test_interlopers_are_listed_as_members_and_told_in_the_truth(tmp_path):
    survey = replace(PLAIN, repeats=20, stars=Population(interlopers=0.1))
    survey.write(tmp_path / "sas", seed=1)
    truth = Table.read(tmp_path / "sas" / "truth.fits").filled("")
    members = truth[truth["ROLE"] == "member"]
    wrong = np.asarray(members["INTERLOPER"])
    assert wrong.sum() == round(0.1 * len(members))
    assert not truth["INTERLOPER"][truth["ROLE"] == "field"].any()
    listed = Table.read(tmp_path / "sas" / "dr16/apogee/vac/apogee-occam/occam_member-DR16.fits")
    sure = {str(star).strip() for star in listed["APOGEE_ID"][listed["CG_PROB"] > 0.8]}
    assert set(members["APOGEE_ID"][wrong]) <= sure
    iron = np.asarray(members["FE_H"])
    away = np.array(
        [abs(iron[n] - np.median(iron[members["CLUSTER"] == members["CLUSTER"][n]])) for n in range(len(iron))]
    )
    assert np.median(away[wrong]) > 5 * np.median(away[~wrong])
    with fits.open(tmp_path / "sas" / DR16.catalogue) as hdus:
        assert not {"INTERLOPER", "BINARY", "ROLE"} & set(hdus[1].columns.names)


def test_binaries_move_between_observations_and_carry_their_companion_s_light(again):
    paired = replace(PLAIN, repeats=30, companions=Companions(share=0.5, light=(0.1, 0.2)))
    stars, model, _, _ = observed(paired)
    binary = np.asarray(stars["BINARY"])
    assert 0.4 < binary.mean() < 0.6
    np.testing.assert_array_equal(model[~binary], again[1][~binary])
    change = np.abs(of_chips(model - again[1])[binary]).mean(axis=1)
    assert (change > 1e-4).all()
    light = np.asarray(stars["COMPANION_LIGHT"])
    assert light[~binary].max() == 0
    assert 0.1 <= light[binary].min() <= light.max() <= 0.2
    further = np.flatnonzero(stars["ROLE"] == "repeat")
    for n in further:
        same = stars["APOGEE_ID"] == stars["APOGEE_ID"][n]
        assert len(set(light[same])) == 1
        assert len(set(stars["VHELIO"][same])) == (same.sum() if binary[n] else 1)
    assert np.asarray(stars["BROADER"])[binary].std() > 0.01


def test_an_error_of_the_velocity_displaces_lines():
    flux = np.exp(-0.5 * ((np.arange(8575) - 4000) / 3) ** 2)[None].repeat(200, axis=0).astype(np.float32)
    moved = Synthesis(velocity_error=0.5).displace(flux, np.random.default_rng(0))
    centre = (moved * np.arange(8575)).sum(axis=1) / moved.sum(axis=1) - 4000
    assert centre.std() == pytest.approx(0.5 / 4.14, rel=0.1)
    assert Synthesis().displace(flux, np.random.default_rng(0)) is flux


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SimulatedSurvey(repeats=-1), "repeats must not be negative, got -1"),
        (lambda: Repeats(shared_continuum=1.5), "again.shared_continuum must be a share of the variance.*got 1.5"),
        (lambda: Repeats(signal_to_noise=(0.5, 1.2)), r"between 0 and 1 .*got \[0.5, 1.2\]"),
        (lambda: Companions(share=2), "companions.share must be 0 to 1, got 2"),
        (lambda: Population(interlopers=-0.1), "interlopers must be a share, 0 to 1, got -0.1"),
        (lambda: FaintLines(number=-1), "faint_lines.number must not be negative, got -1"),
        (lambda: Detector(misquoted=(0, 1)), r"two rising positive factors, got \[0, 1\]"),
        (lambda: Detector(correlation=1.0), "at least 0 and below 1, got 1.0"),
        (lambda: replace(PLAIN, repeats=5000).draw(np.random.default_rng(0)), "more often than there are fields"),
    ],
    ids="repeats continuum snr companions interlopers lines misquoted correlation fields".split(),
)
def test_impossible_options_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
