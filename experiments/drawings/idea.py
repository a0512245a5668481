"""RSCA in pictures, after Figure 1 of the paper: `python experiments/drawings/idea.py FILE.png`.

Drawn numbers, no survey: spectra with two kinds of lines, strangers that differ in both, siblings that are alike in
one. Each panel has the same stars after one step more; the last is what rsca_torch's own learner gives.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rsca_torch import ScaledComponents, fit_ppca
from rsca_torch.drawing.style import COLOURS, MARKS, in_style

Numbers = NDArray[np.float64]
Step = tuple[str, Numbers, Numbers]  # title, field (N, 2), members (M, 2)
NAMES = ("cluster A", "cluster B", "cluster C")
WAVELENGTH = np.linspace(0, 1, 120)
ALIKE, APART = (0.22, 0.55, 0.81), (0.36, 0.68)  # where the lines are that siblings share, and that they do not


def drawn(seed: int = 1, n_field: int = 500, size: int = 12) -> tuple[Numbers, Numbers, NDArray[np.str_]]:
    """(N, P) spectra of field stars and of members, and each member's cluster."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(NAMES, size)
    field = rng.normal(size=(n_field, 2)) * [1.0, 1.6]
    centres = np.array([[-1.1, 0.2], [0.1, -0.4], [1.2, 0.3]])
    members = np.repeat(centres, size, axis=0) + rng.normal(size=(3 * size, 2)) * [0.12, 0.85]
    depth = np.stack([sum(np.exp(-(((WAVELENGTH - at) / 0.016) ** 2)) for at in lines) for lines in (ALIKE, APART)])
    depth[1] += 0.6 * depth[0]  # no line tells one thing alone

    def spectra(amounts: Numbers) -> Numbers:
        noise = 0.004 * rng.normal(size=(len(amounts), len(WAVELENGTH)))
        return 1 - 0.3 * depth.sum(0) - 0.05 * amounts @ depth + noise

    return spectra(field), spectra(members), clusters


def steps(field: Numbers, members: Numbers, clusters: NDArray[np.str_]) -> list[Step]:
    """(title, (N, 2) of the field, (M, 2) of members) after each step (docs/maths.md, sections 1 to 4)."""
    ppca = fit_ppca(torch.tensor(field), n_components=2)
    scale = ppca.loadings.norm(dim=0).double()  # in units of flux, as `raw` has it
    z, x = ((ppca(torch.tensor(each)).double() * scale).numpy() for each in (field, members))
    shown = [("1  Compress: two numbers a star", z, x)]
    lengths, axes = np.linalg.eigh(np.cov(z.T))
    z, x = ((each - shown[0][1].mean(0)) @ axes / np.sqrt(lengths) for each in (z, x))
    shown.append(("2  Sphere: strangers differ alike", z, x))
    centred = np.concatenate([x[clusters == name] - x[clusters == name].mean(0) for name in NAMES])
    turn = np.linalg.svd(centred, full_matrices=False)[2][::-1].T  # where siblings are most alike first
    z, x = z @ turn, x @ turn
    shown.append(("3  Turn: across and along the siblings", z, x))
    learner = ScaledComponents()
    learner.initialise(torch.tensor(shown[0][1]), torch.tensor(shown[0][2]), clusters)
    z, x = (learner(torch.tensor(each)).numpy() for each in shown[0][1:])
    ratio = x.std(0) / shown[2][2].std(0)
    np.testing.assert_allclose(np.abs(z), np.abs(shown[2][1] * ratio), atol=1e-9)  # it is step 3, stretched
    z, x = (each * np.sign((z * shown[2][1]).sum(0)) for each in (z, x))
    return [*shown, ("4  Rescale: what siblings share counts", z, x)]


def chosen(before: Step, after: Step, clusters: NDArray[np.str_]) -> tuple[int, int, int]:
    """A member, its sibling and a stranger: the stranger is nearer at first, and in the end the sibling is."""
    middle = np.linalg.norm(before[1], axis=1) < 1.5 * before[1].std()
    best, found = 0.0, (0, 1, 0)
    for one in range(len(clusters)):
        for other in np.flatnonzero(clusters[:one] == clusters[one]):
            siblings = [np.linalg.norm(each[2][one] - each[2][other]) for each in (before, after)]
            strangers = [np.linalg.norm(each[1] - each[2][one], axis=1) for each in (before, after)]
            clear = (strangers[0] < siblings[0] / 2) & (strangers[1] > 3 * siblings[1]) & middle
            gain = np.where(clear, siblings[0] / strangers[0] * strangers[1] / siblings[1], 0)
            if gain.max() > best:
                best, found = gain.max(), (one, int(other), int(gain.argmax()))
    return found


def panel(axes: Axes, step: Step, clusters: NDArray[np.str_], three: tuple[int, int, int]) -> None:
    """All stars after a step, with the distances of the two pairs."""
    title, field, members = step
    one, sibling, stranger = three
    axes.plot(*field.T, ".", color="#aaaaaa", ms=4, label="field stars")
    for name, colour, mark in zip(NAMES, COLOURS, MARKS, strict=False):
        axes.plot(*members[clusters == name].T, mark, color=colour, ms=6, mec="white", mew=0.6, label=name)
    for end, style, colour in ((members[sibling], "-", "black"), (field[stranger], ":", "black")):
        axes.plot(*np.stack([members[one], end]).T, style, color=colour, lw=2)
    axes.plot(*field[stranger], "x", color="black", ms=8, mew=2)
    near, far = np.linalg.norm(members[one] - members[sibling]), np.linalg.norm(members[one] - field[stranger])
    axes.set_title(f"{title}\nstranger {far / near:.1f} times as far as sibling", fontsize=10.5)
    axes.set_aspect("equal")
    reach = 1.25 * np.quantile(np.abs(np.concatenate([field, members])).max(1), 0.98)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])


@in_style()
def drawing() -> Figure:
    """Spectra above, the four steps below."""
    field, members, clusters = drawn()
    done = steps(field, members, clusters)
    three = chosen(done[0], done[-1], clusters)
    figure = Figure(figsize=(12.5, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.55))
    axes = above.subplots()
    colour = COLOURS[NAMES.index(clusters[three[0]])]
    lines = (
        (members[three[0]], colour, "-", "a star"),
        (members[three[1]], colour, "--", "its sibling, born of the same gas"),
        (field[three[2]], "black", ":", "a stranger"),
    )
    for number, (flux, shade, style, said) in enumerate(lines):
        axes.plot(WAVELENGTH, flux - 0.25 * number, style, color=shade, lw=1.6, label=said)
    for at in ALIKE:
        axes.axvspan(at - 0.03, at + 0.03, color="#f0e442", alpha=0.35, lw=0, zorder=0)
    axes.set(xlim=(0, 1), xticks=[], yticks=[], xlabel="wavelength", ylabel="flux, shifted")
    axes.set_title("Drawn numbers, no survey. Shaded: lines that are alike in siblings", fontsize=11)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=10)
    panels = below.subplots(1, 4)
    for each, step in zip(panels, done, strict=True):
        panel(each, step, clusters, three)
    below.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=10
    )
    return figure


def main() -> None:
    """Draw into FILE."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    with in_style():  # ticks are made when they are drawn
        drawing().savefig(parser.parse_args().file, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
