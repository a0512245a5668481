"""Our PPCA, the authors' compression, scikit-learn's PCA and bare matrix products, side by side in one run.

    python experiments/benchmarks/ppca.py [--stars 6000] [--bins 6774] [--components 30] [--store STORE]

Every program has a process of its own. Its likelihood is that of the exact masked model (`MaskedPPCA.log_likelihood`)
at the parameters it ended with; its memory is the peak of anonymous memory, libraries included, mapped files not.
scikit-learn sees invalid bins filled with the bin's mean. Without a store, one is made (full_size_store.py).
Needs `pip install -c constraints.txt -e .[benchmarks]`.
"""

from __future__ import annotations

import argparse
import inspect
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import full_size_store
import numpy as np
import torch
from authors_compression import compress
from measuring import Meter, in_own_process, products
from rich.console import Console
from rich.table import Table as Grid
from sklearn.decomposition import PCA

from rsca_torch import NumericalWarning
from rsca_torch.ppca.fit import Products, fit_ppca
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.survey.store import Store

DEFAULTS = inspect.signature(fit_ppca).parameters

Array = np.ndarray
#: (seconds, mean log-likelihood per valid bin) of an iteration.
History = list[tuple[float, float]]


@dataclass(frozen=True)
class Problem:
    """The first stars of a store and what to fit to them."""

    store: Path
    n_stars: int
    n_components: int
    tolerance: float
    products: Products
    seed: int
    max_iterations: int = 1000

    def read(self) -> tuple[Array, Array, Array]:
        """Mapped flux and error, and which bins are valid."""
        flux, error = (np.load(self.store / f"{name}.npy", mmap_mode="r")[: self.n_stars] for name in ("flux", "error"))
        return flux, error, Store.open(self.store).censoring.valid(flux, error)


@dataclass(frozen=True)
class Outcome:
    """What a program needed and reached."""

    seconds: float
    memory: float
    likelihood: float
    iterations: int | None = None
    history: History = field(default_factory=list)

    def iterations_to(self, likelihood: float) -> int | None:
        """After how many it has parameters that are as good; an iteration looks at those of the one before."""
        found = next((number for number, (_, value) in enumerate(self.history) if value >= likelihood), None)
        return None if found is None else max(found, 1)


#: The model, made when it is asked for; iterations; what was reached when.
Fit = tuple[Callable[[], MaskedPPCA], int | None, History]


def ours(flux: Array, valid: Array, problem: Problem) -> Fit:
    """Isotropic `fit_ppca`."""
    history: History = []
    begin = time.perf_counter()
    model = fit_ppca(
        flux,
        valid,
        problem.n_components,
        tolerance=problem.tolerance,
        max_iterations=problem.max_iterations,
        products=problem.products,
        progress=lambda _, value: history.append((time.perf_counter() - begin, value)),
    )
    return lambda: model, len(history), history


def pyppca(flux: Array, valid: Array, problem: Problem) -> Fit:
    """The authors' algorithm on the flux itself."""
    compressed = compress(flux, valid, problem.n_components, problem.seed, "pyppca")
    return lambda: compressed.model(valid), compressed.iterations, []


def ppca(flux: Array, valid: Array, problem: Problem) -> Fit:
    """The authors' algorithm on standardised bins: the package that they import."""
    compressed = compress(flux, valid, problem.n_components, problem.seed, "ppca")
    return lambda: compressed.model(valid), compressed.iterations, []


def scikit_learn(flux: Array, valid: Array, problem: Problem) -> Fit:
    """PCA with every invalid bin at its bin's mean, read as the PPCA whose maximum it is."""
    mean = np.divide(np.where(valid, flux, 0).sum(axis=0), np.maximum(valid.sum(axis=0), 1))
    pca = PCA(problem.n_components, svd_solver="randomized", random_state=problem.seed)
    pca.fit(np.where(valid, flux, mean))
    variance = float(pca.noise_variance_)
    lengths = np.sqrt(np.maximum(pca.explained_variance_ - variance, 0))
    loadings, centre = (torch.from_numpy(a).double() for a in (pca.components_.T * lengths, pca.mean_))
    return lambda: MaskedPPCA(loadings, centre, torch.full_like(centre, variance), variance), None, []


