"""Progress and tables on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["folds", "iterations", "print_table", "progress"]


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars on the terminal; plain lines where there is none."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar


def iterations(bar: Progress) -> Callable[[int, float], None]:
    """What `fit_ppca` calls after each iteration."""
    task = bar.add_task("masked PPCA", total=None)
    reached: list[float] = []

    def report(iteration: int, log_likelihood: float) -> None:
        gain = f", gain {log_likelihood - reached[-1]:.1e}" if reached else ""
        reached.append(log_likelihood)
        bar.update(task, completed=iteration, description=f"masked PPCA: {log_likelihood:.6f} nats a bin{gain}")

    return report


def folds(bar: Progress, what: str = "leave one cluster out") -> Callable[[str, int, int], None]:
    """What `compare` calls after each fold, and `reproduce` before each experiment."""
    task = bar.add_task(what, total=None)
    return lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def print_table(table: Table) -> None:
    """Print a table whole: wider than the terminal, rather than with the ends of its cells left out."""
    console = Console()
    wide = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    Console(width=max(console.width, wide)).print(table)
