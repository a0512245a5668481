"""Whether RSCA on an element's windows follows that element: `python experiments/elements/planted.py [--seeds 8]`.

Per kind of simulated survey, seed and element X: RSCA is fitted on the windows of X alone (compressor.windows=X), and
asked for two kinds of distances. *Twins*: field stars of the survey are observed twice more, as if each had been two
stars alike in all but composition: to every element of each twin an abundance of its own is added, drawn with a spread
of 0.1 dex. So the planted differences of elements are independent of each other, and of all else. *Pairs* of field
stars as they are: there all elements rise and fall with [Fe/H]; so the rank correlation with one element's difference
is also told with that of all others held fixed (partial).

Prints, as Markdown, for every X Spearman's rho of distance and |planted difference| of X, the largest of any other
element and its name, means over surveys, and in how many surveys X has the largest. Surveys and step 1 are kept in the
folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from pathlib import Path

import hydra
import numpy as np
import torch
from astropy.table import Table, vstack
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import DictConfig
from scipy.stats import rankdata

from rsca_torch import RSCA, Spectra
from rsca_torch.cli.main import CONFIG
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.errors import NumericalWarning
from rsca_torch.spectra.view import AnySpectra
from rsca_torch.survey.simulated.chemistry import ELEMENT_INDEX, ELEMENT_OF
from rsca_torch.survey.simulated.store import simulated_store
from rsca_torch.survey.store import Store

KINDS = {"giants": [], "hard": ["simulation=hard"]}
ELEMENTS = ("Mg", "Si", "Ni", "Al")
#: One column an element: CI is carbon, TiII titanium.
OWN = [column for column in range(len(ELEMENT_OF)) if ELEMENT_OF[column] == column]
NAMES = [name for name, column in ELEMENT_INDEX.items() if column in OWN]
SPREAD = 0.1  # dex, of what is planted in a twin
PAIRS = 50_000

Array = NDArray[np.float64]


def planted_of(store: Store, truth: Table) -> Table:
    """The truth of every field star of the store, by id."""
    first = ~np.isin(np.char.strip(np.asarray(truth["ROLE"], dtype=str)), ["repeat", "duplicate"])
    ids = np.char.strip(np.asarray(truth["APOGEE_ID"], dtype=str))
    row = {star: number for number, star in enumerate(ids) if first[number]}
    return truth[[row[star] for star in store.field.stars.id]]


def twins_of(stars: Table, store: Store, config: DictConfig, seed: int) -> tuple[Spectra, Array]:
    """(2 N spectra, the second twins after the first ones; (N, E) planted difference of every element, dex)."""
    random = np.random.default_rng([seed, 17])
    simulation = hydra.utils.instantiate(config.simulation)
    planted = random.normal(0, SPREAD, (2, len(stars), len(ELEMENT_OF)))[:, :, ELEMENT_OF]
    both = []
    for deviation in planted:
        twin = stars.copy()
        twin["PRESENT_X_H"] = np.asarray(twin["PRESENT_X_H"]) + deviation
        both.append(twin)
    observed = vstack(both, metadata_conflicts="silent")
    observed["APOGEE_ID"] = [f"twin {number}" for number in range(len(observed))]  # nothing is shared
    flux, error = np.zeros((2, len(observed), len(store.bins)), dtype=np.float32)
    for rows, _, seen, sigma in simulation.observe(observed, np.random.SeedSequence([seed, 18])):
        flux[rows], error[rows] = seen[:, store.bins], sigma[:, store.bins]
    valid = store.censoring.valid(flux, error)
    return Spectra(flux, valid, error, store.wavelength), (planted[0] - planted[1])[:, OWN]


def ranks(values: Array) -> Array:
    """Of every column, standardised: their products are Spearman's rho."""
    of = np.apply_along_axis(rankdata, 0, values)
    return (of - of.mean(0)) / of.std(0)


def spearman(distance: Array, differences: Array) -> tuple[Array, Array]:
    """((E,) rho with every element's difference, (E,) the same with all other elements held fixed)."""
    given = ranks(np.column_stack([distance, differences]))
    correlation = given.T @ given / len(given)
    inverse = np.linalg.pinv(correlation)
    scale = np.sqrt(np.diag(inverse))
    return correlation[0, 1:], -inverse[0, 1:] / (scale[0] * scale[1:])


