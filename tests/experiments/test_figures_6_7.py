"""Figures 6 and 7, and `rsca ingest censoring=found`: what is planted is found, and what is switched off is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf
from paper_assembly import assembly_of, configured, with_columns
from scripts import script

from rsca_torch import InputError, Spectra, fit_ppca
from rsca_torch.cli.main import CONFIG, main
from rsca_torch.comparison.variants import read_uncensored
from rsca_torch.survey.apogee import GRID, wavelength
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.store import Store
from rsca_torch.survey.store_writer import Partial

pytestmark = [
    pytest.mark.filterwarnings("ignore::rsca_torch.NumericalWarning"),  # bins that night-sky lines hide
    pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra"),
]

BANDS = [15272.42, 15617.0, 15653.0, 15673.0]
#: Many stars of high extinction.
SMALL = ["compressor.tolerance=1e-2", "simulation.n_field=300", "simulation.stars.extinction=[0.11,1.6]"]
FEW = {"fewest_low": 100, "fewest_high": 40}
SPEEDS = {"fewest_slow": 100, "fewest_fast": 20}
FINDER = {"ppca.n_components": 6, "ppca.tolerance": 1e-2, **{f"finder.{name}": number for name, number in FEW.items()}}
FOUND = ["censoring=found", *(f"survey.censoring.{name}={value}" for name, value in FINDER.items())]


def reproduced(assembly, name, **changed):
    given = OmegaConf.to_container(OmegaConf.load(CONFIG / "experiment" / f"{name}.yaml"))
    del given["title"]
    return script(name).reproduce(assembly, **given | {"n_components": 6} | changed)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def assembly(work):
    return assembly_of(work / "loud", *SMALL)


@pytest.fixture(scope="module")
def quiet(work):
    return assembly_of(work / "quiet", *SMALL, "simulation.synthesis.interstellar=[]")


@pytest.fixture(scope="module")
def figure6(assembly):
    return reproduced(assembly, "figure6", **FEW)


def test_planted_bands_are_found_and_little_else(figure6):
    table = figure6.tables["figure6_intervals"]
    for band in BANDS:
        (there,) = table[(table["first"] <= band) & (band < table["end"])]
        assert there["nearest_band"] == band
        assert there["overlaps_authors"]
        assert there["depth"] > 0.003
    elsewhere = [row for row in table if not any(row["first"] <= band < row["end"] for band in BANDS)]
    assert all(row["end"] - row["first"] < 5 for row in elsewhere)
    assert "4 of 4 known bands" in figure6.finding
    assert re.search(
        r"the 100 stars with the lowest AK_TARG, up to 0.0\d+ \(AK_TARG < 0.005 leaves \d+\)", figure6.finding
    )
    depths = {value.setting: value for value in figure6.values}
    strongest = depths["15272.42 A, depth"]
    assert strongest.low < strongest.value < strongest.high
    assert strongest.value == max(value.value for name, value in depths.items() if name.endswith("depth"))


def test_bands_that_are_not_there_are_not_found(quiet):
    none = reproduced(quiet, "figure6", **FEW)
    assert len(none.tables["figure6_intervals"]) == 0
    assert "0 of 4 known bands lie in the 0 intervals" in none.finding
    assert max(abs(value.value) for value in none.values) < 0.002


def test_the_curve_of_figure_6_covers_every_bin_on_the_chips(figure6, assembly):
    curve = figure6.tables["figure6"]
    assert len(curve) > len(assembly.store.bins)
    assert np.isin(assembly.store.wavelength, curve["wavelength"]).all()
    assert set(figure6.figures) == {"figure6"}


def sides(telluric):
    """Slow and fast stars of a large survey, without its files."""
    config = configured("simulate", "root=x", f"simulation.synthesis.telluric={telluric}")
    simulation, rule = hydra.utils.instantiate(config.simulation), Censoring(interstellar_pixels=())
    stars = simulation.stars.draw(3000, np.random.default_rng(0))
    bins, given = np.flatnonzero(rule.trusted_bins(GRID)), {}
    for seed, (name, rows) in enumerate({"slow": np.abs(stars["VHELIO"]) < 5, "fast": stars["VHELIO"] > 80}.items()):
        blocks = simulation.observe(stars[rows & (stars["ROLE"] == "field")], np.random.SeedSequence(seed))
        flux, error = (np.concatenate(part)[:, bins] for part in list(zip(*blocks, strict=True))[2:])
        given[name] = Spectra(flux, rule.valid(flux, error), error, wavelength()[bins])
    return given


AIR = [("H2O", 15160, 15260), ("CO2", 15690, 15830), ("CO2", 15990, 16140), ("CH4", 16360, 16900)]


def excess(telluric):
    parts = sides(telluric)
    slow = parts["slow"]
    plane = fit_ppca(slow.flux, slow.valid, 20, slow.sigma, "measured+scatter", 1e-2, clip=5.0, products="float32")
    table = script("figure7").excesses(
        plane, parts, slow.wavelength, [*AIR, ("gas", 15262, 15282), ("none", 15810, 15860)]
    )
    return {(row["region"], row["first"]): row for row in table}


def test_what_the_air_leaves_stands_out_among_fast_stars():
    table = excess(0.02)
    for name, first, _ in AIR:
        assert table[name, first]["excess"] > 0.04
        assert table[name, first]["excess"] > 2 * table[name, first]["error"]
    assert table["gas", 15262]["excess"] > 0.5  # it does not follow the star


def test_air_that_leaves_nothing_does_not_stand_out():
    table = excess(0)
    assert all(table[name, first]["excess"] < 0.01 for name, first, _ in AIR)
    assert table["gas", 15262]["excess"] > 0.5


def test_figure_7(assembly):
    figure7 = reproduced(assembly, "figure7", **SPEEDS)
    table, curves = figure7.tables["figure7_regions"], figure7.tables["figure7"]
    assert [value.setting for value in figure7.values] == list(table["region"])
    assert len(table) == len(AIR) + len(BANDS)
    assert set(figure7.figures) == {"figure7"}
    assert re.match(r"A plane of the 100 stars with the lowest .VHELIO_AVG., up to 1\d.\d ", figure7.finding)
    chosen = read_uncensored(assembly, None).field
    angstrom = chosen.wavelength.numpy()
    assert (curves["wavelength"] == angstrom).all()
    slow = np.argsort(np.abs(read_uncensored(assembly, None).column("VHELIO_AVG")))[:100]
    _, valid, _ = chosen.take(np.sort(slow)).read(slice(None))
    unseen = valid.sum(0) <= 6
    assert f"{unseen.sum()} of {len(angstrom)} bins cannot be compared" in figure7.finding


@pytest.mark.parametrize(("name", "column"), [("figure6", "AK_TARG"), ("figure7", "VHELIO_AVG")])
def test_a_survey_without_the_column(assembly, name, column, monkeypatch):
    without = with_columns(read_uncensored(assembly, None), column, np.nan, None)
    monkeypatch.setattr("rsca_torch.comparison.variants.read_uncensored", lambda *_: without)
    with pytest.raises(InputError, match=f"the column {column} of the star table has no value: ingest a catalogue"):
        reproduced(assembly, name)


def test_too_few_stars(assembly):
    with pytest.raises(InputError, match=r"AK_TARG < 0.005 leaves \d+ of 3\d\d stars, 300 are needed: move the cut"):
        reproduced(assembly, "figure6", make_up=False)
    with pytest.raises(InputError, match=r"VHELIO_AVG > 500 leaves 0 of 3\d\d stars, 20 are needed: move the cut"):
        reproduced(assembly, "figure7", **SPEEDS | {"fewest_slow": 5}, fast=500, make_up=False)
    with pytest.raises(InputError, match=r"\d+ stars are among both the 200 stars .* and the 150 stars"):
        reproduced(assembly, "figure6", fewest_low=200, fewest_high=150)


STRICT = "survey.censoring.max_error=0.04"


def ingested(*arguments):
    assert main(["ingest", *arguments]) == 0
    return Store.open(next(a for a in arguments if a.startswith("store=")).removeprefix("store="))


@pytest.fixture(scope="module")
def found(assembly):
    return ingested(f"survey.root={assembly.config.simulated}/archive", "store=found", *FOUND, STRICT)


def test_ingest_censors_what_it_finds(found, assembly, work):
    ranges = found.censoring.interstellar_angstrom
    assert all(any(first <= band < end for first, end in ranges) for band in BANDS)
    assert found.censoring == Censoring(0.04, interstellar_pixels=[], interstellar_angstrom=ranges)
    assert not any(((found.wavelength >= first) & (found.wavelength < end)).any() for first, end in ranges)
    assert len(found.bins) > len(assembly.store.bins)
    found.verify()
    assert not list(work.glob("found.*"))


def test_it_is_the_store_that_these_ranges_give(found):
    root = f"survey.root={found.manifest['survey']['root']}"
    ranges = f"survey.censoring.interstellar_angstrom={json.dumps(found.censoring.interstellar_angstrom)}"
    direct = ingested(root, "store=direct", "censoring=none", STRICT, ranges)
    assert direct.checksum == found.checksum
    for name in ("selection", "problems", "manifest"):
        one, other = getattr(found, name), getattr(direct, name)
        assert one == other


def test_what_was_interrupted_goes_on(found, monkeypatch, capfd):
    once = ["ingest", f"survey.root={found.manifest['survey']['root']}", "store=again", *FOUND, STRICT]
    reads = []

    def count(*given):
        reads.append(given)

    finish = Partial.finish
    for last in ("again.uncensored", "again"):  # stopped with all read; with all copied

        def stop(partial, *given, last=last):
            if partial.store.name == last:
                raise KeyboardInterrupt
            finish(partial, *given)

        with monkeypatch.context() as patch:
            patch.setattr(Partial, "finish", stop)
            assert main(once) == 130
        assert not Path("again").exists()
    assert "15272.42" in capfd.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr("rsca_torch.survey.apogee.read_spectrum", count)
        assert main(once) == 0
    assert reads == []
    assert Store.open("again").checksum == found.checksum


@pytest.mark.usefixtures("quiet", "work")
def test_where_nothing_is_found_nothing_is_censored(caplog):
    nothing = ingested("survey.root=quiet/archive", "store=nothing", *FOUND)
    assert "no interstellar feature is deep and significant enough: none is censored" in caplog.text
    assert list(nothing.censoring.interstellar_angstrom) == []
    assert len(nothing.bins) > 7400


@pytest.mark.usefixtures("assembly")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["survey.censoring.finder.make_up=false"],
            r"AK_TARG < 0.005 leaves \d+ of \d+ stars, 100 are needed: move .* \(what was read stays in",
        ),
        (["survey.censoring.finder.fewest_low=600"], r"600 are needed: 3\d\d have a value at all"),
        (["survey.censoring.finder.depth=0"], r"a positive width, depth and significance expected"),
        (["survey.censoring.finder.padding=0"], r"padding > 0, fewest_stars > 1 and some bands expected"),
        (["survey.censoring.finder.depth=much"], r"depth=much is text, expected a number"),
        (["censoring=lost"], r"Could not find 'censoring/lost'"),
    ],
)
def test_what_cannot_be_found(work, capfd, options, message):
    assert main(["ingest", "survey.root=loud/archive", "store=refused", *FOUND, *options]) == 2
    assert re.search(message, " ".join(capfd.readouterr().err.split()))
    assert not (work / "refused").exists()


def test_a_store_of_ones_own_needs_an_uncensored_one(assembly):
    own = assembly_of("nowhere", *SMALL, "store=loud/store")
    typed = "rsca ingest survey=apogee_dr16 survey.root=.*loud/archive censoring=none store=.*loud/store-uncensored"
    with pytest.raises(InputError, match=f"{typed}, and give that store as uncensored=.*loud/store-uncensored"):
        reproduced(own, "figure6", **FEW)
    with pytest.raises(InputError, match=f"uncensored=loud/store leaves interstellar ranges out too: {typed}"):
        reproduced(own, "figure6", **FEW, uncensored="loud/store")
    uncensored = read_uncensored(assembly, None).store.path
    assert "4 of 4 known bands" in reproduced(own, "figure6", **FEW, uncensored=str(uncensored)).finding
    regions = reproduced(own, "figure7", **SPEEDS).tables["figure7_regions"]["region"]
    assert "diffuse band 15272.42 A" not in list(regions)  # the store has no such bins
    assert "CO2 15690-15830 A" in list(regions)


def test_ingest_lists_the_rules(capfd):
    assert main(["ingest", "censoring=found", "--help"]) == 0
    said = capfd.readouterr().out
    assert "  * found " in said
    assert "  survey.censoring.finder.fewest_low=300 " in said
