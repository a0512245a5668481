"""Strangers, siblings and observations of one star: `python experiments/repeats/picture.py FILE.png`.

Draws how pairs differ along two features of RSCA, in units of the field's spread, on one simulated survey: as points,
and as ellipses of the three covariances 2 T, 2 W and 2 R (docs/repeats.md).
"""

from __future__ import annotations

import argparse
import runpy
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from rsca_torch.drawing.style import COLOURS, in_style, stamp, titled
from rsca_torch.errors import NumericalWarning
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.report.figure_files import write_figure

Survey = runpy.run_path(str(Path(__file__).with_name("rates.py")))["Survey"]
Pairs = NDArray[np.float64]
STYLES = (
    ("strangers", "2 T", "#999999", "o"),
    ("siblings", "2 W", COLOURS[1], "s"),
    ("one star, twice", "2 R", COLOURS[0], "^"),
)


def differences(survey: Survey, number: int, features: list[int], shown: int) -> tuple[list[Pairs], list[Pairs]]:
    """(n, 2) differences of strangers, siblings and repeats along two features, and the (2, 2) covariance of each."""
    on = survey.on[number]
    seen = on.seen_by(partial(ScaledComponents, floor="repeats", robust=False, trim=2.0))
    learner = seen.make_learner()
    learner.initialise(seen.field, seen.members, on.clusters, noise=seen.noise)
    two = torch.tensor(features) - 1
    spread = learner.sigma_r[two].double()
    weight = (1 / spread**2 - 1).sqrt()  # step 4; without it the field has unit variance
    again = survey.assembly.repeats
    field, members, repeats = (
        learner(part)[:, two] / weight for part in (seen.field, seen.members, on.ppca.latents(again))
    )
    rng = np.random.default_rng(0)
    strangers = field[rng.permutation(len(field))[: 2 * shown]]
    kept = learner.kept.numpy()
    siblings = [
        members[first] - members[second]
        for first in range(len(members))
        for second in range(first)
        if on.clusters[first] == on.clusters[second] and kept[first] and kept[second]
    ]
    place = {name: row for row, name in enumerate(on.field_stars.id)}
    of_star = [(row, place[name]) for row, name in enumerate(again.stars.repeat_of) if name in place]
    rows, stars = np.array(of_star).T
    turned = learner.weight[two].double() / weight[:, None]
    bounds = [np.eye(2), np.diag(spread.numpy() ** 2), (turned @ learner.bound @ turned.T).numpy()]
    points = [strangers[::2] - strangers[1::2], torch.stack(siblings), repeats[rows] - field[stars]]
    return [each.numpy()[rng.permutation(len(each))[:shown]] for each in points], [2 * bound for bound in bounds]


@in_style()
def drawing(points: list[Pairs], covariances: list[Pairs], features: list[int], said: str) -> Figure:
    """The whole, and its middle."""
    figure, body = titled(said, 11, 5.6)
    for axes, reach in zip(body.subplots(1, 2), (4.6, 1.53), strict=True):
        for order, ((name, matrix, colour, mark), pairs, covariance) in enumerate(
            zip(STYLES, points, covariances, strict=True)
        ):
            axes.plot(*pairs.T, mark, color=colour, ms=4, alpha=0.45, mew=0, zorder=order)
            lengths, turn = np.linalg.eigh(covariance)
            angle = np.degrees(np.arctan2(turn[1, 1], turn[0, 1]))
            width, height = 2 * 1.515 * np.sqrt(lengths[::-1])  # 68 % of pairs lie inside
            axes.add_patch(Ellipse((0, 0), width, height, angle=angle, fill=False, ec="white", lw=5, zorder=8 + order))
            axes.add_patch(
                Ellipse(
                    (0, 0),
                    width,
                    height,
                    angle=angle,
                    fill=False,
                    ec=colour,
                    lw=2.5,
                    zorder=9 + order,
                    label=f"{name}: {matrix}",
                )
            )
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.set_xlabel(f"difference along feature {features[0]} [spread of the field]")
    figure.axes[0].set_ylabel(f"difference along feature {features[1]}")
    figure.axes[0].legend(loc="upper left", frameon=True, framealpha=0.95)
    figure.axes[1].set_title("the middle, three times as large")
    stamp(figure)
    return figure


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--components", type=int, default=60)
    parser.add_argument("--features", type=int, nargs=2, default=[3, 5], help="the most important one is 1")
    parser.add_argument("--pairs", type=int, default=400, help="of each kind, at most")
    parser.add_argument("--folder", type=Path, default=Path("runs/repeats"))
    parser.add_argument("overrides", nargs="*", help="of the survey and step 1")
    given = parser.parse_intermixed_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    survey = Survey(0, given.folder, [given.components], given.overrides or ["simulation.repeats=600"])
    said = "How pairs of stars differ; ellipses hold 68 % of the pairs"
    figure = drawing(*differences(survey, given.components, given.features, given.pairs), given.features, said)
    write_figure(figure, given.file, metadata={"Software": None})


if __name__ == "__main__":
    main()
