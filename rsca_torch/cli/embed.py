"""`rsca embed`: features of every star of a store."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import hydra
import numpy as np
import torch
from astropy.table import Table
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import Tensor

from rsca_torch.cli.inputs import output_path
from rsca_torch.files.places import claimed, require_new_file
from rsca_torch.files.whole import atomic_file
from rsca_torch.layers.rsca import RSCA
from rsca_torch.parallel import Parallel
from rsca_torch.report.terminal import progress
from rsca_torch.spectra.bins import lacking
from rsca_torch.spectra.labels import printable
from rsca_torch.spectra.view import AnySpectra
from rsca_torch.survey.fits_files import utf8
from rsca_torch.survey.store import Store

__all__ = ["run"]

log = logging.getLogger(__name__)

EMBEDDED_AT_ONCE = 1024  # stars
BLOCKS_A_PROCESS = 4  # fewer are embedded faster than another process starts


@dataclass
class Embedder:
    """Embeds some of a store's stars, in whatever process: it opens model and store where it is called.

    Args:
        model: its file.
        store: its folder.
        at_once: how many stars.
    """

    model: Path
    store: Path
    at_once: int

    @cached_property
    def _opened(self) -> tuple[RSCA, AnySpectra]:
        model = RSCA.load(self.model)
        return model, Store.open(self.store).select().on(model.wavelength)

    def __call__(self, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of the n stars from the first on: (n, D) features, and how many bins each has and has set aside."""
        model, everyone = self._opened
        spectra = everyone.take(slice(first, first + self.at_once))
        with one_thread():
            embedding, (flux, valid, _) = model.embedding(spectra), spectra.read(slice(None))
            features = model.from_latents(embedding.latents)
        valid_bins = (flux.isfinite() if valid is None else valid).sum(1)
        return features, valid_bins, embedding.stars.bincount(minlength=len(spectra))


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of torch do not depend on how many threads share them: blocks run side by side instead."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(config: DictConfig) -> None:
    """Write the features of every star of a store, as a FITS table."""
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
    store.verify()
    everyone = store.select()
    if lacks := lacking(everyone.wavelength, model.wavelength):  # or refuses before any process starts
        log.warning("warning: %s", lacks)
    parallel: Parallel = hydra.utils.instantiate(config.parallel)
    starts = range(0, len(store), EMBEDDED_AT_ONCE)
    task, parts = Embedder(Path(config.model).absolute(), store.path.absolute(), EMBEDDED_AT_ONCE), []
    with progress() as told:
        for block in parallel.each(task, starts, pieces=len(starts) // BLOCKS_A_PROCESS):
            parts.append(block)
            told.step("embedding", min(len(parts) * EMBEDDED_AT_ONCE, len(store)), len(store))
    features, valid_bins, aside = (torch.cat(each) for each in zip(*parts, strict=True))
    table = Table(
        {store.stars.roles[role]: store.stars.values(role) for role in ("id", "group", "snr") if store.stars.has(role)}
    )
    table["VALID_BINS"], table["SET_ASIDE"] = (count.numpy().astype(np.int32) for count in (valid_bins, aside))
    table["FEATURES"] = features.numpy()
    table.meta = _provenance(model, store)
    blind = int((table["VALID_BINS"] == 0).sum())
    if blind:
        log.warning("warning: %d stars have no valid bin among the model's: their features are the prior's", blind)
    with atomic_file(out) as part:
        utf8(table).write(part, format="fits")
    log.info("%d features of %d stars in %s", table["FEATURES"].shape[1], len(table), out)
