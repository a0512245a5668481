"""Real abundances of giants: `python experiments/real/abundances_dr13.py STARS [--errors ALLSTAR ...]`.

STARS is a table of abundances <ELEMENT>_H and cluster names, as `rsca compare stars=STARS` takes it, with its cuts and
all pairs. Leaves one cluster out and prints, as Markdown, the rate of [X/H] raw and scaled, of RSCA with no floor (what
few members do not span weighs 0), and of RSCA with a floor under the scatter of siblings. The table has no errors; the
floor is diagonal, from what uses no member:

- ALLSTAR: rows of an allStar file, whose X_H_ERR are the catalogue's errors; of the giants within the same cuts that
  are no members, with S/N of 150 at least, the median of each element.
- the table itself: a factor analysis of the field's abundances (step 1 with a scatter of each element). An element's
  scatter is its error and what the element does alone in the stars, so the error is less, if errors of several elements
  do not go together. With more than four factors the scatter of some element vanishes.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.cli.main import CONFIG
from rsca_torch.comparison.abundances import abundances
from rsca_torch.comparison.representation import Representation
from rsca_torch.comparison.star_table import members_and_field, read_stars
from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.result import LOCOResult, paired_difference
from rsca_torch.learners import Identity, Scaled, ScaledComponents
from rsca_torch.learners.learner import Learner
from rsca_torch.ppca.fit import fit_ppca

#: of X_H and X_H_ERR in allStar of DR14 to DR17
ASPCAP = "C CI N O Na Mg Al Si P S K Ca Ti TiII V Cr Mn Fe Co Ni".split()
BRIGHT = 150.0  # S/N, as most stars of the table have
NEGLIGIBLE = 1e-3  # dex


def representation_of(path: Path) -> tuple[Representation, list[str]]:
    """All [X/H] of field and members, and the elements."""
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = compose("compare", [f"stars={path}"])
    stars = read_stars(path, {**config.survey.roles, "id": config.id, "group": config.group})
    field, members = members_and_field(stars, instantiate(config.survey.cuts, _convert_="all"))
    elements = [name[:-2].capitalize() for name in stars.colnames if name.endswith("_H") and name != "M_H"]
    return abundances("abundances", field, members, elements), elements


def catalogue_errors(path: Path, elements: list[str], members: NDArray[np.str_]) -> tuple[NDArray[np.float64], int]:
    """(K,) dex, median over giants that are no members; and how many they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that astropy does not know
        rows = Table.read(path, hdu=1)
    inside = (rows["TEFF"] > 4000) & (rows["TEFF"] < 5000) & (rows["LOGG"] > 1.5) & (rows["LOGG"] < 3)
    ids = np.char.strip(np.asarray(rows["APOGEE_ID"], dtype=str))
    inside &= (rows["SNR"] >= BRIGHT) & ~np.isin(ids, members)
    columns = [ASPCAP.index(element) for element in elements]
    values, errors = (np.asarray(rows[name][inside], dtype=float)[:, columns] for name in ("X_H", "X_H_ERR"))
    known = (values > -9) & (errors > 0) & (errors < 9)
    return np.nanmedian(np.where(known, errors, np.nan), axis=0), int(inside.sum())


def own_scatter(field: Tensor, factors: int) -> NDArray[np.float64]:
    """(K,) dex, of each element beside what so many factors do to all of them."""
    tiny = torch.full_like(field, NEGLIGIBLE)
    model = fit_ppca(field, None, factors, tiny, "measured+scatter", tolerance=1e-6, max_iterations=2000)
    return np.asarray(model.scatter.sqrt())


def judged(on: Representation, make: Callable[[], Learner]) -> LOCOResult:
    """All pairs."""
    return leave_one_cluster_out(make, on.field, on.members, on.clusters, ids=on.member_stars.id)


def print_row(name: str, result: LOCOResult, first: LOCOResult) -> None:
    """Rate, interval, difference to the first row in pairs."""
    low, high = (100 * limit for limit in result.interval())
    difference = paired_difference(result, first)
    minus = f"{100 * difference.value:+.2f} ({100 * difference.low:+.2f} to {100 * difference.high:+.2f})"
    below = sum(result.cluster_rates[cluster] < rate for cluster, rate in first.cluster_rates.items())
    others = " | " if result is first else f"{minus} | {below} of {len(result.members)}"
    print(f"| {name} | {100 * result.rate:.2f} | {low:.2f} to {high:.2f} | {others} |", flush=True)


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stars", type=Path)
    parser.add_argument("--errors", type=Path, nargs="*", default=[], help="rows of allStar files with X_H_ERR")
    parser.add_argument("--factors", type=int, nargs="*", default=[2, 4], help="of the factor analysis")
    given = parser.parse_args()
    warnings.simplefilter("ignore", NumericalWarning)  # unspanned directions, of which the docs tell
    on, elements = representation_of(given.stars)
    listed = np.char.strip(np.asarray(on.member_stars.id, dtype=str))
    floors = {}
    for path in given.errors:
        errors, giants = catalogue_errors(path, elements, listed)
        floors[f"errors of {path.stem}, {giants} giants"] = errors
    for factors in given.factors:
        floors[f"own scatter, {factors} factors"] = own_scatter(on.field, factors)
    print(f"{len(on.field)} field stars, {len(on.members)} members, {len(np.unique(on.clusters))} clusters\n")
    print(f"| floor, dex | {' | '.join(elements)} |\n|{'---|' * (len(elements) + 1)}")
    for name, errors in floors.items():
        print(f"| {name} | {' | '.join(f'{error:.3f}' for error in errors)} |")
    print("\n| learner | rate, % | 68 % | minus raw (68 %) | clusters better than raw |\n|---|---|---|---|---|")
    raw = judged(on, Identity)
    print_row("raw", raw, raw)
    print_row("scaled", judged(on, Scaled), raw)
    for robust, said in ((True, ""), (False, " sd")):
        make = partial(ScaledComponents, robust=robust, trim=None)
        print_row(f"rsca, floor=none{said}", judged(on, partial(make, floor=None, unspanned="drop")), raw)
        for name, errors in floors.items():
            floor = torch.from_numpy(np.diag(errors**2))
            print_row(f"rsca, floor={name}{said}", judged(on, partial(make, floor=floor)), raw)


if __name__ == "__main__":
    main()
