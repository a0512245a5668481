"""What `rsca download` tells: how far it is, and in the end what is there and what is missing."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from rsca_torch.survey.download.outcome import Outcome, in_bytes

__all__ = ["Received", "outcome_lines", "received"]

log = logging.getLogger(__name__)

EVERY = 60.0  # seconds between two lines where there is no terminal


class Received:
    """Files that are done and bytes that came, as a bar with rate and time left; as a line a minute without a terminal.

    Args:
        bars: of rich.
    """

    def __init__(self, bars: Progress) -> None:
        self._bars, self._task = bars, bars.add_task("files", total=None, rate="")
        self._start = self._said = time.monotonic()
        self._bytes = self._done = self._total = 0

    def more(self, number: int) -> None:
        """So many bytes came."""
        self._bytes += number
        self._show()

    def files(self, done: int, total: int) -> None:
        """So many of so many files are done."""
        self._done, self._total = done, total
        self._show()

    def pause(self) -> None:
        """Make room for a question."""
        self._bars.stop()

    def _show(self) -> None:
        now = time.monotonic()
        rate = f"{in_bytes(self._bytes)}, {in_bytes(self._bytes / max(now - self._start, 1e-3))}/s"
        self._bars.update(self._task, completed=self._done, total=self._total or None, rate=rate)
        if self._bars.disable and now - self._said > EVERY:
            self._said = now
            left = (now - self._start) / max(self._done, 1) * (self._total - self._done) / 3600
            log.info("%s of %s files, %s, %.1f h left", f"{self._done:,}", f"{self._total:,}", rate, left)


@contextmanager
def received() -> Iterator[Received]:
    """Bars on the terminal, or lines."""
    console = Console(stderr=True)
    what, rate = TextColumn("{task.description}"), TextColumn("{task.fields[rate]}")
    columns = (SpinnerColumn(), what, BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield Received(bars)


def outcome_lines(outcome: Outcome, problems: Path | None) -> list[str]:
    """What became of the files, in lines.

    >>> print(*outcome_lines(Outcome(needed=3, there=1, fetched=1, absent=[("a.fits", "not in the archive")]), None))
    3 files are needed: 1 fetched, 1 there already, 1 missing
    """
    counts = [f"{outcome.fetched:,} fetched", f"{outcome.there:,} there already", f"{len(outcome.missing):,} missing"]
    lines = [f"{outcome.needed:,} files are needed: {', '.join(counts)}"]
    if outcome.unsure:
        lines.append(f"{outcome.unsure:,} of them have no checksum to be had: checked by their structure alone")
    if problems is not None:
        lines.append(f"{problems} names every missing file with its reason:")
        reasons = Counter(reason for _, reason in outcome.missing)
        first = {reason: path for path, reason in reversed(outcome.missing)}
        lines += [f"  {count:,} {reason}, the first: {first[reason]}" for reason, count in reasons.most_common(8)]
        if len(reasons) > 8:
            lines.append(f"  and {len(reasons) - 8} other reasons")
    return lines
