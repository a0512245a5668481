"""PPCA's EM as a Lightning training loop: one epoch is one iteration, one batch a block of stars."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed
from torch.utils.data import DataLoader, Dataset

from rsca_torch.errors import InputError
from rsca_torch.files.archives import require_honest_sizes
from rsca_torch.files.whole import named_disk, part_of
from rsca_torch.ppca.e_step import Model, Parameters, Posterior
from rsca_torch.ppca.extrapolation import ROUNDING, Ascent
from rsca_torch.ppca.m_step import Moments
from rsca_torch.ppca.trainer import interrupted_as_asked, require_harmless, require_whole, without_tips
from rsca_torch.spectra.blocks import Block, Blocks, Noise

__all__ = ["AllReduce", "LightningEM", "PPCATraining", "SpectraDataModule", "restore"]

log = logging.getLogger(__name__)

Progress = Callable[[int, float], None]
ONE_PROCESS = partial(Trainer, accelerator="cpu", devices=1)


class SpectraDataModule(LightningDataModule):
    """Blocks of spectra, a batch each, shared out among the processes: every one gets its own, none twice.

    Give the Trainer `use_distributed_sampler=False`: Lightning's own sampler repeats some batches, and a sum over stars
    would count them twice.

    Args:
        blocks: the spectra; read once an epoch, in order.

    Example:
        >>> from rsca_torch.spectra.blocks import Arrays
        >>> data = SpectraDataModule(Blocks(Arrays(torch.ones(60, 9)), "isotropic"))
        >>> [block.flux.shape for block in data.train_dataloader()]
        [torch.Size([60, 9])]
    """

    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self.blocks = blocks

    def train_dataloader(self) -> DataLoader[Block]:
        """The blocks of this process."""
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        numbers = range(rank, -(-len(self.blocks) // world) * world, world)
        return DataLoader(_Padded(self.blocks), batch_size=None, sampler=numbers)


class _Padded(Dataset[Block]):
    """The blocks, and behind them blocks of no star: Lightning waits for ever where processes differ in batches."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def __getitem__(self, number: int) -> Block:
        if number < len(self.blocks):
            return self.blocks[number]
        nothing = torch.zeros(0, self.blocks.n_bins, dtype=self.blocks.dtype)
        noise = None if self.blocks.noise == "isotropic" else nothing
        return Block(nothing, nothing.bool(), noise, 0, self.blocks.nearly_complete)


