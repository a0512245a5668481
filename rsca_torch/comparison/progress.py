"""What somebody who waits is told."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silence"]


class Progress(Protocol):
    """Is told of every iteration of step 1, and of everything that is done in countable parts."""

    def iteration(self, iteration: int, log_likelihood: float) -> None:
        """One more iteration of EM, with the mean log-likelihood per valid bin (nats) that it found."""

    def step(self, what: str, done: int, total: int) -> None:
        """So many parts of a whole are done; `what` they are parts of."""


class Silence:
    """A `Progress` that says nothing."""

    def iteration(self, iteration: int, log_likelihood: float) -> None:
        """Nothing."""

    def step(self, what: str, done: int, total: int) -> None:
        """Nothing."""
