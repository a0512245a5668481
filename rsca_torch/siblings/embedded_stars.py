"""Stars in the features of a model: computed once, kept in files, read as they are searched."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from astropy.table import vstack
from numpy.typing import NDArray
from torch import Tensor

from rsca_torch.errors import InputError
from rsca_torch.files.checked import read_json, sealed, unsealed
from rsca_torch.files.places import claimed, remove_left
from rsca_torch.files.whole import atomic_folder, is_refused, write_json
from rsca_torch.layers.rsca import RSCA
from rsca_torch.removal import without
from rsca_torch.spectra.bins import lacking
from rsca_torch.spectra.stars import Stars
from rsca_torch.spectra.view import AnySpectra
from rsca_torch.survey.store import Store

__all__ = ["EmbeddedStars", "embedded_stars"]

log = logging.getLogger(__name__)

AT_ONCE = 1024  # stars
SURE = 2.0  # noise up to which stars are found, and mistaken for siblings, as often as others (docs/siblings.md)
FILES = ("features", "noise", "valid_bins")
SUMS = "sums.json"  # of these
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EmbeddedStars:
    """N stars where a model sees them.

    Attributes:
        features: (N, D) float64, in memory or in a file.
        noise: (N,) float32, the posterior variance of a star's features, summed, over what siblings differ by from the
            centre of their cluster.
        valid_bins: (N,) int32, of the model's bins; 0: there is nothing to go by.
        stars: N rows.
        sigma_r: (D,) of the model.
        calibration: of the model.
        file: that has the features; None: they are in memory.
    """

    features: NDArray[np.float64]
    noise: NDArray[np.float32]
    valid_bins: NDArray[np.int32]
    stars: Stars
    sigma_r: NDArray[np.float64]
    calibration: dict[str, Any]
    file: Path | None = None

    def __len__(self) -> int:
        return len(self.stars)

    @property
    def is_certain(self) -> NDArray[np.bool_]:
        """(N,) whether a star has valid bins, and no more noise than `SURE` times what siblings differ by."""
        return np.asarray((self.valid_bins > 0) & (self.noise <= SURE))

    def at(self, rows: NDArray[np.int64]) -> Tensor:
        """(m, D) features of some."""
        return torch.from_numpy(np.asarray(self.features[rows]))

    @property
    def groups(self) -> NDArray[np.str_]:
        """(N,) the group of siblings that each is listed in, '' for none."""
        return self.stars.group if self.stars.has("group") else np.full(len(self), "", dtype="U1")


def embedded_stars(
    model: RSCA, stars: Store | AnySpectra, kept: str | Path | None = None, progress: Progress | None = None
) -> EmbeddedStars:
    """The stars in the features of a model, with how sure these are.

    Args:
        model: the layer.
        stars: a store, of which field, members and stars of other groups are taken, or spectra.
        kept: folder in which those of a store are kept, and found again. None: in memory.
        progress: called with (what is done, stars done, N).

    Raises:
        InputError: where they have no bin of the model's grid, or what was kept is damaged.

    Examples:
        >>> from rsca_torch import MaskedPPCA, Spectra
        >>> axes = torch.tensor([[0.3, 0.0], [0.0, 0.4], [0.1, 0.1]]).double()
        >>> ppca = MaskedPPCA(axes, torch.ones(3).double(), torch.full((3,), 1e-4).double(), noise_variance=1e-4)
        >>> steps = torch.eye(2).double(), torch.zeros(2).double(), torch.full((2,), 0.1).double()
        >>> model = RSCA(ppca, *steps, torch.tensor([5000.0, 5001.0, 5002.0]).double())
        >>> flux = np.array([[1.1, 0.9, 1.0], [1.0, np.nan, np.nan], [np.nan] * 3])  # with one bin, and with none
        >>> found = embedded_stars(model, Spectra(flux, wavelength=[5000, 5001, 5002]))
        >>> found.features.shape, found.valid_bins.tolist(), found.is_certain.tolist()
        ((3, 2), [3, 1, 0], [True, True, False])
    """
    parts: list[AnySpectra] = [stars.select(), stars.groups] if isinstance(stars, Store) else [stars]
    own = parts[0].wavelength
    parts = [part.on(model.wavelength) for part in parts if len(part)]
    if not parts:
        raise InputError("there is no star: give a store or spectra with some")
    if lacks := lacking(own, model.wavelength):
        log.warning("warning: %s", lacks)
    place = None if kept is None or not isinstance(stars, Store) else Path(kept) / _name(model, stars)
    if place is None:
        if isinstance(stars, Store):
            stars.verify()
        arrays = _computed(model, parts, {}, progress)
    else:
        if not (place / "features.npy").exists():
            with claimed(place):
                if not (place / "features.npy").exists():  # now that nobody else makes it
                    with atomic_folder(place) as part:
                        assert isinstance(stars, Store)
                        stars.verify()
                        _computed(model, parts, {name: part / f"{name}.npy" for name in FILES}, progress)
                        write_json(part / SUMS, sealed({name: _sum(part / f"{name}.npy") for name in FILES}))
        else:
            remove_left(place)  # by a run that was killed at its very end
        arrays = _read(place)
    table = parts[0].stars
    if len(parts) > 1:
        table = Stars.of(vstack([part.stars for part in parts], metadata_conflicts="silent"), **table.roles)
    if len(table) != len(arrays[0]):
        raise InputError(f"{place} holds {len(arrays[0])} stars, {len(table)} expected: remove it")
    file = None if place is None else (place / "features.npy").resolve()
    features, noise, valid_bins = arrays
    return EmbeddedStars(features, noise, valid_bins, table, model.sigma_r.cpu().numpy(), dict(model.calibration), file)


def _computed(
    model: RSCA, parts: list[AnySpectra], files: dict[str, Path], progress: Progress | None
) -> tuple[NDArray[Any], ...]:
    """(features, noise, valid bins), in new files where these are named."""
    total, n_features = sum(map(len, parts)), len(model.sigma_r)

    def made(name: str, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
        if name not in files:
            return np.empty(shape, dtype)
        return _new_file(files[name], shape, np.dtype(dtype))

    features = made("features", (total, n_features), np.float64)
    noise, valid_bins = made("noise", (total,), np.float32), made("valid_bins", (total,), np.int32)
    tells = model.sigma_r.isfinite()
    rows, spread = model.rotation[tells], (1 / (1 + model.sigma_r[tells].square())).sum()
    done = 0
    for spectra in parts:
        for first in range(0, len(spectra), AT_ONCE):
            some = spectra.take(slice(first, first + AT_ONCE))
            found = model.ppca.embed(without(some, model.removal), covariances=True)
            assert found.covariances is not None
            here = slice(done, done + len(some))
            features[here] = model.from_latents(found.latents).cpu().numpy()
            variance = torch.einsum("ij,njk,ik->n", rows, found.covariances, rows)
            noise[here] = (variance / spread).cpu().numpy() if len(rows) else np.inf
            flux, valid, _ = some.read(slice(None))
            valid_bins[here] = (flux.isfinite() if valid is None else valid).sum(1).numpy()
            done += len(some)
            if progress is not None:
                progress("embedding", done, total)
    return features, noise, valid_bins


def _new_file(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array in a file that has its place on the disk: where that is full, writing to it would end the process."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), file.tell(), max(1, dtype.itemsize * math.prod(shape)))
        else:
            file.truncate(file.tell() + dtype.itemsize * math.prod(shape))
    found: NDArray[Any] = np.load(path, mmap_mode="r+", allow_pickle=False)
    return found


def _read(place: Path) -> tuple[NDArray[Any], ...]:
    try:
        sums = unsealed(read_json(place / SUMS))
        if altered := [name for name in FILES if sums[name] != _sum(place / f"{name}.npy")]:
            raise ValueError(f"{altered[0]} is not what was kept")
        return tuple(np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in FILES)
    except (OSError, ValueError, EOFError, KeyError) as error:
        if is_refused(error):
            raise
        raise InputError(f"{place} is damaged ({error}): remove it, and the stars are embedded anew") from error


def _sum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _name(model: RSCA, store: Store) -> str:
    """Of the folder: all that the features depend on."""
    total = hashlib.sha256(json.dumps([store.checksum, FILES, SUMS]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode())
        if not name.endswith("_extra_state"):
            total.update(tensor.cpu().contiguous().numpy().tobytes())
    total.update(json.dumps([model.ppca.noise_variance, model.ppca.clip]).encode())
    return total.hexdigest()[:16]
