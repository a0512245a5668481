"""The small model and its exports that tests/export/golden keeps: written once; a later program must read them.

    python tests/export/write_golden.py

Write them anew only with a new schema: what is kept is what users have.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from rsca_torch import RSCA, MaskedPPCA, Removal
from rsca_torch.export import hub_folder, numpy_file, onnx_file, torch_file

GOLDEN = Path(__file__).parent / "golden"
N_STARS, N_BINS, K = 17, 14, 3


def model(removing: bool = True) -> RSCA:
    """With all that a model can have: noise of every bin, bins set aside, one left out, and something removed."""
    rng = np.random.default_rng(5)
    loadings = torch.from_numpy(rng.normal(size=(N_BINS, K)) * [0.3, 0.2, 0.1])
    mean = torch.from_numpy(1 + 0.1 * rng.normal(size=N_BINS))
    loadings[4], mean[4] = 0, torch.nan
    scatter = torch.from_numpy(rng.uniform(1e-4, 1e-3, N_BINS))
    ppca = MaskedPPCA(loadings, mean, scatter + 4e-4, None, [1.0, 2.0], scatter=scatter, clip=5.0)
    centre, sigma_r = torch.tensor([[0.1, 0.2, 0.3], [0.2, 0.7, torch.inf]], dtype=torch.float64)
    first = MaskedPPCA(loadings.clone(), mean.clone(), scatter + 4e-4, None, scatter=scatter.clone(), clip=6.0)
    half = torch.tensor([0.5], dtype=torch.float64)
    removal = Removal(first, loadings[:, :1] / 2, torch.eye(1, K).double(), torch.zeros(K).double(), half)
    rotation = torch.from_numpy(rng.normal(size=(K, K)))
    wavelength = torch.linspace(15100, 15200, N_BINS, dtype=torch.float64)
    sources = [{"store": "0123456789abcdef" * 4, "survey": "apogee", "release": "dr17", "simulated": True}]
    return RSCA(ppca, rotation, centre, sigma_r, wavelength, removal if removing else None, ["A", "B"], sources)


def spectra() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flux, valid and sigma; one bin that no model explains, one star without any valid bin."""
    rng, ppca = np.random.default_rng(6), model().ppca
    sigma = rng.uniform(0.01, 0.03, (N_STARS, N_BINS))
    noise = np.sqrt(sigma**2 + ppca.scatter.numpy()) * rng.normal(size=sigma.shape)
    flux = ppca.mean.nan_to_num(1).numpy() + rng.normal(size=(N_STARS, K)) @ ppca.loadings.numpy().T + noise
    valid = rng.random(flux.shape) > 0.1
    flux[0, 2], valid[0, 2] = flux[0, 2] + 0.5, True
    valid[3] = False
    return tuple(torch.from_numpy(array) for array in (flux, valid, sigma))


def expected(rsca: RSCA) -> dict[str, np.ndarray]:
    """What goes in and what the layer makes of it."""
    flux, valid, sigma = spectra()
    holed = torch.where(valid, flux, torch.nan)
    holed[5:8] = flux[5:8]  # complete ones among them
    arrays = {
        "flux": flux,
        "valid": valid,
        "sigma": sigma,
        "holed": holed,
        "complete": rsca(flux),
        "censored": rsca(holed),
        "masked": rsca(flux, valid),
        "weighed": rsca(flux, valid, sigma),
        "with nothing removed": model(removing=False)(flux, valid, sigma),
    }
    return {name: array.numpy() for name, array in arrays.items()}


def main() -> None:
    """Write all of them."""
    rsca = model()
    np.savez(GOLDEN / "expected.npz", **expected(rsca))
    rsca.save(GOLDEN / "rsca.safetensors")
    numpy_file.write(rsca, GOLDEN / "rsca.npz")
    onnx_file.write(rsca, GOLDEN / "rsca.onnx")
    torch_file.write(model(removing=False), GOLDEN / "rsca.pt2")
    shutil.rmtree(GOLDEN / "hub", ignore_errors=True)
    hub_folder.write(rsca, GOLDEN / "hub")


if __name__ == "__main__":
    main()