PROGRAMS: dict[str, Callable[[Array, Array, Problem], Fit]] = {
    "fit_ppca": ours,
    "pyppca": pyppca,
    "ppca": ppca,
    "scikit-learn": scikit_learn,
}


def outcome(program: str, problem: Problem) -> Outcome:
    """Fit under the meter, then judge."""
    flux, _, valid = problem.read()
    with Meter() as meter, warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # not converged, where it is stopped
        model, iterations, history = PROGRAMS[program](flux, valid, problem)
    likelihood = model().log_likelihood(flux, valid) / int(valid.sum())
    return Outcome(meter.seconds, meter.memory, likelihood, iterations, history)


def measured_iteration(problem: Problem) -> tuple[float, dict[str, float]]:
    """Seconds of an EM iteration with measured noise, and of the two matrix products that it consists of."""
    flux, sigma, valid = problem.read()
    times: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # not converged: not meant to
        fit_ppca(
            flux,
            valid,
            problem.n_components,
            sigma,
            max_iterations=5,
            products=problem.products,
            progress=lambda *_: times.append(time.perf_counter()),
        )
    bare = {name: products(*flux.shape, problem.n_components, getattr(torch, name)) for name in ("float32", "float64")}
    return float(np.median(np.diff(times))), bare


def as_good(problem: Problem, whole: Outcome, other: Outcome) -> str:
    """A fit that is stopped as soon as its model is as likely as another program's."""
    number = whole.iterations_to(other.likelihood)
    if number is None:
        return "fit_ppca never has it"
    stopped = in_own_process(outcome, "fit_ppca", replace(problem, max_iterations=number))
    return (
        f"fit_ppca stopped after {number} iterations is at {stopped.likelihood:.6f} against {other.likelihood:.6f}, "
        f"in {stopped.seconds:.3g} s, {stopped.seconds / other.seconds:.2f} of its time"
    )


def compare(problem: Problem) -> None:
    """One after the other, the table, and the two targets."""
    outcomes = {program: in_own_process(outcome, program, problem) for program in PROGRAMS}
    iteration, bare = in_own_process(measured_iteration, problem)
    stars, bins = Store.open(problem.store).manifest["counts"]["stars"], len(Store.open(problem.store).bins)
    title = f"{min(stars, problem.n_stars):,} stars x {bins:,} bins, K = {problem.n_components}"
    grid = Grid("program", title=f"{title}, {torch.get_num_threads()} threads")
    for name in ("seconds", "iterations", "log-likelihood / valid bin", "peak memory, GB"):
        grid.add_column(name, justify="right")
    for program, of in outcomes.items():
        numbers = f"{of.seconds:.3g}", str(of.iterations or ""), f"{of.likelihood:.6f}", f"{of.memory:.2f}"
        grid.add_row(program, *numbers)
    Console().print(grid)
    for program in ("pyppca", "ppca"):
        print(f"{program}'s likelihood: {as_good(problem, outcomes['fit_ppca'], outcomes[program])}")
    ratios = " and ".join(f"{iteration / seconds:.2f} x {name} ({seconds:.3g} s)" for name, seconds in bare.items())
    print(f"an iteration with measured noise: {iteration:.3g} s, its two matrix products {ratios}")


def main() -> None:
    """On a store that is given, or made for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"stars": 6000, "bins": 6774, "components": 30, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--tolerance", type=float, default=DEFAULTS["tolerance"].default, help="of fit_ppca")
    parser.add_argument("--products", default=DEFAULTS["products"].default, help="of fit_ppca: float32 or float64")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = given.store or Path(folder) / "store"
        if given.store is None:
            full_size_store.write(store, given.stars, given.bins, 185, 22, given.seed)
        compare(Problem(store, given.stars, given.components, given.tolerance, given.products, given.seed))


if __name__ == "__main__":
    main()
