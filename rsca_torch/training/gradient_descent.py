"""Minimising a learner's loss on the training clusters of a fold, under Lightning; `fitting` says for how long."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.learner import Learner, Recipe
from rsca_torch.ppca.trainer import interrupted_as_asked, without_tips
from rsca_torch.spectra.packed import PACKED, with_noise
from rsca_torch.training.members import Members

__all__ = ["LearnerTraining", "batches", "train"]


def batches(members: Members, recipe: Recipe) -> DataLoader[Any]:
    """The members of a fold's training clusters: the cluster that is held out is not among them.

    Args:
        members: of the training clusters.
        recipe: says what a batch is: all of them, or some clusters with as many members each.

    Returns:
        Batches of latents (n, K) or spectra (n, 2, P), and their rows (n,) of the members.

    Raises:
        InputError: where there are fewer clusters than a batch must have.
    """
    data = TensorDataset(members.z, torch.arange(len(members.z)))
    wanted = recipe.clusters_a_batch
    if wanted is None:
        return DataLoader([data.tensors], batch_size=None)  # type: ignore[arg-type]  # a list is a data set
    groups = Groups(members.labels)
    if wanted > len(groups):
        raise InputError(
            f"a batch of {wanted} clusters with {recipe.members_a_cluster} members each is asked for, but a fold "
            f"has {len(groups)} clusters to train on: lower recipe.clusters_a_batch"
        )
    size = wanted * recipe.members_a_cluster
    sampler = MPerClassSampler(groups.number.numpy(), recipe.members_a_cluster, size, max(size, len(members.z)))
    return DataLoader(data, batch_size=size, sampler=sampler, drop_last=True)


class LearnerTraining(LightningModule):
    """Any learner's loss, minimised by AdamW on `batches`.

    A loss that is not a number ends it with the weights of the last that was. With a cluster that was left out it ends
    after `patience` epochs without a better one.

    Args:
        learner: initialised.
        recipe: of the learner.
        members: those of the batches, for their labels and errors.
        overlap: gives `sibling_overlap` of the learner as it is, for a cluster that was left out. None: none was.
    """

    def __init__(
        self, learner: Learner, recipe: Recipe, members: Members, overlap: Callable[[Learner], float] | None = None
    ) -> None:
        super().__init__()
        self.learner, self.recipe, self.members, self.overlap = learner, recipe, members, overlap
        self.losses: list[float] = []
        self.overlaps: list[float] = []
        self.stopped: int | None = None
        self._good = _state_copy(learner)
        self._of_epoch: list[float] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over whatever the learner has to train."""
        parameters = [parameter for parameter in self.learner.parameters() if parameter.requires_grad]
        if not parameters:
            raise InputError(
                f"{type(self.learner).__name__} has a recipe of {self.recipe.epochs} epochs, but no parameter to "
                "train: make an nn.Parameter, or set recipe to None"
            )
        return torch.optim.AdamW(parameters, self.recipe.learning_rate, weight_decay=self.recipe.weight_decay)

    def on_train_start(self) -> None:
        """How good the start is for the cluster that was left out."""
        if self.overlap is not None:
            self.overlaps.append(self.overlap(self.learner))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor | None:
        """The loss of a batch; None where it is not a number."""
        z, rows = batch
        if self.recipe.noise and z.ndim == PACKED:
            z = with_noise(z)
        elif self.recipe.noise and self.members.roots is not None:
            drawn = torch.randn(len(z), z.shape[1], 1, dtype=z.dtype)
            z = z + (self.members.roots[rows].to(z.dtype) @ drawn)[:, :, 0]
        loss = self.learner.loss(z, self.members.labels[rows.numpy()])
        if loss is None:
            raise InputError(
                f"{type(self.learner).__name__}.loss gave None, but its recipe has {self.recipe.epochs} epochs: return "
                "a scalar to minimise, or set recipe to None"
            )
        if loss.ndim or not loss.requires_grad:
            raise InputError(
                f"{type(self.learner).__name__}.loss must give a scalar that depends on its parameters, got shape "
                f"{tuple(loss.shape)}{'' if loss.requires_grad else ' without a gradient'}"
            )
        if not loss.isfinite():
            self.stopped = self.global_step
            self.learner.load_state_dict(self._good)
            self.trainer.should_stop = True
            warnings.warn(
                f"the loss of {type(self.learner).__name__} is {float(loss.detach())} at step {self.stopped}: training "
                "stops there, with the last weights that gave a number; lower recipe.learning_rate",
                NumericalWarning,
                stacklevel=2,
            )
            return None
        self._good = _state_copy(self.learner)
        self._of_epoch.append(float(loss.detach()))
        return loss

    def on_train_epoch_end(self) -> None:
        """Log, and see whether it is time to stop."""
        if self.stopped is not None:
            return
        self.losses.append(statistics.fmean(self._of_epoch))
        self._of_epoch.clear()
        values = {"loss": self.losses[-1]}
        if self.overlap is not None:
            self.overlaps.append(self.overlap(self.learner))
            values["overlap"] = self.overlaps[-1]
            if len(self.losses) - self.best_epoch >= self.recipe.patience:
                self.trainer.should_stop = True
        if self.trainer.logger is not None:
            self.trainer.logger.log_metrics(values, step=len(self.losses))

    @property
    def best_epoch(self) -> int:
        """The first of the lowest overlap; 0: the start."""
        return int(np.argmin(self.overlaps)) if self.overlaps else len(self.losses)


def train(
    learner: Learner,
    recipe: Recipe,
    members: Members,
    epochs: int,
    overlap: Callable[[Learner], float] | None,
    logger: Logger | None = None,
) -> LearnerTraining:
    """Minimise a learner's loss in place.

    Args:
        learner: initialised.
        recipe: of the learner.
        members: of the training clusters.
        epochs: so many, or fewer where it stops.
        overlap: as in `LearnerTraining`.
        logger: None: no log.

    Returns:
        What happened.

    Raises:
        InputError: where learner and recipe do not fit each other, or the members a batch.

    Warns:
        NumericalWarning: where the loss is not a number.
    """
    training = LearnerTraining(learner, recipe, members, overlap)
    if epochs:
        with without_tips():
            trainer = Trainer(
                accelerator="cpu",
                devices=1,
                max_epochs=epochs,
                logger=logger or False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                log_every_n_steps=1,
            )
            learner.train()
            with interrupted_as_asked():
                trainer.fit(training, batches(members, recipe))
    return training


def _state_copy(learner: Learner) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in learner.state_dict().items()}
