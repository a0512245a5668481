"""One drawn survey in every release's files: `python experiments/surveys/releases.py FOLDER [--field N] [--seed SEED]`.

Writes the trees of DR13, DR14, DR16, DR17 and DR19 from one seed into FOLDER, ingests each with the survey that ships
(DR16 from allStarLite too), and prints, as Markdown: the stars; how many of DR16's stars are there and how many others;
by how much spectra differ from DR16's in bins that both trust; and the rates of raw, scaled and RSCA. What is in FOLDER
already is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.typing import NDArray

from rsca_torch.cli.main import CONFIG
from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.simulated import SimulatedSurvey
from rsca_torch.survey.store import Store

#: Name in the table -> (the release that is simulated, what is asked of ingest).
RELEASES = {
    "DR13": ("dr13", ["+survey=apogee_dr13"]),
    "DR14": ("dr14", ["+survey=apogee_dr14"]),
    "DR16": ("dr16", ["+survey=apogee_dr16"]),
    "DR16, Lite": (
        "dr16",
        ["+survey=apogee_dr16", "survey.catalogue=[dr16/apogee/spectro/aspcap/r12/l33/allStarLite-r12-l33.fits]"],
    ),
    "DR17": ("dr17", ["+survey=apogee_dr17"]),
    "DR19": ("dr19", ["+survey=sdss_dr19"]),
}


class Read(NamedTuple):
    """A release's stars by their 2MASS names: group, flux (NaN where it is not trusted) and error on 8,575 pixels."""

    group: dict[str, str]
    flux: dict[str, NDArray[np.float32]]
    error: dict[str, NDArray[np.float32]]


def store_of(name: str, folder: Path, n_field: int, seed: int) -> Store:
    """The store of one release, made as far as it is not there."""
    release, options = RELEASES[name]
    tree, store = folder / release, folder / f"store_{name.replace(', ', '_')}"
    if not tree.exists():
        SimulatedSurvey(n_field=n_field, release=release).write(tree, seed)
    if not store.exists():
        with initialize_config_dir(str(CONFIG), version_base="1.3"):
            survey = instantiate(compose(overrides=[*options, f"survey.root={tree}"]).survey)
        ingest(survey, store)
    return Store.open(store)


def read(store: Store) -> Read:
    """All stars of the field and the clusters."""
    told = Read({}, {}, {})
    for part in (store.field, store.members):
        flux, valid, sigma = (values.numpy() for values in part.read(np.arange(len(part.stars))))
        names = part.stars["obj" if "obj" in part.stars.colnames else "APOGEE_ID"]
        for row, star in enumerate(map(str, names)):
            told.group[star] = str(part.stars.group[row])
            told.flux[star], told.error[star] = np.full((2, 8575), np.nan, dtype=np.float32)
            told.flux[star][store.bins] = np.where(valid[row], flux[row], np.nan)
            told.error[star][store.bins] = np.where(valid[row], sigma[row], np.nan)
    return told


def differences(one: Read, other: Read) -> dict[str, float]:
    """Of the stars of both: how their trusted bins, fluxes and errors differ."""
    stars = sorted(one.flux.keys() & other.flux.keys())
    a, b = (np.stack([each.flux[star] for star in stars]) for each in (one, other))
    sigma, of_other = (np.stack([each.error[star] for star in stars]) for each in (one, other))
    both = np.isfinite(a) & np.isfinite(b)
    apart = np.abs(a - b)[both]
    return {
        "stars": len(stars),
        "only_here": len(other.flux) - len(stars),
        "not_here": len(one.flux) - len(stars),
        "regrouped": sum(one.group[star] != other.group[star] for star in stars),
        "trusted": float(np.isfinite(b).sum() / np.isfinite(a).sum()),
        "largest": float(apart.max()),
        "error": float(np.abs(of_other[both] / sigma[both] - 1).max()),
    }


def rates(store: Path, run: Path) -> dict[str, str]:
    """Learner -> rate with its interval, in percent, as `rsca compare` judges it."""
    if not run.exists():
        command = [sys.executable, "-m", "rsca_torch", "compare", f"store={store}", f"out={run}"]
        command += ["learner=paper_text", "compressor.n_components=30"]
        subprocess.run(command, check=True, capture_output=True)
    told = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return {
        each[
            "learner"
        ]: f"{100 * each['doppelganger_rate']:.2f} ({' - '.join(f'{100 * v:.2f}' for v in each['interval'])})"
        for each in told["results"]
        if each["representation"] == "spectra" and each["held_out"]
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("folder", type=Path)
    parser.add_argument("--field", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    stores = {name: store_of(name, given.folder, given.field, given.seed) for name in RELEASES}
    first = read(stores["DR16"])
    print(
        "| release | stars | of DR16's | others | bins trusted | flux differs by | errors differ by | rsca, % | raw |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, store in stores.items():
        told = differences(first, read(store))
        judged = rates(store.path, given.folder / f"run_{name.replace(', ', '_')}")
        print(
            f"| {name} | {told['stars'] + told['only_here']:,} | {told['stars']:,} | {told['only_here']} | "
            f"{100 * told['trusted']:.1f} % | {told['largest']:.1e} | "
            f"{told['error']:.1e} | {judged['rsca']} | {judged['raw']} |"
        )


if __name__ == "__main__":
    main()
