"""`rsca embed`: features of every star of a store."""

from __future__ import annotations

import logging
import shlex
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from rsca_torch.cli.inputs import output_path
from rsca_torch.files import atomic_file, claimed, require_new_file
from rsca_torch.report.terminal import progress
from rsca_torch.rsca import RSCA
from rsca_torch.spectra.labels import printable
from rsca_torch.survey.fits_files import utf8
from rsca_torch.survey.store import Store

__all__ = ["run"]

log = logging.getLogger(__name__)

EMBEDDED_AT_ONCE = 1024  # stars


def run(config: DictConfig) -> None:
    """Features of every star of a store, as a FITS table."""
    out = output_path(config.out)
    require_new_file(out)
    with claimed(out):
        _embed(config, out)


def _provenance(model: RSCA, store: Store) -> dict[str, str]:
    """Of a FITS header, which takes names of eight letters and ASCII alone."""
    command = shlex.join(["rsca", "embed", *HydraConfig.get().overrides.task])
    return {
        "STORE": store.checksum,  # that is embedded
        "PROGRAM": f"rsca_torch {version('rsca_torch')}",
        "MODELVER": f"rsca_torch {model.version}",  # that fitted the model
        "MODELSTO": ", ".join(one.get("store", "spectra in memory") for one in model.sources) or "not known",
        "COMMAND": printable(command).encode("ascii", "backslashreplace").decode(),
    }


def _embed(config: DictConfig, out: Path) -> None:
    require_new_file(out)  # now that nobody else makes it
    model = RSCA.load(config.model)
    store = Store.open(config.store)
    everyone = store.select().on(model.wavelength)
    features, valid_bins, aside = [], [], []
    with progress() as told:
        for first in range(0, len(store), EMBEDDED_AT_ONCE):
            spectra = everyone.take(slice(first, first + EMBEDDED_AT_ONCE))
            embedding, (flux, valid, _) = model.embedding(spectra), spectra.read(slice(None))
            features.append(model.from_latents(embedding.latents))
            valid_bins.append((flux.isfinite() if valid is None else valid).sum(1))
            aside.append(embedding.stars.bincount(minlength=len(spectra)))
            told.step("embedding", first + len(spectra), len(store))
    table = Table(
        {store.stars.roles[role]: store.stars.values(role) for role in ("id", "group", "snr") if store.stars.has(role)}
    )
    table["VALID_BINS"], table["SET_ASIDE"] = (
        torch.cat(count).numpy().astype(np.int32) for count in (valid_bins, aside)
    )
    table["FEATURES"] = torch.cat(features).numpy()
    table.meta = _provenance(model, store)
    blind = int((table["VALID_BINS"] == 0).sum())
    if blind:
        log.warning("warning: %d stars have no valid bin among the model's: their features are the prior's", blind)
    with atomic_file(out) as part:
        utf8(table).write(part, format="fits")
    log.info("%d features of %d stars in %s", table["FEATURES"].shape[1], len(table), out)
