"""Progress and tables on the terminal."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from rsca_torch.spectra.labels import printable

__all__ = ["Bars", "BarsBelow", "PlainTable", "percent", "plain_table", "print_table", "progress"]


PATIENCE = 0.25  # seconds between two pictures of progress in a notebook
WIDE = 110  # letters there


class Bars:
    """Progress (`comparison.progress`) as bars on the terminal: one for the fits of step 1, one for the rest."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._reached = math.nan

    def iteration(self, iteration: int, log_likelihood: float) -> None:
        """How far EM came, and what the iteration gained."""
        gain = "" if iteration == 1 or math.isnan(self._reached) else f", gain {log_likelihood - self._reached:.1e}"
        self._reached = log_likelihood
        self._show("step 1", f"masked PPCA: {log_likelihood:.6f} nats a bin{gain}", iteration)

    def step(self, what: str, done: int, total: int) -> None:
        """How many parts are done."""
        self._show("steps", what, done, total)

    def _show(self, bar: str, text: str, done: int, total: int | None = None) -> None:
        if bar not in self._tasks:
            self._tasks[bar] = self._bars.add_task(text, total=total)
        self._bars.update(self._tasks[bar], description=text, completed=done, total=total)


class BarsBelow(Bars):
    """The same below the cell of a notebook: rich itself shows nothing there unless ipywidgets are installed."""

    def __init__(self, bars: Progress) -> None:
        super().__init__(bars)
        self._place: Any = None
        self._shown = -math.inf

    def _show(self, bar: str, text: str, done: int, total: int | None = None) -> None:
        super()._show(bar, text, done, total)
        if time.monotonic() - self._shown > PATIENCE:
            self.show()

    def show(self) -> None:
        """As they are now, in place of what was shown before."""
        self._shown = time.monotonic()
        console = Console(file=io.StringIO(), record=True, width=WIDE, force_jupyter=False, force_terminal=True)
        console.print(self._bars.get_renderable())
        html = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>", clear=False)
        told = {"text/html": html, "text/plain": console.export_text()}
        if self._place is None:
            self._place = import_module("IPython.display").display(told, raw=True, display_id=True)
        else:
            self._place.update(told, raw=True)


class Rate(ProgressColumn):
    """How many a second, and once that is known."""

    def render(self, task: Task) -> Text:
        """As text."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.0f}/s" if speed >= 10 else f"{speed:.2g}/s")


@contextmanager
def progress() -> Iterator[Bars]:
    """Bars on the terminal, or below the cell of a notebook; nothing where there is neither.

    Example:
        >>> with progress() as bars:  # RSCA.fit(..., progress=bars.iteration)
        ...     bars.step("folds", 1, 22)
    """
    console = Console(stderr=True)
    what, done = TextColumn("{task.description}"), MofNCompleteColumn()
    left = TextColumn("left"), TimeRemainingColumn()
    columns = (SpinnerColumn(), what, BarColumn(), done, Rate(), TimeElapsedColumn(), *left)
    if console.is_jupyter:
        below = BarsBelow(Progress(*columns, auto_refresh=False, disable=True))
        try:
            yield below
        finally:
            below.show()
        return
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield Bars(bars)


def percent(share: float, sign: str = "") -> str:
    """A share in % with two decimals, with more where two would make it 0; sign: "+" to have one always.

    >>> percent(0.1234), percent(0.00002), percent(0.0, "+")
    ('12.34', '0.002', '+0.00')
    """
    return f"{100 * share:{sign}{'.1g' if 0 < abs(100 * share) < 0.005 else '.2f'}}"


class PlainTable(Table):
    """A table whose cells are what they say: no name of a star or a cluster is markup, or moves the cursor."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """As rich's; texts are shown as they are."""
        super().add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def plain(text: str) -> Text:
    r"""A text of several lines for the terminal, without what would move the cursor or change the colour.

    >>> plain("[/red] \x1b[31m").plain
    '[/red] \\x1b[31m'
    """
    return Text("\n".join(map(printable, text.split("\n"))))


def plain_table(texts: Sequence[str], numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """A table without rules, its columns of texts first and then those of numbers."""
    said = None if title is None else plain(title)
    table = PlainTable(title=said, title_style="", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in (*texts, *numbers):
        table.add_column(plain(name), justify="left" if name in texts else "right", no_wrap=True)
    return table


def print_table(table: Table) -> None:
    """Print a table whole: wider than the terminal, rather than with the ends of its cells left out."""
    console = Console()
    wide = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    Console(width=max(console.width, wide)).print(table)
