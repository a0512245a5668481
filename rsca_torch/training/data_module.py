"""Spectra of a store for anybody's network: a Dataset that reads a batch at a time, and a LightningDataModule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rsca_torch.errors import InputError
from rsca_torch.spectra.view import RowSource, View
from rsca_torch.training.cluster_batches import ClusterBatches

__all__ = ["SpectraDataModule", "SpectraDataset"]

DTYPES = ("float16", "bfloat16", "float32", "float64")


class SpectraDataset(Dataset[dict[str, Tensor]]):
    """Spectra that stay where they are, on disk for a store's; a batch is read at once.

    Args:
        spectra: a store, or some of its stars (`store.members`), or `Spectra` in memory.
        dtype: of flux and sigma, a torch dtype or its name.
        fill: flux of bins that are not valid; their sigma is inf, so that their weight 1 / sigma^2 is 0.

    Attributes:
        names: of the clusters, sorted.
        ids: (N,) text, each star's name.
        labels: (N,) text, the cluster, '' for field stars.

    Examples:
        >>> from rsca_torch import Spectra
        >>> spectra = Spectra([[1.0, 0.9], [0.8, torch.nan]], stars={"id": ["a", "b"], "group": ["", "M 67"]})
        >>> data = SpectraDataset(spectra, fill=0.0)
        >>> data[1]
        {'flux': tensor([0.8000, 0.0000]), 'valid': tensor([ True, False]), 'group': tensor(0), 'row': tensor(1)}
        >>> data.names, data.ids.tolist()
        (['M 67'], ['a', 'b'])
    """

    def __init__(self, spectra: RowSource | View, dtype: torch.dtype | str = torch.float32, fill: float = 1.0) -> None:
        self.view = spectra if isinstance(spectra, View) else View(spectra)
        name = str(dtype).removeprefix("torch.")
        if name not in DTYPES:
            raise InputError(f"dtype={name}: one of {', '.join(DTYPES)} expected")
        self.dtype: torch.dtype = getattr(torch, name)
        self.fill = fill
        stars = self.view.stars
        self.ids: NDArray[np.str_] = stars.id
        self.labels = stars.group if stars.has("group") else np.full(len(stars), "")
        self.names = [str(each) for each in np.unique(self.labels[self.labels != ""])]
        place = {each: number for number, each in enumerate(self.names)}
        self.group = torch.tensor([place.get(label, -1) for label in self.labels.tolist()], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        """One star, as `__getitems__` without the first axis."""
        return {name: values[0] for name, values in self.__getitems__([range(len(self))[row]]).items()}

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """A batch of B stars.

        Returns:
            flux (B, P), valid (B, P) bool, sigma (B, P) where the errors are known, group (B,) int64, -1 for a field
            star, and row (B,) int64.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        flux, valid, sigma = self.view.read(chosen)
        if valid is None:
            valid = flux.isfinite() if sigma is None else flux.isfinite() & sigma.isfinite()
        batch = {"flux": torch.where(valid, flux, self.fill).to(self.dtype), "valid": valid}
        if sigma is not None:
            batch["sigma"] = torch.where(valid, sigma, torch.inf).to(self.dtype)
        here = torch.from_numpy(chosen)
        return {**batch, "group": self.group[here], "row": here}


