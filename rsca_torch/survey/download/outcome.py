"""What became of the files that a survey needs."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Outcome", "in_bytes"]


@dataclass
class Outcome:
    """What became of the files that a survey needs.

    Attributes:
        needed: how many.
        there: that were right already.
        fetched: that came.
        unsure: of all that are there, those with no checksum to be had, which were checked by their structure alone.
        absent: that the archive has not (404): (path, reason).
        problems: others that are missing.
    """

    needed: int = 0
    there: int = 0
    fetched: int = 0
    unsure: int = 0
    absent: list[tuple[str, str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    @property
    def missing(self) -> list[tuple[str, str]]:
        """(path, reason) of every file that is not there."""
        return sorted(self.absent + self.problems)


def in_bytes(size: float) -> str:
    """A number of bytes as people say it.

    >>> in_bytes(135360), in_bytes(2.1e10), in_bytes(0)
    ('135.4 kB', '21.0 GB', '0 bytes')
    """
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= one:
            return f"{size / one:,.1f} {unit}"
    return f"{size:.0f} bytes"