def distances(model: RSCA, spectra: AnySpectra, first: NDArray[np.int64], second: NDArray[np.int64]) -> Array:
    """(N,) of pairs of rows."""
    features = model.embed(spectra).double()
    return torch.linalg.vector_norm(features[first] - features[second], dim=1).numpy()


def one_survey(kind: str, seed: int, given: argparse.Namespace) -> dict[str, dict[str, Array]]:
    """What is told: "element, K = number" -> figure -> (E,)."""
    folder = given.folder / kind
    kept = [f"simulated={folder}/surveys/seed-{seed}", f"checkpoints={folder}/step-1", f"seed={seed}"]
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = compose("compare", [*kept, *KINDS[kind], *given.overrides])
    store = simulated_store(config)
    truth = Table.read(Path(config.simulated) / "archive" / "truth.fits")
    stars = planted_of(store, truth)
    twins, apart = twins_of(stars[: given.twins], store, config, seed)
    random = np.random.default_rng([seed, 19])
    first, second = random.integers(0, len(stars), (2, PAIRS))
    first, second = first[first != second], second[first != second]
    planted = np.asarray(stars["PRESENT_X_H"])[:, OWN]
    told = {}
    for element in given.elements:
        for number in given.components:
            config.compressor.windows, config.compressor.n_components = element, number
            model = Assembly(config, store).layer()
            n = len(twins) // 2
            of_twins = distances(model, twins.on(model.wavelength), np.arange(n), np.arange(n, 2 * n))
            of_pairs = distances(model, store.field.on(model.wavelength), first, second)
            figures = {"twins": spearman(of_twins, np.abs(apart))[0]}
            figures["pairs"], figures["pairs, partial"] = spearman(of_pairs, np.abs(planted[first] - planted[second]))
            told[f"{element}, K = {number}"] = figures
            said = {name: best(values, element)[:3] for name, values in figures.items()}
            print(f"{kind}, seed {seed}: {element}, K = {number}: {said}", file=sys.stderr, flush=True)
    return told


def best(values: Array, element: str) -> tuple[float, float, str, bool]:
    """(rho of the element, the largest of any other, whose that is, whether the element's is larger)."""
    own = values[NAMES.index(element.rpartition(".")[2])]
    others = [(value, name) for value, name in zip(values, NAMES, strict=True) if name != element.rpartition(".")[2]]
    largest, name = max(others)
    return float(own), float(largest), name, bool(own > largest)


def print_table(kind: str, surveys: list[dict[str, dict[str, Array]]]) -> None:
    """As Markdown, a row for each element and number of components."""
    heads = "twins: own", "largest other", "surveys", "pairs: own", "largest other", "partial: own", "largest other"
    print(f"\n| {kind} | {' | '.join(heads)} |")
    print(f"|---|{'---|' * 7}")
    for row in surveys[0]:
        element, cells = row.partition(",")[0], []
        for figure in ("twins", "pairs", "pairs, partial"):
            each = [best(survey[row][figure], element) for survey in surveys]
            whose = ", ".join(f"{name} {count}" for name, count in Counter(of[2] for of in each).most_common(3))
            cells += [f"{np.mean([of[0] for of in each]):.3f}", f"{np.mean([of[1] for of in each]):.3f} ({whose})"]
            if figure == "twins":
                cells.append(f"{sum(of[3] for of in each)} of {len(each)}")
        print(f"| {row} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--elements", nargs="+", default=[*ELEMENTS])
    parser.add_argument("--components", nargs="+", type=int, default=[3, 5, 10])
    parser.add_argument("--twins", type=int, default=1500, help="field stars that are observed twice more")
    parser.add_argument("--folder", type=Path, default=Path("runs/elements"))
    parser.add_argument("--json", type=Path, help="FILE.json of every figure")
    parser.add_argument("overrides", nargs="*", help="of the surveys, e.g. simulation.n_field=400")
    given = parser.parse_intermixed_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    kept = {}
    for kind in given.kinds:
        surveys = []
        for seed in range(given.seeds):
            surveys.append(one_survey(kind, seed, given))
            kept[f"{kind}, seed {seed}"] = {
                row: {name: dict(zip(NAMES, map(float, values), strict=True)) for name, values in figures.items()}
                for row, figures in surveys[-1].items()
            }
            if given.json is not None:
                given.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print_table(kind, surveys)


if __name__ == "__main__":
    main()