class SpectraDataModule(LightningDataModule):
    """Batches of flux, valid, sigma, group and row, for a `LightningModule` of your own, or for any loop.

    Some clusters can be held out: their members, and a share of the field, are what is validated and tested on, and no
    batch of the training has one of them. What is predicted are all stars, in order: `ids` names them.

    Args:
        spectra: as in `SpectraDataset`; the field and the members together.
        batch_size: stars.
        dtype: as in `SpectraDataset`.
        fill: likewise.
        held_out: names of clusters.
        field_held_out: share of the field that goes with them.
        clusters_a_batch: a batch of the training has so many clusters, with `members_a_cluster` each and `strangers`
            field stars (`ClusterBatches`), whatever `batch_size`. None: `batch_size` stars, drawn from all.
        members_a_cluster: at most.
        strangers: field stars in such a batch.
        num_workers: processes that read; a store is opened by each, not copied.
        seed: of what is drawn.

    Attributes:
        data: the `SpectraDataset` of all stars.
        ids: (N,) text, the stars' names in order.
        names: of the clusters; `group` in a batch counts them.
        train_rows: (n,) int64 rows of the stars that are trained on.
        held_out_rows: (m,) int64 rows of the others.

    Raises:
        InputError: a cluster is not there, nobody is left to train on, or as `ClusterBatches`.

    Examples:
        >>> from rsca_torch import Spectra
        >>> group = ["A", "A", "B", "B", "", "", "", ""]
        >>> spectra = Spectra(torch.ones(8, 5), sigma=torch.ones(8, 5), stars={"id": range(8), "group": group})
        >>> module = SpectraDataModule(spectra, batch_size=4, held_out=["B"], field_held_out=0.25)
        >>> {name: tuple(values.shape) for name, values in next(iter(module.train_dataloader())).items()}
        {'flux': (4, 5), 'valid': (4, 5), 'sigma': (4, 5), 'group': (4,), 'row': (4,)}
        >>> sorted(module.ids[module.held_out_rows].tolist())[:2]
        ['2', '3']
    """

    def __init__(
        self,
        spectra: RowSource | View,
        batch_size: int = 64,
        *,
        dtype: torch.dtype | str = torch.float32,
        fill: float = 1.0,
        held_out: Sequence[str] = (),
        field_held_out: float = 0.0,
        clusters_a_batch: int | None = None,
        members_a_cluster: int = 4,
        strangers: int = 0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.data = SpectraDataset(spectra, dtype, fill)
        self.ids, self.names = self.data.ids, self.data.names
        self.batch_size, self.num_workers = batch_size, num_workers
        wanted = [held_out] if isinstance(held_out, str) else [str(name) for name in held_out]
        unknown = [name for name in wanted if name not in self.names]
        if unknown:
            raise InputError(f"held_out: no star is in {', '.join(unknown)}; there are {', '.join(self.names)}")
        if not 0 <= field_held_out <= 1:
            raise InputError(f"field_held_out={field_held_out} is a share of the field: 0 to 1 expected")
        out = np.isin(self.data.labels, wanted) if wanted else np.zeros(len(self.data), dtype=bool)
        field = np.random.default_rng(seed).permutation(np.flatnonzero(self.data.labels == ""))
        out[field[: round(field_held_out * len(field))]] = True
        self.train_rows, self.held_out_rows = np.flatnonzero(~out), np.flatnonzero(out)
        if not len(self.train_rows):
            raise InputError("every star is held out: hold out fewer clusters, or less of the field")
        self._drawn = torch.Generator().manual_seed(seed)  # goes on from epoch to epoch
        self._batches: ClusterBatches | None = None
        if clusters_a_batch is not None:
            labels = self.data.labels[self.train_rows]
            self._batches = ClusterBatches(labels, clusters_a_batch, members_a_cluster, strangers, seed=seed)

    def train_dataloader(self) -> DataLoader[Any]:
        """Of the stars that are not held out, drawn anew every epoch."""
        rows = _Rows(self.data, self.train_rows)
        if self._batches is not None:
            return DataLoader(rows, batch_sampler=self._batches, collate_fn=_as_it_is, num_workers=self.num_workers)
        return self._loader(rows, shuffle=True, generator=self._drawn)

    def val_dataloader(self) -> DataLoader[Any]:
        """Of those that are held out, in order."""
        return self._loader(_Rows(self.data, self.held_out_rows))

    def test_dataloader(self) -> DataLoader[Any]:
        """The same."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Any]:
        """Of all stars, in order."""
        return self._loader(self.data)

    def _loader(self, data: Dataset[Any], **options: Any) -> DataLoader[Any]:
        return DataLoader(data, self.batch_size, collate_fn=_as_it_is, num_workers=self.num_workers, **options)


class _Rows(Dataset[dict[str, Tensor]]):
    """Some rows of a data set, which a batch names as the whole does."""

    def __init__(self, data: SpectraDataset, rows: NDArray[np.int64]) -> None:
        self.data, self.rows = data, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return self.data[int(self.rows[place])]

    def __getitems__(self, places: Sequence[int]) -> dict[str, Tensor]:
        return self.data.__getitems__(self.rows[np.asarray(places)])


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401  (torch's types know no data set that makes batches)
    return batch
