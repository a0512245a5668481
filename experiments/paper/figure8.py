"""Figure 8: whether siblings that were observed on the same nights are more alike than other siblings.

Where they are, the spectra tell of the night and not of the stars alone. Source: Appendix C of the paper.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rsca_torch import InputError, NumericalWarning
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.representation import Representation
from rsca_torch.comparison.variants import simulated_with
from rsca_torch.drawing.style import COLOURS, titled
from rsca_torch.report.reproduction import Reproduced, Value
from rsca_torch.survey.visits import visits_of

RESAMPLES = 10_000
AT_ONCE = 500  # permutations that are held
ROUNDING = 1e-12  # by which sums of the same numbers in another order differ
KINDS = ("together", "apart", "some nights in common", "nights not known")
TOGETHER, APART, PARTLY, UNKNOWN = range(4)
PAIR = "representation cluster star sibling nights distance".split()
TEST = (
    "representation apart_minus_together low high p kolmogorov_smirnov p_kolmogorov_smirnov together apart clusters"
).split()
Nights = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Siblings:
    """The pairs i < j of a cluster's n stars.

    Attributes:
        cluster: its label.
        stars: (n,) their ids.
        first: (pairs,) i.
        second: (pairs,) j.
        distance: (pairs,) in units of their median.
        kind: (n, n) of every pair, its place among KINDS.
    """

    cluster: str
    stars: NDArray[np.str_]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: NDArray[np.float64]
    kind: NDArray[np.int8]

    @property
    def kinds(self) -> list[int]:
        """(pairs,)."""
        return [int(kind) for kind in self.kind[self.first, self.second]]

    @property
    def weight(self) -> float:
        """What the cluster's difference of two means counts: the inverse of its variance, but for a factor."""
        counts = Counter(self.kinds)
        return counts[TOGETHER] * counts[APART] / max(1, counts[TOGETHER] + counts[APART])


@dataclass(frozen=True)
class Test:
    """Distances of siblings observed apart minus those of siblings observed together, in median sibling distances."""

    difference: float
    low: float
    high: float
    p: float
    ks: float
    p_ks: float


