"""PPCA's EM as a Lightning training loop: one epoch is one iteration, one batch a block of stars."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed

from rsca_torch.errors import InputError
from rsca_torch.ppca.datamodule import SpectraDataModule
from rsca_torch.ppca.e_step import Model, Parameters, Posterior
from rsca_torch.ppca.extrapolation import ROUNDING, Climb
from rsca_torch.ppca.m_step import Moments
from rsca_torch.ppca.quiet import quiet
from rsca_torch.spectra.blocks import Block, Blocks, Noise

__all__ = ["ONE", "AllReduce", "LightningEM", "PPCATraining", "latents_of"]

Progress = Callable[[int, float], None]
ONE = partial(Trainer, accelerator="cpu", devices=1)


class PPCATraining(LightningModule):
    """The EM of masked PPCA (docs/maths.md, section 1): nothing has a gradient, the epoch's sums make the step.

    Its state is that of a `Climb`, kept in every checkpoint, so that a fit goes on after the last finished iteration.
    With several processes the sums of all are added up, and every one of them takes the same step.

    Args:
        ascent: where to start, and when to stop.
        noise: as in `fit_ppca`.
        clip: as in `fit_ppca`.
        progress: called with (iteration, mean log-likelihood per valid bin) after each iteration that was kept.
    """

    def __init__(
        self, ascent: Climb, noise: Noise, clip: float | None = None, progress: Progress | None = None
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
        """None: EM's step is a closed form."""

    def on_train_epoch_start(self) -> None:
        """Empty sums for the trial."""
        self.ascent.to(self.device)
        self._moments, self._model = Moments(self.ascent.trial.to(self.device), self.noise), None

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
        if self.ascent.move(self._moments) and self.progress is not None and self.trainer.is_global_zero:
            self.progress(len(self.ascent.history), self.ascent.history[-1])
        self.trainer.should_stop = self.ascent.done


class _Inference(LightningModule):
    """The latents of every star, each process those of its blocks, into one tensor that all of them see."""

    def __init__(self, blocks: Blocks, theta: Parameters, clip: float | None) -> None:
        super().__init__()
        self.rows, self.theta, self.clip = blocks.rows, theta, clip
        self.latents = torch.zeros(blocks.n_stars, theta.loadings.shape[1], dtype=torch.float64)
        self.latents.share_memory_()  # type: ignore[no-untyped-call]
        self._model: Model | None = None

    def predict_step(self, block: Block, index: int) -> None:
        """The posterior means of a block of stars."""
        self._model = self._model or Model(self.theta, block.flux)
        first = (self.trainer.global_rank + index * self.trainer.world_size) * self.rows
        mean = Posterior(block, self._model, self.clip).mean
        self.latents[first : first + len(mean)] = mean.cpu()


def latents_of(blocks: Blocks, theta: Parameters, clip: float | None, trainer: Callable[..., Trainer]) -> Tensor:
    """(N, K) float64, as `MaskedPPCA.latents`, under a Lightning Trainer: any device, several processes.

    Args:
        blocks: of `MaskedPPCA.prepare`.
        theta: of `MaskedPPCA.prepare`.
        clip: of the model.
        trainer: as in `LightningEM`.
    """
    module = _Inference(blocks, theta, clip)
    with quiet():
        runner = _made(
            trainer, logger=False, enable_checkpointing=False, enable_progress_bar=False, use_distributed_sampler=False
        )
        runner.predict(module, SpectraDataModule(blocks), return_predictions=False)
    latents: Tensor = module.latents.clone()
    return latents


class AllReduce(DDPStrategy):
    """Several processes that share nothing but the sums which `PPCATraining` adds up: there is no gradient to wrap."""

    def configure_ddp(self) -> None:
        """Nothing: DistributedDataParallel refuses a module without gradients."""


class _EachIteration(Checkpoint):
    """Keeps the state after each iteration in one file, whole or not at all, whoever else keeps the same fit there.

    ModelCheckpoint would keep none: it counts the optimizer's steps, and there is no optimizer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")  # one name in all processes of a fit

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002  (Lightning's)
        """After the module's own."""
        trainer.save_checkpoint(self.part)
        if trainer.is_global_zero:
            self.part.replace(self.path)


@dataclass
class LightningEM:
    """Runs EM under a Lightning Trainer; an `engine` of `fit_source`.

    Args:
        trainer: makes the Trainer from the arguments that are set here: accelerator, devices and so on are its own.
            Several devices need `strategy=AllReduce(...)`.
        checkpoint: file that is written after each iteration; where it is there already, the fit goes on from it.
            None: no checkpoint.
    """

    trainer: Callable[..., Trainer] = ONE
    checkpoint: Path | None = None

    def __call__(
        self,
        blocks: Blocks,
        theta: Parameters,
        tolerance: float,
        max_iterations: int,
        clip: float | None = None,
        progress: Progress | None = None,
    ) -> Climb:
        """As `climb.climb`."""
        module = PPCATraining(
            Climb(theta, tolerance, max_iterations, ROUNDING[blocks.dtype]), blocks.noise, clip, progress
        )
        if self.checkpoint is not None and self.checkpoint.exists():
            module.load_state_dict(_state(self.checkpoint))
            if [tensor.shape for tensor in module.ascent.trial] != [tensor.shape for tensor in theta]:
                raise InputError(f"{self.checkpoint} is of a fit with other bins, components or noise: remove it")
        if not module.ascent.done:
            self._fit(module, blocks)
        return module.ascent

    def _fit(self, module: PPCATraining, blocks: Blocks) -> None:
        callbacks: list[Callback] = [] if self.checkpoint is None else [_EachIteration(self.checkpoint)]
        with quiet():
            trainer = _made(
                self.trainer,
                max_epochs=-1,
                logger=False,
                enable_checkpointing=bool(callbacks),
                callbacks=callbacks,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            heard = signal.getsignal(signal.SIGINT)
            try:
                trainer.fit(module, SpectraDataModule(blocks))
            except SystemExit as error:
                if type(error) is not SystemExit:  # Lightning's own of SIGTERM
                    raise
                signal.signal(signal.SIGINT, heard)  # Lightning exits on an interrupt and leaves SIGINT ignored
                raise KeyboardInterrupt from None


def _made(trainer: Callable[..., Trainer], **options: Any) -> Trainer:
    try:
        made = trainer(**options)
    except (MisconfigurationException, ValueError) as error:
        raise InputError(f"trainer: {error}") from error
    if made.world_size > 1 and not isinstance(made.strategy, AllReduce):
        raise InputError(f"trainer: {made.world_size} processes need the strategy AllReduce: give trainer=processes")
    return made


def _state(checkpoint: Path) -> dict[str, Any]:
    try:
        state: dict[str, Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # whatever reading a damaged file raises
        raise InputError(f"{checkpoint} is no checkpoint of a fit ({type(error).__name__}): remove it") from error
    return state
