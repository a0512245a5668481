"""Spectra for other people's networks: batches are what a store holds, read a batch at a time; who is held out is."""

from __future__ import annotations

import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from small_store import small_store

from rsca_torch import InputError, Spectra
from rsca_torch.ppca.trainer import without_tips
from rsca_torch.spectra.view import View
from rsca_torch.survey.store import Store
from rsca_torch.training.data_module import SpectraDataModule, SpectraDataset


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("module") / "store")


class Recorded:
    """A store that remembers how many rows were read at once."""

    def __init__(self, store):
        self.store, self.reads = store, []
        self.stars, self.wavelength, self.has_sigma, self.checked = store.stars, store.wavelength, True, True

    def read(self, rows):
        self.reads.append(len(rows))
        return self.store.read(rows)


def test_a_batch_is_what_the_store_holds(store):
    whole = store.spectra()
    batches = list(SpectraDataModule(store, 50, dtype="float64", fill=-7.0).predict_dataloader())
    assert [len(batch["row"]) for batch in batches] == [50, 50, 50, 35]
    flux, valid, sigma, group, row = (
        torch.cat([batch[name] for batch in batches]) for name in ("flux", "valid", "sigma", "group", "row")
    )
    torch.testing.assert_close(valid, whole.valid)
    torch.testing.assert_close(flux[valid], whole.flux[valid].double(), rtol=0, atol=0)
    torch.testing.assert_close(sigma[valid], whole.sigma[valid].double(), rtol=0, atol=0)
    assert (flux[~valid] == -7).all()
    assert torch.isinf(sigma[~valid]).all()
    assert row.tolist() == list(range(len(store)))
    names = np.array(["A", "B", "C", "D", "E", ""])
    assert names[group.numpy()].tolist() == store.stars.group.tolist()


def test_a_store_is_read_a_batch_at_a_time(store):
    recorded = Recorded(store)
    module = SpectraDataModule(recorded, 32)
    assert recorded.reads == []
    list(module.train_dataloader())
    assert sum(recorded.reads) == len(store)
    assert max(recorded.reads) == 32


def test_another_process_opens_the_store(store):
    """What a worker is sent does not hold the spectra."""
    module = SpectraDataModule(Store.open(store.path))
    sent = pickle.dumps(module.data)
    flux, _, _ = store.read(np.arange(1))
    assert flux.numpy().tobytes() not in sent
    again = pickle.loads(sent)
    torch.testing.assert_close(again[3]["flux"], module.data[3]["flux"])


def test_nobody_who_is_held_out_is_trained_on(store):
    module = SpectraDataModule(store, 16, held_out=["B", "E"], field_held_out=0.25, seed=3)
    trained = [row for _ in range(2) for batch in module.train_dataloader() for row in batch["row"].tolist()]
    judged = [row for batch in module.val_dataloader() for row in batch["row"].tolist()]
    assert sorted(trained) == sorted([*module.train_rows, *module.train_rows])
    assert (
        judged == module.held_out_rows.tolist() == [row for b in module.test_dataloader() for row in b["row"].tolist()]
    )
    assert sorted({*trained} | {*judged}) == list(range(len(store)))
    groups = store.stars.group
    assert {*groups[judged]} == {"", "B", "E"}
    assert not {*groups[trained]} & {"B", "E"}
    assert (groups[judged] == "").sum() == 40
    assert trained[:16] != trained[len(module.train_rows) :][:16]  # drawn anew
    again = SpectraDataModule(store, 16, held_out=["B", "E"], field_held_out=0.25, seed=3)
    assert [row for batch in again.train_dataloader() for row in batch["row"].tolist()] == trained[
        : len(module.train_rows)
    ]


def test_batches_of_clusters_name_rows_of_the_whole(store):
    module = SpectraDataModule(store, held_out=["A"], clusters_a_batch=2, members_a_cluster=3, strangers=5)
    for batch in module.train_dataloader():
        groups = store.stars.group[batch["row"].numpy()]
        assert sorted(np.unique(groups, return_counts=True)[1]) == [3, 3, 5]
        assert "A" not in groups
        assert [module.names[number] if number >= 0 else "" for number in batch["group"]] == groups.tolist()


class Mean(LightningModule):
    """Learns a spectrum; remembers the rows that it saw."""

    def __init__(self, bins):
        super().__init__()
        self.spectrum, self.seen = torch.nn.Parameter(torch.ones(bins)), []

    def training_step(self, batch, _):
        self.seen.append((self.current_epoch, batch["row"].tolist()))
        return ((batch["flux"] - self.spectrum) / batch["sigma"]).square()[batch["valid"]].mean()

    def validation_step(self, batch, _):
        assert torch.isfinite(((batch["flux"] - self.spectrum) / batch["sigma"]).square()).all()

    def predict_step(self, batch, _):
        return batch["flux"].mean(1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-7)


def test_lightning_trains_validates_and_predicts_with_it(store):
    module = SpectraDataModule(store, 64, held_out=["A"], clusters_a_batch=2, strangers=3, dtype=torch.float32)
    list(module.train_dataloader())  # somebody looked at it before: Lightning still begins with epoch 0
    network = Mean(len(store.wavelength))
    with without_tips(), warnings.catch_warnings():
        trainer = Trainer(
            accelerator="cpu", devices=1, max_epochs=2, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(network, datamodule=module)
        predicted = torch.cat(trainer.predict(network, module.predict_dataloader()))
    assert predicted.shape == (len(store),)
    first, second = ([rows for epoch, rows in network.seen if epoch == number] for number in (0, 1))
    assert first != second
    sampler = module.train_dataloader().batch_sampler
    for epoch, seen in enumerate((first, second)):
        sampler.set_epoch(epoch)
        assert [module.train_rows[rows].tolist() for rows in sampler] == seen


def test_spectra_in_memory_without_errors_or_groups(store):
    flux = torch.ones(4, 3)
    flux[1, 2] = torch.nan
    data = SpectraDataset(Spectra(flux), dtype="bfloat16")
    batch = data.__getitems__([1, 3])
    assert batch.keys() == {"flux", "valid", "group", "row"}
    assert batch["flux"].dtype == torch.bfloat16
    assert batch["flux"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert batch["valid"].tolist() == [[True, True, False], [True] * 3]
    assert batch["group"].tolist() == [-1, -1]
    batch = SpectraDataset(Spectra(flux, sigma=torch.full((4, 3), 0.5))).__getitems__([1])
    assert batch["sigma"].tolist() == [[0.5, 0.5, torch.inf]]
    bare = SimpleNamespace(stars=store.stars[:4], wavelength=torch.arange(3), has_sigma=False, checked=False)
    bare.read = lambda rows: (flux[rows], None, None)
    torch.testing.assert_close(SpectraDataset(View(bare))[1]["valid"], torch.tensor([True, True, False]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": ["Z"]}, "no star is in Z; there are A, B, C, D, E"),
        ({"held_out": [*"ABCDE"], "field_held_out": 1}, "every star is held out"),
        ({"field_held_out": 1.5}, "0 to 1 expected"),
        ({"dtype": "int8"}, "dtype=int8: one of float16"),
        ({"clusters_a_batch": 5, "held_out": "B"}, "clusters=5 in a batch, but 4 clusters have two members"),
    ],
    ids=["cluster", "all", "share", "dtype", "batch"],
)
def test_what_cannot_be_meant_is_refused(store, options, message):
    with pytest.raises(InputError, match=message):
        SpectraDataModule(store, **options)