def reproduce(assembly: Assembly, fewest: int, permutations: int, plates: int) -> Reproduced:
    """Distances of siblings with the same nights and with none in common, from spectra and the abundance subset.

    Each cluster is judged by a learner that never saw it (the authors' figure is of learners that saw all clusters).
    A fold's distances have units of their own, so they are divided by the cluster's median sibling distance, which is
    the threshold of its doppelganger rate: the same number for both kinds of pairs, whatever the nights.

    Only clusters with both kinds say anything. In each the mean distance apart minus that together is taken, and these
    are averaged, weighted by the inverse of their variances. What chance would give is seen by giving the nights of
    every star to another star of its cluster at random, again and again: a pair is not independent of another pair
    with the same star, a permutation of stars keeps that. p is two-sided. The interval is a bootstrap over clusters.
    The Kolmogorov-Smirnov statistic of all these pairs, which sees other differences than of means, has its p from the
    same permutations. (scipy's permutation_test permutes pairs or samples, not the stars behind the pairs.)

    Args:
        assembly: the survey.
        fewest: pairs of each kind that are needed.
        permutations: of the nights.
        plates: with which a simulated survey observes each cluster. In the default one it is one, so that all siblings
            share their nights; another one is then simulated for this item alone.

    Raises:
        InputError: where the survey does not tell the visits or the abundances, or has too few pairs of a kind.
    """
    assembly = simulated_with(assembly, "plates", {"stars.cluster_plates": plates})
    if "VISITS" not in assembly.members.stars.colnames:
        raise InputError(
            "the star table has no column VISITS, which says in which nights a star was observed: ingest the full "
            "allStar of dr13, dr14 or dr16 (allStarLite and dr17's allStar lack it)"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # stars that lack an abundance are left out
        subset = assembly.abundances("abundance_subset")
    rows, tests, counted = [], [], ""
    for on in (assembly.spectra, subset):
        clusters = list(siblings(assembly, on))
        counted = counted or counts(clusters)
        telling = [cluster for cluster in clusters if cluster.weight > 0]
        pairs = Counter(kind for cluster in telling for kind in cluster.kinds)
        if min(pairs[TOGETHER], pairs[APART]) < fewest:
            raise InputError(
                f"at least {fewest} pairs of siblings observed together and {fewest} observed apart are needed in "
                f"clusters that have both, got {pairs[TOGETHER]} and {pairs[APART]} of {on.name} in {len(telling)} "
                f"clusters; {counted}; experiments.figure8.fewest=N asks for fewer"
            )
        test = tested(telling, permutations, assembly.seed)
        tests.append((on.name, *vars(test).values(), pairs[TOGETHER], pairs[APART], len(telling)))
        rows += [
            (on.name, one.cluster, one.stars[i], one.stars[j], KINDS[one.kind[i, j]], distance)
            for one in clusters
            for i, j, distance in zip(one.first, one.second, one.distance, strict=True)
        ]
    table, pairs_table = Table(rows=tests, names=TEST), Table(rows=rows, names=PAIR)
    values = [value for row in table for value in _values(row)]
    tables = {"figure8": table, "figure8_pairs": pairs_table}
    return Reproduced(values, finding(table, counted), tables, {"figure8": drawing(table, pairs_table)})


def siblings(assembly: Assembly, on: Representation) -> Iterator[Siblings]:
    """Every cluster's, judged by a learner that never saw it."""
    result = assembly.judged(on, keep_distances=True)
    assert result.distances is not None  # they are kept
    nights = np.array([nights_of(star) for star in on.member_stars], dtype=object)
    ids = np.asarray(on.member_stars["APOGEE_ID"], dtype=str)
    for cluster, (distances, _) in result.distances.items():
        own = np.flatnonzero(on.clusters == cluster)
        kind = np.array([[kind_of(one, other) for other in nights[own]] for one in nights[own]], dtype=np.int8)
        relative = distances.numpy() / result.median_sibling_distance[cluster]
        yield Siblings(cluster, ids[own], *np.triu_indices(len(own), 1), relative, kind)


def nights_of(star: Table.Row) -> Nights:
    """The telescope and date of every visit."""
    visits = visits_of(str(star["VISITS"]), str(star["TELESCOPE"]))
    return frozenset((visit.telescope, visit.night) for visit in visits)


def kind_of(one: Nights, other: Nights) -> int:
    """What two stars are to each other, as a place among KINDS."""
    if not (one and other):
        return UNKNOWN
    return TOGETHER if one == other else PARTLY if one & other else APART


def tested(clusters: Sequence[Siblings], permutations: int, seed: int) -> Test:
    """The test on clusters that have both kinds."""
    weight = np.array([cluster.weight for cluster in clusters])
    observed = [cluster.kind[None] for cluster in clusters]
    differences, ks = statistics(clusters, observed)
    difference = float(differences[:, 0] @ weight / weight.sum())
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(clusters), np.full(len(clusters), 1 / len(clusters)), RESAMPLES) * weight
    low, high = np.quantile(drawn @ differences[:, 0] / drawn.sum(1), [0.16, 0.84])
    chance, chance_ks = [], []
    for number in _parts(permutations):
        permuted, of_ks = statistics(clusters, [_permuted(cluster.kind, number, random) for cluster in clusters])
        chance.append(weight @ permuted / weight.sum())
        chance_ks.append(of_ks)
    p, p_ks = (
        (1 + int((np.abs(np.concatenate(by_chance)) >= abs(there) * (1 - ROUNDING)).sum())) / (1 + permutations)
        for by_chance, there in ((chance, difference), (chance_ks, ks[0]))
    )
    return Test(difference, float(low), float(high), p, float(ks[0]), p_ks)


def _parts(number: int) -> Iterator[int]:
    return (min(AT_ONCE, number - first) for first in range(0, number, AT_ONCE))


def _permuted(kind: NDArray[np.int8], number: int, random: np.random.Generator) -> NDArray[np.int8]:
    """(number, n, n) the kinds of pairs when each star has the nights of another."""
    order = random.permuted(np.tile(np.arange(len(kind)), (number, 1)), axis=1)
    return np.asarray(kind[order[:, :, None], order[:, None, :]])


