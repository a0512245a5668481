"""Spectra for Lightning: a batch is a block of stars; every process gets its own blocks, none twice."""

from __future__ import annotations

from collections.abc import Iterator

from lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from rsca_torch.blocks import Block, Blocks

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
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(self.blocks, batch_size=None, sampler=_EveryNth(rank, len(self.blocks), world))  # type: ignore[arg-type]


class _EveryNth(Sampler[int]):
    """first, first + step, ... below end."""

    def __init__(self, first: int, end: int, step: int) -> None:
        self.numbers = range(first, end, step)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)
