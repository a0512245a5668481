"""Labels from spectra: a head on the frozen RSCA layer against the same head on raw spectra, under Lightning.

    python experiments/layer/labels.py [STORE] [--label FE_H] [--train 400] [--epochs 60] [--seeds 3]

STORE: a folder that rsca ingest wrote; by default that of the simulated survey of seed 0. RSCA is fitted on all
clusters and the field stars that train; the head, one hidden layer, is trained on some field stars and judged on the
others. Censored bins of raw spectra are 1, the continuum.
"""

from __future__ import annotations

import argparse
import warnings

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from rsca_torch import RSCA
from rsca_torch.survey.store import Store

warnings.filterwarnings("ignore")


class Labels(lightning.LightningModule):
    """A head on what an encoder makes of spectra; the encoder is part of its checkpoints."""

    def __init__(self, n_features: int, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["encoder"])
        self.encoder = RSCA.blank() if encoder is None else encoder
        self.standard = nn.BatchNorm1d(n_features, affine=False)
        self.head = nn.Sequential(nn.Linear(n_features, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, flux: Tensor, valid: Tensor, sigma: Tensor) -> Tensor:
        """(N,) labels, in standard deviations of those that it was trained on."""
        return self.head(self.standard(self.encoder(flux, valid, sigma).float()))[:, 0]

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Squared error."""
        *spectra, label = batch
        return (self(*spectra) - label).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Of the head alone: the layer has no parameters."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=1e-2)


class Raw(nn.Module):
    """Spectra as they are."""

    def forward(self, flux: Tensor, valid: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002  (as of the layer)
        """(N, P), 1 where censored."""
        return torch.where(valid, flux, 1.0)


def error(encoder: nn.Module, n_features: int, train: TensorDataset, test: TensorDataset, epochs: int) -> float:
    """Root mean square on the test stars, in the label's standard deviations."""
    model = Labels(n_features, encoder)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, DataLoader(train, batch_size=64, shuffle=True, drop_last=True))
    *spectra, label = test.tensors
    with torch.no_grad():
        return float((model.eval()(*spectra) - label).square().mean().sqrt())


def main() -> None:
    """Fit, train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", default="rsca_simulated/seed-0/store")
    parser.add_argument("--label", default="FE_H")
    for name, value in {"train": 400, "epochs": 60, "seeds": 3, "components": 60}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    store = Store.open(given.store)
    field = store.field
    values = np.asarray(field.stars[given.label], dtype=float)
    order = np.random.default_rng(0).permutation(np.flatnonzero(np.isfinite(values)))
    chosen, rest = np.sort(order[: given.train]), np.sort(order[given.train :])
    scale, centre = values[chosen].std(), values[chosen].mean()

    def stars(rows: np.ndarray) -> TensorDataset:
        flux, valid, sigma = field.take(rows).read(slice(None))
        label = torch.from_numpy((values[rows] - centre) / scale).float()
        return TensorDataset(torch.where(valid, flux, 1.0), valid, torch.where(valid, sigma, 1.0), label)

    train, test = stars(chosen), stars(rest)
    rsca = RSCA.fit(field.take(chosen), store.members, n_components=given.components, products="float32")
    print(f"{given.label} of {len(rest)} field stars, {len(chosen)} to learn from; error in the label's unit")
    for name, encoder, size in (("frozen RSCA", rsca, len(rsca.sigma_r)), ("raw spectra", Raw(), len(rsca.wavelength))):
        errors = []
        for seed in range(given.seeds):
            torch.manual_seed(seed)
            errors.append(scale * error(encoder, size, train, test, given.epochs))
        print(f"{name}: {np.mean(errors):.4f} ({min(errors):.4f} to {max(errors):.4f})")


if __name__ == "__main__":
    main()