def statistics(
    clusters: Sequence[Siblings], kinds: Sequence[NDArray[np.int8]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(clusters, R) each cluster's mean apart minus that together, (R,) Kolmogorov-Smirnov of all pairs.

    Args:
        clusters: C of them.
        kinds: (R, n, n) of every cluster.
    """
    pairs = [kind[:, one.first, one.second] for one, kind in zip(clusters, kinds, strict=True)]
    together, apart = ([kind == wanted for kind in pairs] for wanted in (TOGETHER, APART))
    differences = [
        far @ one.distance / far.sum(1) - near @ one.distance / near.sum(1)
        for one, near, far in zip(clusters, together, apart, strict=True)
    ]
    rising = np.argsort(np.concatenate([one.distance for one in clusters]), kind="stable")
    below = [np.cumsum(np.concatenate(kind, axis=1)[:, rising], axis=1) for kind in (together, apart)]
    ks = np.abs(below[0] / below[0][:, -1:] - below[1] / below[1][:, -1:]).max(1)
    return np.array(differences), ks


def counts(clusters: Sequence[Siblings]) -> str:
    """How many pairs there are of each kind."""
    pairs = Counter(kind for cluster in clusters for kind in cluster.kinds)
    said = ", ".join(f"{pairs[place]} {kind}" for place, kind in enumerate(KINDS))
    return f"of {sum(pairs.values())} pairs of siblings in {len(clusters)} clusters: {said}"


def _values(row: Table.Row) -> list[Value]:
    item = f"siblings' nights {row['representation']}"
    difference = Value.of(item, "apart minus together", row, TEST[1:4])
    return [difference, Value(item, "p", float(row["p"])), Value(item, "p, K-S", float(row["p_kolmogorov_smirnov"]))]


def finding(table: Table, counted: str) -> str:
    """By how much siblings observed apart are farther from each other, and whether that may be chance."""
    said = [
        f"{100 * row['apart_minus_together']:+.0f} % ({100 * row['low']:+.0f} to {100 * row['high']:+.0f}) from "
        f"{row['representation'].replace('_', ' ')} (p = {row['p']:.2g}, Kolmogorov-Smirnov "
        f"{row['p_kolmogorov_smirnov']:.2g})"
        for row in table
    ]
    return (
        f"Siblings observed apart are farther from each other than those observed together by {' and '.join(said)} of "
        f"the median sibling distance, in the {table['clusters'][0]} clusters that have both; {counted}."
    )


def drawing(table: Table, pairs: Table) -> Figure:
    """Both kinds' distributions in clusters that have both, and their means."""
    figure, body = titled("Siblings observed together and apart", 4.2 * len(table) + 0.5, 3.9)
    panels = body.subplots(1, len(table), sharey=True, squeeze=False)[0]
    own = _telling(pairs)
    edges = np.linspace(0, np.quantile(own["distance"], 0.995), 25)
    for axes, row in zip(panels, table, strict=True):
        for kind, colour in ((KINDS[APART], COLOURS[1]), (KINDS[TOGETHER], COLOURS[0])):
            rows = (own["representation"] == row["representation"]) & (own["nights"] == kind)
            distances = np.asarray(own["distance"][rows])
            axes.hist(distances, edges, density=True, histtype="stepfilled", color=colour, alpha=0.25)
            label = f"observed {kind} ({len(distances)})"
            axes.hist(distances, edges, density=True, histtype="step", color=colour, lw=1.4, label=label)
            axes.axvline(distances.mean(), color=colour, ls="--" if kind == KINDS[APART] else "-", lw=1)
        axes.set_title(f"{row['representation'].replace('_', ' ')}, p = {row['p']:.2g}")
        axes.set_xlabel("distance / median of the cluster's siblings")
        axes.legend()
    panels[0].set_ylim(top=1.3 * panels[0].get_ylim()[1])  # room for the legend
    panels[0].set_ylabel("share of the pairs per unit of distance")
    return figure


def _telling(pairs: Table) -> Table:
    """Those of clusters that have both kinds."""
    keys = np.char.add(np.char.add(pairs["representation"], "/"), pairs["cluster"])
    both = [set(keys[pairs["nights"] == KINDS[kind]]) for kind in (TOGETHER, APART)]
    return pairs[np.isin(keys, sorted(both[0] & both[1]))]
