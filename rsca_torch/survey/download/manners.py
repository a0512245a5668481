"""How a guest of an archive behaves: how many connections, how long it waits, when it gives up."""

from __future__ import annotations

import random
from dataclasses import dataclass

from rsca_torch.errors import InputError

__all__ = ["Manners"]

MOST_CONNECTIONS = 4  # sdss_access allows itself 5


@dataclass(frozen=True)
class Manners:
    """How often, how fast and how long.

    Attributes:
        connections: at once, 1 to 4.
        tries: of one file in a row that bring nothing; then it is given up.
        wrong: times that a file may arrive whole and be wrong; then it is given up.
        first_wait: seconds before the second try; each later wait is twice as long, and a random half to all of it.
        longest_wait: seconds; a server that asks for more is asked again in another run.
        stall: seconds in which `slowest` must hold.
        slowest: bytes a second; a connection that is slower is given up and made anew.

    Raises:
        InputError: one of them is out of range.
    """

    connections: int = 4
    tries: int = 6
    wrong: int = 3
    first_wait: float = 1.0
    longest_wait: float = 300.0
    stall: float = 30.0
    slowest: float = 1000.0

    def __post_init__(self) -> None:
        if not 1 <= self.connections <= MOST_CONNECTIONS:
            raise InputError(
                f"connections must be 1 to {MOST_CONNECTIONS}, got {self.connections}: archives are shared"
            )
        for name in ("tries", "wrong", "stall"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be more than 0, got {getattr(self, name)}")

    def wait(self, failures: int, asked: float) -> float:
        """Seconds before the next try."""
        usual = min(self.longest_wait, self.first_wait * 2.0 ** (failures - 1))
        return max(asked, usual * random.uniform(0.5, 1))  # all guests at the same moment would be no relief
