"""The picture that shows whether probabilities mean what they say (docs/maths.md, section 15)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rsca_torch.drawing.style import COLOURS, in_style, titled
from rsca_torch.evaluation.calibration import BINS, Calibrated
from rsca_torch.report.pictures import draw_intervals

__all__ = ["draw_reliability", "plot_reliability", "reliability_of"]

DRAWS = 2000
STYLES = ((COLOURS[1], "o", -1), (COLOURS[0], "s", 1))  # told apart without colour too


def reliability_of(surveys: Sequence[Calibrated], prior: float, seed: int = 0) -> NDArray[np.float64]:
    """(bins, 4) of pairs by their probability: its mean, the share of siblings, and the ends of its 68 % interval.

    Of all clusters of all surveys together; the interval is of a bootstrap over clusters. Empty bins are left out.
    """
    tables = []
    for told in surveys:
        for cluster, pairs in told.scores.items():
            table = np.zeros((3, BINS))
            for each in replace(told, scores={cluster: pairs}).reliability(prior):
                place = min(int(each.probability * BINS), BINS - 1)
                table[:, place] += told.members[cluster] * each.weight * np.array([1, each.probability, each.siblings])
            tables.append(table)
    of_clusters = np.array(tables)
    weight, probability, siblings = of_clusters.sum(0)
    there = weight > 0
    drawn = np.random.default_rng(seed).multinomial(len(tables), np.full(len(tables), 1 / len(tables)), DRAWS)
    sums = np.einsum("dc,csb->dsb", drawn, of_clusters)[:, :, there]
    with np.errstate(invalid="ignore"):  # no cluster of a draw has pairs there
        low, high = np.nanquantile(sums[:, 2] / sums[:, 0], [0.16, 0.84], axis=0)
    return np.stack([probability[there] / weight[there], siblings[there] / weight[there], low, high], axis=1)


def plot_reliability(axes: Axes, told: Mapping[str, Sequence[Calibrated]], prior: float) -> None:
    """Curves by name, and the line on which probabilities are right."""
    axes.plot([0, 1], [0, 1], color="0.6", lw=1, zorder=0, label="as it should be")
    for (name, surveys), (colour, mark, side) in zip(told.items(), STYLES, strict=False):
        x, *values = reliability_of(surveys, prior).T
        draw_intervals(axes, x + side * 0.004, np.stack(values, axis=1), f"{mark}-", color=colour, ms=6, label=name)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=np.linspace(0, 1, 6))
    axes.set(yticks=np.linspace(0, 1, 6), xlabel="probability of being siblings, as told")


@in_style()
def draw_reliability(told: Mapping[str, Calibrated], priors: Sequence[float]) -> Figure:
    """Of one survey, at most two learners, a panel for each prior."""
    figure, body = titled("Do probabilities come true? Held-out clusters", 4.2 * len(priors), 4.6)
    panels = body.subplots(1, len(priors), squeeze=False, sharey=True)[0]
    for panel, prior in zip(panels, priors, strict=True):
        plot_reliability(panel, {name: [each] for name, each in told.items()}, prior)
        panel.set_title(f"prior {prior:g}")
    panels[0].set_ylabel("share that are siblings (bars: 68 %)")
    panels[0].legend(loc="upper left")
    return figure
