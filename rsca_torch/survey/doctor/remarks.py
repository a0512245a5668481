"""What is remarked of a tree or a store: how many of what, the first examples, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Remark", "remark"]

SHOWN = 3


class Remark(NamedTuple):
    """One thing that somebody should know.

    Attributes:
        what: it is.
        number: how many have it.
        total: of how many; 0: not said.
        examples: the first of them.
        cure: what to do; '': nothing.
        matters: the tree or store is not fit for use before that is done.
    """

    what: str
    number: int
    total: int = 0
    examples: Sequence[str] = ()
    cure: str = ""
    matters: bool = False

    def __str__(self) -> str:
        """One line.

        >>> print(Remark("web page saved as FITS", 4, 9, ["a.fits", "b.fits", "c.fits"], "fetch them again", True))
        matters: 4 of 9: web page saved as FITS (a.fits, b.fits, c.fits, ...); fetch them again
        """
        of = f" of {self.total:,}" if self.total else ""
        more = ", ..." if self.number > len(self.examples) else ""
        examples = f" ({', '.join(self.examples)}{more})" if self.examples else ""
        cure = f"; {self.cure}" if self.cure else ""
        return f"{'matters' if self.matters else 'note'}: {self.number:,}{of}: {self.what}{examples}{cure}"


def remark(what: str, found: Sequence[str], total: int = 0, cure: str = "", matters: bool = False) -> list[Remark]:
    """A remark about all that were found, none where nothing was."""
    return [Remark(what, len(found), total, list(found[:SHOWN]), cure, matters)] if found else []
