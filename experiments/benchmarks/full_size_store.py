"""A store of the size of DR16's red giants, made block by block without survey files.

    python experiments/benchmarks/full_size_store.py OUT [--stars 151330] [--bins 7514] [--members 185] [--clusters 22]

The simulated survey's own stars, spectra, sky and detector (rsca_torch.survey.simulated), nothing approximated: only
the FITS files between them and the store are left out, and with them the stars that a cut would remove. 7,514 bins are
all pixels on the chips, 6,774 those outside the authors' interstellar ranges; any other number is spread evenly over
one of the two. About 900 stars a second on one core. The same options give the same bytes; repeated after an
interruption it goes on from the last whole block.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import hydra
import numpy as np
from astropy.table import Table
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track

from rsca_torch.learners.registry import CONFIG
from rsca_torch.spectra.stars import Stars, abundance_column
from rsca_torch.survey.apogee import GRID, ROLES
from rsca_torch.survey.apogee_catalogue import spectrum_files
from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.cuts import CutFlow
from rsca_torch.survey.simulated import SimulatedSurvey
from rsca_torch.survey.simulated.release import RELEASES
from rsca_torch.survey.store import Store
from rsca_torch.survey.store_places import require_free
from rsca_torch.survey.store_writer import Partial

RELEASE = RELEASES["dr16"]
SURVEY = SimulatedSurvey(release=RELEASE.name)


def chosen_bins(n_bins: int) -> tuple[Censoring, np.ndarray]:
    """The rule and the pixels: the authors' ranges censored where enough bins are left."""
    authors = hydra.utils.instantiate(OmegaConf.load(CONFIG / "censoring" / "authors.yaml"), _convert_="all")
    for censoring in (authors, Censoring()):
        trusted = np.flatnonzero(censoring.trusted_bins(GRID))
        if n_bins <= len(trusted):
            return censoring, trusted[np.linspace(0, len(trusted) - 1, n_bins).astype(int)]
    raise SystemExit(f"--bins must be at most {len(trusted)}, the pixels on the chips")


def observations(n_field: int, n_members: int, n_clusters: int, rng: np.random.Generator) -> Table:
    """Field stars and members that pass the paper's cuts, in the catalogue's order."""
    stars = SURVEY.stars.draw(n_field + n_field // 30 + 100, rng)
    slow = np.asarray(stars["VHELIO"]) <= SURVEY.pipeline.cerium_velocity  # faster ones lack cerium
    field = np.flatnonzero((stars["ROLE"] == "field") & slow)
    members = np.flatnonzero(stars["ROLE"] == "member")
    clusters, sizes = np.unique(stars["CLUSTER"][members], return_counts=True)
    largest = clusters[np.argsort(-sizes, kind="stable")[:n_clusters]]
    members = members[np.isin(stars["CLUSTER"][members], largest)]
    of = np.asarray(stars["CLUSTER"][members])
    turn = [np.count_nonzero(of[:place] == cluster) for place, cluster in enumerate(of)]
    members = members[np.argsort(turn, kind="stable")[:n_members]]  # every cluster's first, every cluster's second, ...
    if len(members) < n_members or n_members < 2 * len(largest):
        raise SystemExit(f"--members must be {2 * len(largest)} to {len(of)} in {len(largest)} clusters")
    rows = np.sort(np.concatenate([field[np.linspace(0, len(field) - 1, n_field).astype(int)], members]))
    return stars[rows]


def star_table(stars: Table, rng: np.random.Generator) -> Table:
    """What `rsca ingest` would have read of them in the catalogue."""
    measured = SURVEY.pipeline.measure(stars, RELEASE, rng)
    table = stars["APOGEE_ID", "CLUSTER", "TELESCOPE", "FIELD", "LOCATION_ID", "SNR"]
    table["VHELIO_AVG"] = stars["VHELIO"]
    for name in ("AK_TARG", "TEFF", "LOGG"):
        table[name] = measured[name]
    x_h = np.where(measured["X_H"] < -900, np.nan, measured["X_H"])
    table["M_H"], table["ALPHA_M"] = x_h[:, RELEASE.elements.index("Fe")], stars["ALPHA_M"]
    table["FILE"] = spectrum_files(RELEASE.spectrum, table)
    for element, values in zip(RELEASE.elements, x_h.T, strict=True):
        table[abundance_column(element)] = values
    return table


def write(out: Path, n_stars: int, n_bins: int, n_members: int, n_clusters: int, seed: int) -> tuple[Store, float]:
    """The store and the share of its bins that are invalid."""
    require_free(out)
    censoring, bins = chosen_bins(n_bins)
    drawing, measuring, observing = np.random.SeedSequence(seed).spawn(3)
    stars = observations(n_stars - n_members, n_members, n_clusters, np.random.default_rng(drawing))
    table = star_table(stars, np.random.default_rng(measuring))
    partial = Partial(out, json.dumps([n_stars, n_bins, n_members, n_clusters, seed]), bins, GRID.wavelength[bins])
    n_valid = 0
    for rows, flux, error in spectra(stars, bins, observing):
        valid = censoring.valid(flux, error)
        n_valid += int(valid.sum())
        if rows[0] >= partial.done:
            partial.append(flux, error, valid, {})
    survey = {"simulated": {"seed": seed}, "censoring": asdict(censoring)}
    told = {"survey": survey, "censoring": survey["censoring"], "segments": GRID.edges(), "lone_members": []}
    partial.finish(Stars.of(table, **ROLES), CutFlow("simulated", n_stars), [], told)
    return Store.open(out), 1 - n_valid / (n_stars * n_bins)


def spectra(
    stars: Table, bins: np.ndarray, seed: np.random.SeedSequence
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows, flux and error of block after block."""
    blocks = SURVEY.observe(stars, seed)
    console = Console(stderr=True)
    for rows, _, flux, error in track(blocks, "Observing", -(-len(stars) // 128), console=console, transient=True):
        yield rows, flux[:, bins], error[:, bins]


def main() -> None:
    """Write and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for name, value in {"stars": 151_330, "bins": 7_514, "members": 185, "clusters": 22, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    start = time.perf_counter()
    store, invalid = write(given.out, given.stars, given.bins, given.members, given.clusters, given.seed)
    counts = store.manifest["counts"]
    size = sum(file["bytes"] for file in store.manifest["files"].values()) / 1e9
    print(
        f"{given.out}: {counts['stars']:,} stars x {counts['bins']:,} bins, {counts['members']} members in "
        f"{counts['clusters']} clusters, {invalid:.1%} of the bins invalid, {size:.2f} GB, "
        f"{time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
