"""The compression that the RSCA paper used, as a model whose likelihood can be compared with ours.

    python experiments/benchmarks/authors_compression.py STORE [--stars 6000] [--components 30] [--seed 0]

Two packages hold one algorithm (J. J. Verbeek's): `pyppca`, and `ppca`, which the authors' code imports
(apoNN/src/fitters.py) and which divides every bin by its standard deviation first. Both start at random, replace an
invalid bin by its reconstruction, share one covariance of the latents among all stars, leave the mean at that of the
valid fluxes, and stop at a relative change of 1e-4 of their objective. They return an orthonormal basis C and the
spectra completed. The PPCA of that: the variance v of the noise is what C leaves of the valid bins, and the loading of
an axis with variance l is sqrt(l - v), as at PPCA's maximum. It is kinder to them than the loadings they iterate on.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from rich.console import Console
from rich.table import Table as Grid

from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.survey.store import Store

PROGRAMS = {"pyppca": "pyppca/pyppca.py", "ppca": "ppca/_ppca.py"}


@dataclass
class Compressed:
    """What a program ends with: spectra = mean + deviation * centred, and the axes found in those."""

    basis: np.ndarray  # (P, K) orthonormal
    centred: np.ndarray  # (N, P) invalid bins filled in
    mean: np.ndarray  # (P,)
    deviation: np.ndarray  # (P,)
    iterations: int

    def model(self, valid: np.ndarray) -> MaskedPPCA:
        """The PPCA of it; uses `centred` up."""
        n_bins, n_components = self.basis.shape
        latents = self.centred @ self.basis
        self.centred -= latents @ self.basis.T
        left = np.square(self.centred, out=self.centred).sum(where=valid)
        variance = float(left / (valid.sum() * (1 - n_components / n_bins)))
        lengths = np.sqrt(np.maximum(latents.var(axis=0) - variance, 0))
        loadings, bin_variance = self.deviation[:, None] * self.basis * lengths, variance * self.deviation**2
        return MaskedPPCA(
            *(torch.from_numpy(array) for array in (loadings, self.mean, bin_variance)),
            variance if (self.deviation == 1).all() else None,
        )


def compress(flux: np.ndarray, valid: np.ndarray, n_components: int, seed: int, program: str) -> Compressed:
    """Run one of the programs on (N, P) flux."""
    holes = np.where(valid, flux, np.nan).astype(np.float64)
    np.random.seed(seed)  # noqa: NPY002  (what the programs draw from)
    module = _module(program)
    with contextlib.redirect_stdout(io.StringIO()) as printed:  # a line an iteration
        if program == "pyppca":
            basis, _, mean, _, completed = module.ppca(holes, n_components, True)
            completed -= mean
            return Compressed(basis, completed, mean, np.ones_like(mean), len(printed.getvalue().splitlines()))
        fitted = module.PPCA()
        fitted.fit(holes, n_components, min_obs=1, verbose=True)
        return Compressed(fitted.C, fitted.data, fitted.means, fitted.stds, len(printed.getvalue().splitlines()))


def _module(program: str) -> ModuleType:
    """Loaded as a file: a script of this folder is called ppca too."""
    path = metadata.distribution(program).locate_file(PROGRAMS[program])
    spec = util.spec_from_file_location(f"_{program}", str(path))
    if spec is None or spec.loader is None:
        raise SystemExit(f"{program} cannot be loaded: pip install {program}==0.0.4")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Both programs on the first stars of a store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--stars", type=int, default=6000)
    parser.add_argument("--components", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    spectra = Store.open(given.store).spectra(slice(given.stars))
    flux, valid = spectra.flux.numpy(), spectra.valid.numpy()
    grid = Grid("program", "iterations", "seconds", "log-likelihood per valid bin", title="The authors' compression")
    for program in PROGRAMS:
        start = time.perf_counter()
        compressed = compress(flux, valid, given.components, given.seed, program)
        seconds = time.perf_counter() - start
        likelihood = compressed.model(valid).log_likelihood(flux, valid) / valid.sum()
        grid.add_row(program, str(compressed.iterations), f"{seconds:.1f}", f"{likelihood:.5f}")
    Console().print(grid)


if __name__ == "__main__":
    main()
