"""What a notebook shows of the rates of clusters, and their picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from rsca_torch.spectra.labels import printable
from rsca_torch.spectra.shown import card, plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ShownResult", "in_percent"]

HIGHEST = 3  # clusters that are named


class Rates(Protocol):
    """What is asked of an `evaluation.result.LOCOResult`."""

    @property
    def cluster_rates(self) -> dict[str, float]:
        """Of each cluster, 0 to 1; NaN: not judged."""

    @property
    def pairs(self) -> dict[str, int]:
        """Of each."""

    @property
    def merits(self) -> dict[str, dict[str, float]]:
        """Further figures."""

    @property
    def held_out(self) -> bool:
        """Whether the learner had not seen the cluster."""

    @property
    def floor(self) -> str:
        """What bounded the scatter of siblings."""

    @property
    def rate(self) -> float:
        """Of all."""

    def interval(self) -> tuple[float, float]:
        """Of that."""

    def merit(self, name: str) -> float:
        """Of all."""

    def limits_of(self, cluster: str) -> tuple[float, float]:
        """The ends of a cluster's interval."""


class ShownResult:
    """Shows itself in notebooks."""

    def _repr_html_(self: Rates) -> str:
        judged = {name: rate for name, rate in self.cluster_rates.items() if math.isfinite(rate)}
        highest = sorted(judged, key=lambda name: -judged[name])[:HIGHEST]
        low, high = self.interval()
        without = len(self.cluster_rates) - len(judged)
        rows = {
            "doppelganger rate": in_percent(self.rate),
            "68 % interval": f"{in_percent(low)} to {in_percent(high)}",
            "clusters": f"{len(judged)}" + (f", {without} more without an allowed pair" if without else ""),
            "pairs": f"{sum(self.pairs.values()):,}",
            "highest": ", ".join(f"{name} {in_percent(judged[name])}" for name in highest) or None,
            "held out": "yes" if self.held_out else "no: the rate is too good to be true",
            "floor": self.floor,
            "further figures": ", ".join(f"{name} {self.merit(name):.3g}" for name in self.merits) or None,
        }
        return card("Leave one cluster out", rows)

    def plot(self: Rates, ax: Axes | None = None) -> Axes:
        """Draw the rate of every cluster and that of all, with its 68 % interval, on a logarithmic scale.

        A cluster whose rate is 0 or 1 has an interval too: what its number of pairs allows. One that could not be
        judged is left out.

        Args:
            ax: to draw on. None: new ones of `matplotlib.pyplot`.

        Returns:
            The axes.
        """
        rows = [("all clusters", "", self.rate, *self.interval())]
        rows += [(printable(name), "", rate, *self.limits_of(name)) for name, rate in self.cluster_rates.items()]
        axes: Axes = plots().plot_rates(ax, [row for row in rows if math.isfinite(row[2])])
        return axes


def in_percent(share: float) -> str:
    """Two digits, and of nearly all three.

    >>> in_percent(0.00218), in_percent(1.0), in_percent(math.nan)
    ('0.22 %', '100 %', 'not known')
    """
    return "not known" if math.isnan(share) else f"{100 * share:.{2 + (share >= 0.99)}g} %"
