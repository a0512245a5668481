"""Spectra for Lightning: a batch is a block of stars; every process gets its own blocks, none twice."""

from __future__ import annotations

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from rsca_torch.spectra.blocks import Block, Blocks

__all__ = ["SpectraDataModule"]


class SpectraDataModule(LightningDataModule):
    """Blocks of spectra, shared out among the processes.

    Give the Trainer `use_distributed_sampler=False`: Lightning's own sampler repeats some batches, and a sum over stars
    would count them twice.

    Args:
        blocks: the spectra; read once an epoch, in order.
    """

    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self.blocks = blocks

    def train_dataloader(self) -> DataLoader[Block]:
        """The blocks of this process."""
        return self._shared_out()

    def predict_dataloader(self) -> DataLoader[Block]:
        """The blocks of this process."""
        return self._shared_out()

    def _shared_out(self) -> DataLoader[Block]:
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        numbers = range(rank, -(-len(self.blocks) // world) * world, world)
        return DataLoader(_Padded(self.blocks), batch_size=None, sampler=numbers)  # type: ignore[arg-type]


class _Padded:
    """The blocks, and behind them blocks of no star: Lightning waits for ever where processes differ in batches."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def __getitem__(self, number: int) -> Block:
        if number < len(self.blocks):
            return self.blocks[number]
        nothing = torch.zeros(0, self.blocks.n_bins, dtype=self.blocks.dtype)
        noise = None if self.blocks.noise == "isotropic" else nothing
        return Block(nothing, nothing.bool(), noise, 0, self.blocks.rare)
