"""Embeddings of models that were each trained without one cluster: of each what it says of that cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rsca_torch.comparison.comparison import Comparison
from rsca_torch.evaluation.result import LOCOResult

__all__ = ["LEFT_OUT", "file_without", "of_folds", "result_of_folds"]

LEFT_OUT = "{cluster}"  # in the name of a file: the cluster that its model did not see


def file_without(pattern: str, cluster: str) -> str:
    """The file of the model that did not see a cluster; what would be a folder's end in its name is a _.

    >>> file_without("z/{cluster}.npz", "NGC 188"), file_without("{cluster}.csv", "a/b")
    ('z/NGC 188.npz', 'a_b.csv')
    """
    return pattern.replace(LEFT_OUT, cluster.replace("/", "_").replace("\\", "_"))


def of_folds(each: Mapping[str, Comparison]) -> Comparison:
    """One comparison of those on the embeddings without each cluster.

    Args:
        each: cluster -> the same learners on the embedding of the model that did not see it.
    """
    firsts = next(iter(each.values())).results
    results = []
    for place, first in enumerate(firsts):
        of_it = {cluster: comparison.results[place] for cluster, comparison in each.items()}
        if first.loco.held_out:
            loco = result_of_folds({cluster: result.loco for cluster, result in of_it.items()})
            results.append(replace(first, loco=loco, seconds=sum(result.seconds for result in of_it.values())))
    return Comparison(results)


def result_of_folds(each: Mapping[str, LOCOResult]) -> LOCOResult:
    """One result: every cluster as the result under its name has it.

    >>> rates = {"M 67": 0.01, "NGC 188": 0.04}
    >>> one, other = (LOCOResult({name: factor * rate for name, rate in rates.items()}, {"M 67": 6, "NGC 188": 3},
    ...     dict.fromkeys(rates, 9), dict.fromkeys(rates, 1.0)) for factor in (1, 2))
    >>> result_of_folds({"M 67": one, "NGC 188": other}).cluster_rates
    {'M 67': 0.01, 'NGC 188': 0.08}
    """

    def taken(name: str) -> dict[str, Any]:
        return {
            cluster: getattr(loco, name)[cluster] for cluster, loco in each.items() if cluster in getattr(loco, name)
        }

    first = next(iter(each.values()))
    # Calibration by other clusters would be by some that the model has seen.
    merits = {
        name: {cluster: loco.merits[name][cluster] for cluster, loco in each.items()}
        for name in first.merits
        if not name.startswith("cllr")
    }
    distances = {cluster: loco.distances[cluster] for cluster, loco in each.items() if loco.distances is not None}
    return LOCOResult(
        taken("cluster_rates"),
        taken("members"),
        taken("pairs"),
        taken("median_sibling_distance"),
        distances=distances or None,
        trained=taken("trained"),
        merits=merits,
        stars=taken("stars"),
        floor=first.floor,
    )