class PPCATraining(LightningModule):
    """The EM of masked PPCA (docs/maths.md, section 1): nothing has a gradient, the epoch's sums make the M-step.

    Its state is that of an `Ascent`, kept in every checkpoint, so that a fit goes on after the last finished iteration.
    With several processes the sums of all are added up, and every one of them takes the same M-step.

    Args:
        ascent: where to start, and when to stop.
        noise: as in `fit_ppca`.
        clip: as in `fit_ppca`.
        progress: called with (iteration, mean log-likelihood per valid bin) after each iteration that was kept.

    Example:
        >>> theta = Parameters(torch.ones(9, 1).double(), torch.zeros(9).double(), torch.tensor(1.0).double())
        >>> PPCATraining(Ascent(theta, tolerance=1e-7, max_iterations=100), "isotropic").get_extra_state()["history"]
        []
    """

    def __init__(
        self, ascent: Ascent, noise: Noise, clip: float | None = None, progress: Progress | None = None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.ascent, self.noise, self.clip, self.progress = ascent, noise, clip, progress
        self._moments: Moments | None = None
        self._model: Model | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For another process: without the progress, which stays where it is drawn."""
        return {**super().__getstate__(), "progress": None}

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.ascent.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.ascent.load_state_dict(state)

    def configure_optimizers(self) -> None:
        """None: the M-step is a closed form."""

    def on_train_epoch_start(self) -> None:
        """Empty sums for the trial."""
        self.ascent.to(self.device)
        self._moments, self._model = Moments(self.ascent.trial, self.noise), None

    def training_step(self, block: Block, _: int) -> None:
        """The E-step of a block of stars."""
        assert self._moments is not None  # Lightning's order of hooks
        self._model = self._model or Model(self._moments.theta, block.flux)
        self._moments.add(Posterior(block, self._model, self.clip))

    def on_train_epoch_end(self) -> None:
        """The M-step, from the sums of all processes."""
        assert self._moments is not None
        if distributed.is_initialized():
            for total in self._moments.tensors():
                distributed.all_reduce(total)
        if self.ascent.advance(self._moments) and self.progress is not None and self.trainer.is_global_zero:
            self.progress(len(self.ascent.history), self.ascent.history[-1])
        self.trainer.should_stop = self.ascent.done

    def on_train_end(self) -> None:
        """Wait for the other processes: none leaves while another still asks it."""
        self.trainer.strategy.barrier("the last iteration")


class AllReduce(DDPStrategy):
    """Several processes that share nothing but the sums which `PPCATraining` adds up: there is no gradient to wrap.

    >>> strategy = AllReduce(start_method="spawn")  # for Trainer(devices=2, strategy=strategy)
    """

    _made_group = False

    def configure_ddp(self) -> None:
        """Nothing: DistributedDataParallel refuses a module without gradients."""

    def setup_distributed(self) -> None:
        """As Lightning's, and remember who made the group of processes."""
        self._made_group = not distributed.is_initialized()
        super().setup_distributed()

    def teardown(self) -> None:
        """As Lightning's, and leave the group that was made here: gloo's threads abort a process that ends in it."""
        super().teardown()
        if self._made_group and distributed.is_initialized():
            distributed.destroy_process_group()


class _EachIteration(Checkpoint):
    """Keeps the state after each iteration in one file, whole or not at all, whoever else keeps the same fit there.

    ModelCheckpoint would keep none: it counts the optimizer's steps, and there is no optimizer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = part_of(path)  # one name in all processes of a fit

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002  (Lightning's)
        """After the module's own: Lightning calls a Checkpoint last."""
        trainer.save_checkpoint(self.part)
        if trainer.is_global_zero:
            self.part.replace(self.path)


class _Here(TorchCheckpointIO):
    """Writes where the checkpoint will be, not in TMPDIR first, which may be full, and where a kill leaves it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401, ARG002
        """As Lightning's."""
        written = BytesIO()
        torch.save(checkpoint, written)
        with named_disk(Path(path)):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(written.getvalue())


@dataclass
class LightningEM:
    """Runs EM under a Lightning Trainer; an EM loop of `fit_ppca`.

    Args:
        trainer: makes the Trainer from the arguments that are set here: accelerator, devices and so on are its own.
            Several devices need `strategy=AllReduce(...)`. What changes the data, their precision or the number of
            iterations is refused.
        checkpoint: file that is written after each iteration; where it is there already, the fit goes on from it, if
            it has no more than `max_iterations` behind it. None: no checkpoint.

    Raises:
        InputError: for an option of the Trainer that changes what is fitted, or has no part in it.

    Example:
        >>> from rsca_torch.ppca.fit import fit_ppca
        >>> from rsca_torch.spectra.blocks import Arrays
        >>> source = Arrays(torch.randn(200, 9, generator=torch.Generator().manual_seed(0)))
        >>> fit_ppca(source, n_components=2, tolerance=1e-4, em_loop=LightningEM())  # doctest: +ELLIPSIS
        MaskedPPCA(K=2, P=9, noise=isotropic, converged in ... iterations)
    """

    trainer: Callable[..., Trainer] = ONE_PROCESS
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        require_harmless(self.trainer)

    def __call__(
        self,
        blocks: Blocks,
        theta: Parameters,
        tolerance: float,
        max_iterations: int,
        clip: float | None = None,
        progress: Progress | None = None,
    ) -> Ascent:
        """As `run_em`.

        Raises:
            InputError: where the file is no checkpoint of such a fit, or the Trainer cannot be made.
        """
        ascent = Ascent(theta, tolerance, max_iterations, ROUNDING[blocks.dtype])
        module = PPCATraining(ascent, blocks.noise, clip, progress)
        if self.checkpoint is not None and self.checkpoint.exists():
            restore(self.checkpoint, ascent)
            if [tensor.shape for tensor in ascent.trial] != [tensor.shape for tensor in theta]:
                raise InputError(f"{self.checkpoint} is of a fit with other bins, components or noise: remove it")
            if len(ascent.history) > max_iterations:  # a longer fit is another one, which stays where it is
                log.info("the fit in %s took more than %d iterations: another is made", self.checkpoint, max_iterations)
                return replace(self, checkpoint=None)(blocks, theta, tolerance, max_iterations, clip, progress)
        if not ascent.done:
            self._fit(module, blocks)
        return ascent

    def _fit(self, module: PPCATraining, blocks: Blocks) -> None:
        with without_tips():
            trainer = self._make_trainer()
            with interrupted_as_asked():
                trainer.fit(module, SpectraDataModule(blocks))

    def _make_trainer(self) -> Trainer:
        try:
            made = self.trainer(
                max_epochs=-1,
                logger=False,
                enable_checkpointing=self.checkpoint is not None,
                callbacks=[] if self.checkpoint is None else [_EachIteration(self.checkpoint)],
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise InputError(f"trainer: {error}") from error
        require_whole(made)
        if self.checkpoint is not None and type(made.strategy.checkpoint_io) is TorchCheckpointIO:
            made.strategy.checkpoint_io = _Here()
        if made.world_size > 1 and not isinstance(made.strategy, AllReduce):
            raise InputError(
                f"trainer: {made.world_size} processes need the strategy AllReduce: give trainer=processes"
            )
        return made


def restore(path: Path, ascent: Ascent) -> None:
    """Go on where a checkpoint was written.

    Args:
        path: of the file.
        ascent: takes what is in it.

    Raises:
        InputError: it is no checkpoint of a fit, or was changed.
    """
    try:
        require_honest_sizes(path)
        ascent.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"]["_extra_state"])
    except Exception as error:  # whatever reading a damaged file raises
        said = str(error) if type(error) is ValueError else type(error).__name__
        raise InputError(f"{path} is no checkpoint of a fit ({said}): remove it") from error
