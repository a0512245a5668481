"""RSCA as a metric: distances of stars, and the stars most alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from rsca_torch.errors import InputError
from rsca_torch.export.sklearn.transformer import RSCATransformer

__all__ = ["RSCAMetric"]


class RSCAMetric(RSCATransformer):
    """`RSCATransformer` that also says how far apart two stars are, and which of those that it was fitted on are near.

    The distance is the Euclidean one of the features, in float64.

    Examples:
        >>> import numpy as np
        >>> random = np.random.default_rng(0)
        >>> y = np.repeat([-1, 0, 1, 2], [60, 4, 4, 4])
        >>> latents = random.normal(size=(72, 2))
        >>> for number in range(3):
        ...     latents[y == number] = random.normal(size=2) + random.normal(size=(4, 2)) / 5
        >>> X = 1 + latents @ random.normal(size=(2, 20)) + random.normal(size=(72, 20)) / 10
        >>> metric = RSCAMetric(n_components=2).fit(X, y)
        >>> distances, rows = metric.kneighbors(X[60:61], n_neighbors=3)
        >>> rows.tolist(), y[rows[0]].tolist()
        ([[60, 61, 0]], [0, 0, -1])
        >>> metric.pair_distance(X[60:62], X[61:63]).shape
        (2,)
    """

    def _prepare(self) -> None:
        # The tree takes differences, where a product of matrices would lose near twins.
        features = self.rsca_.from_latents(self._latents_of_fit).numpy()
        self._neighbours = NearestNeighbors(algorithm="kd_tree").fit(features)

    def kneighbors(
        self,
        X: Any = None,  # noqa: ANN401
        n_neighbors: int = 5,
        return_distance: bool = True,
        *,
        sigma: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """The stars of the fit that are most like these, the nearest first.

        Args:
            X: (N, P) flux. None: the stars of the fit, none of which is its own neighbour.
            n_neighbors: n, how many.
            return_distance: give the distances too.
            sigma: (N, P) as of `transform`.

        Returns:
            (N, n) distances, where they are asked for, and (N, n) rows of the X of `fit`, then of its `field`.
        """
        check_is_fitted(self)
        z = None if X is None else self._features(self._checked(X), sigma)
        return self._neighbours.kneighbors(z, n_neighbors, return_distance)

    def pair_distance(self, X: Any, other: Any, *, sigma: Any = None, other_sigma: Any = None) -> NDArray[np.float64]:  # noqa: ANN401
        """(N,) distance of each star from the one in the same row of `other`.

        Args:
            X: (N, P) flux.
            other: (N, P) flux.
            sigma: (N, P) standard errors of X, as of `transform`.
            other_sigma: (N, P) likewise of `other`.

        Raises:
            InputError: where there are not as many of both.
        """
        check_is_fitted(self)
        one, another = (self._features(self._checked(each), of) for each, of in ((X, sigma), (other, other_sigma)))
        if len(one) != len(another):
            raise InputError(f"pairs of stars expected, got {len(one)} and {len(another)}")
        return np.asarray(np.linalg.norm(one - another, axis=1))
