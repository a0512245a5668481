"""RSCA as a scikit-learn transformer: spectra and labels in, features out, judged by the doppelganger rate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data
from torch import Tensor

from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.doppelganger import doppelganger_rate
from rsca_torch.layers.rsca import RSCA
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.ppca.fit import Products
from rsca_torch.spectra.blocks import Arrays, Noise
from rsca_torch.spectra.labels import as_labels
from rsca_torch.spectra.spectra import Spectra

__all__ = ["RSCATransformer"]

Numbers = NDArray[np.floating[Any]]


class RSCATransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """RSCA, all four steps, as a scikit-learn estimator; a fitted one has the frozen layer as `rsca_`.

    X is a flux (N, P), one star a row, NaN where a bin is censored. y says whose sibling a star is: the name or number
    of its cluster, and for a field star '', None, NaN or a negative number, as clustering programs write it. So nothing
    but X and y need reach `fit`, in a pipeline and in a search too. Field stars may also be given apart, as `field=`;
    without any, the labelled stars themselves stand for the field, as in scikit-learn's LDA, with a warning.

    Args:
        n_components: K, as in `RSCA.fit`, and so for what follows.
        noise: see there.
        clip: see there.
        tolerance: see there.
        max_iterations: see there.
        products: see there.
        robust: see there.
        pooled: see there.
        top: see there.
        floor: see there; "auto", "noise" (needs sigma) or None.
        trim: see there.
        wavelength: (P,) Angstrom of the bins. None: their numbers.

    Attributes:
        rsca_: the fitted `RSCA`, to save or to put into a network.
        groups_: the labels that it was fitted on, sorted.
        n_features_in_: P.

    Examples:
        >>> import numpy as np
        >>> random = np.random.default_rng(0)
        >>> y = np.repeat(["", "A", "B", "C"], [60, 4, 4, 4])
        >>> latents = random.normal(size=(72, 2))
        >>> for name in "ABC":
        ...     latents[y == name] = random.normal(size=2) + random.normal(size=(4, 2)) / 5
        >>> X = 1 + latents @ random.normal(size=(2, 20)) + random.normal(size=(72, 20)) / 10
        >>> X[3, 5] = np.nan  # censored
        >>> rsca = RSCATransformer(n_components=2).fit(X, y)
        >>> rsca.transform(X).shape, rsca.get_feature_names_out().tolist()
        ((72, 2), ['rscatransformer0', 'rscatransformer1'])
        >>> print(f"{rsca.score(X, y):.3f}")
        -0.018
    """

    def __init__(
        self,
        n_components: int = 60,
        *,
        noise: Noise | None = None,
        clip: float | Literal["usual"] | None = "usual",
        tolerance: float = 1e-4,
        max_iterations: int = 500,
        products: Products = "float32",
        robust: bool = False,
        pooled: bool = True,
        top: int | None = None,
        floor: str | None = "auto",
        trim: float | None = 2.0,
        wavelength: Any = None,  # noqa: ANN401
    ) -> None:
        self.n_components, self.noise, self.clip = n_components, noise, clip
        self.tolerance, self.max_iterations, self.products = tolerance, max_iterations, products
        self.robust, self.pooled, self.top, self.floor, self.trim = robust, pooled, top, floor, trim
        self.wavelength = wavelength

    def fit(
        self,
        X: Any,  # noqa: ANN401
        y: Any = None,  # noqa: ANN401
        *,
        field: Any = None,  # noqa: ANN401
        sigma: Any = None,  # noqa: ANN401
        field_sigma: Any = None,  # noqa: ANN401
    ) -> Self:
        """Fit all four steps.

        Args:
            X: (N, P) flux.
            y: (N,) labels, '', None, NaN or negative for field stars.
            field: (F, P) flux of further field stars. None: those of X alone.
            sigma: (N, P) standard errors of X. None: not known.
            field_sigma: (F, P) likewise of `field`.

        Raises:
            InputError: where no star has a label, shapes disagree, one of the two errors is lacking, or as `RSCA.fit`.

        Warns:
            NumericalWarning: where there is no field star.
        """
        if y is None:
            raise InputError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: labels of clusters, and '' "
                "or -1 for field stars"
            )
        X = self._checked(X, reset=True, ensure_min_samples=2, ensure_min_features=2)
        labels = _labels_of(y, X)
        is_member = labels != ""
        if not is_member.any():
            raise InputError(f"none of the {len(X)} stars has a label in y: give the names of their clusters")
        errors = self._errors(sigma, X, "sigma")
        parts = [(X[~is_member], None if errors is None else errors[~is_member])]
        if field is not None:
            further = self._checked(field)
            parts.append((further, self._errors(field_sigma, further, "field_sigma")))
            if (sigma is None) != (field_sigma is None):
                raise InputError("the errors of X and of field are both known or both not: give sigma and field_sigma")
        flux = np.concatenate([part for part, _ in parts])
        of_field = None if errors is None else np.concatenate([part for _, part in parts if part is not None])
        members, of_members = X[is_member], None if errors is None else errors[is_member]
        if not len(flux):
            said = "no star is without a label, and no field= is given: the labelled stars themselves are the field"
            warnings.warn(said, NumericalWarning, stacklevel=2)
            flux, of_field = members, of_members
        pairs = ((flux, of_field), (members, of_members))
        strangers, siblings = (Spectra(*_tensors(*each), self.wavelength) for each in pairs)
        self.rsca_ = RSCA.fit(
            strangers,
            siblings,
            labels[is_member],
            self.n_components,
            self.noise,
            clip=self.clip,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            products=self.products,
            **self._of_steps_2_to_4(),
        )
        self.groups_ = np.unique(labels[is_member])
        # What `score` needs to judge a cluster by the others: latents of X, then of further field stars.
        embedding = self.rsca_.ppca.embed(siblings, covariances=True)
        self._labels = np.append(labels, np.full(0 if field is None else len(parts[1][0]), ""))
        self._noise = embedding.noise
        self._latents_of_fit = torch.empty(len(self._labels), self.n_components, dtype=torch.float64)
        self._latents_of_fit[torch.from_numpy(self._labels != "")] = embedding.latents
        if (self._labels == "").any():
            self._latents_of_fit[torch.from_numpy(self._labels == "")] = self.rsca_.ppca.latents(strangers)
        self._prepare()
        return self

    def _prepare(self) -> None:
        """What a subclass makes of the latents of the stars that it was fitted on."""

    def fit_transform(self, X: Any, y: Any = None, *, sigma: Any = None, **given: Any) -> Any:  # noqa: ANN401
        """(N, K) features of the stars that it is fitted on; arguments as of `fit`."""
        return self.fit(X, y, sigma=sigma, **given).transform(X, sigma=sigma)

    def transform(self, X: Any, *, sigma: Any = None) -> Any:  # noqa: ANN401
        """(N, K) features, of the dtype of X, whose Euclidean distance says how alike stars are; as `RSCA.embed`.

        Args:
            X: (N, P) flux, NaN where censored.
            sigma: (N, P) standard errors, which matter where the fit had them.
        """
        check_is_fitted(self)
        X = self._checked(X)
        return self._features(X, sigma).astype(X.dtype)

    def score(self, X: Any, y: Any, *, sigma: Any = None) -> float:  # noqa: ANN401
        """Minus the doppelganger rate: of the clusters in y the mean, weighted by members; 0 is the best, -1 the worst.

        Every cluster is judged by a map that never saw it. One that the fit did not see is judged by the fit. One that
        it saw (by its name) is judged by steps 2 to 4 fitted once more without its members, as `leave_one_cluster_out`
        does; step 1 saw the field alone. Strangers are the field stars in X, and where X has none those of the fit,
        all of them: X says nothing of velocities. A cluster with one star in X is left out.

        Args:
            X: (N, P) flux.
            y: (N,) labels as of `fit`.
            sigma: (N, P) as of `transform`.

        Raises:
            InputError: where no cluster has two stars in X.
        """
        check_is_fitted(self)
        X = self._checked(X)
        labels, z = _labels_of(y, X), self._latents(X, sigma)
        names, sizes = np.unique(labels[labels != ""], return_counts=True)
        judged = {name: size for name, size in zip(names.tolist(), sizes.tolist(), strict=True) if size > 1}
        if not judged:
            raise InputError("score needs a cluster with two stars in X: y has none")
        has_field = bool((labels == "").any())
        total: float = 0.0
        for name, size in judged.items():
            mapped = self._without(name)
            members = z[torch.from_numpy(labels == name)]
            strangers = z[torch.from_numpy(labels == "")] if has_field else self._strangers(name)
            total += size * doppelganger_rate(mapped(members), mapped(strangers))
        return -total / float(sum(judged.values()))

    def _field(self) -> Tensor:
        """(F, K) latents of the field stars of the fit; where there were none, of all stars."""
        of_field = self._labels == ""
        return self._latents_of_fit[torch.from_numpy(of_field)] if of_field.any() else self._latents_of_fit

    def _strangers(self, cluster: str) -> Tensor:
        """The same without siblings."""
        of_field = self._labels == ""
        return self._latents_of_fit[torch.from_numpy(of_field if of_field.any() else self._labels != cluster)]

    def _without(self, cluster: str) -> Callable[[Tensor], Tensor]:
        """Steps 2 to 4 as the fit has them where it did not see the cluster, else fitted on the others."""
        if cluster not in self.groups_:
            return self.rsca_.from_latents
        is_member = self._labels != ""
        others = torch.from_numpy(is_member & (self._labels != cluster))
        noise = None if self._noise is None else self._noise[torch.from_numpy(self._labels[is_member] != cluster)]
        learner = ScaledComponents(**self._of_steps_2_to_4())
        with warnings.catch_warnings(action="ignore", category=NumericalWarning):  # the fit said it
            learner.initialise(self._field(), self._latents_of_fit[others], self._labels[others.numpy()], noise=noise)
        return learner

    def _of_steps_2_to_4(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("robust", "pooled", "top", "floor", "trim")}

    def _features(self, X: Numbers, sigma: Any) -> NDArray[np.float64]:  # noqa: ANN401
        features: NDArray[np.float64] = self.rsca_.from_latents(self._latents(X, sigma)).numpy()
        return features

    def _latents(self, X: Numbers, sigma: Any) -> Tensor:  # noqa: ANN401
        return self.rsca_.ppca.latents(Arrays(*_tensors(X, self._errors(sigma, X, "sigma"))))

    def _checked(self, X: Any, reset: bool = False, **least: int) -> Numbers:  # noqa: ANN401
        kinds = (np.float64, np.float32)
        checked: Numbers = validate_data(self, X, reset=reset, dtype=kinds, ensure_all_finite="allow-nan", **least)
        return checked

    def _errors(self, sigma: Any, X: Numbers, name: str) -> Numbers | None:  # noqa: ANN401
        if sigma is None:
            return None
        errors: Numbers = check_array(sigma, dtype=X.dtype, ensure_all_finite=False, input_name=name)
        if errors.shape != X.shape:
            raise InputError(f"{name} must have the shape of its flux {X.shape}, got {errors.shape}")
        return errors

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        """NaN is a censored bin; labels are needed; float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return len(self.rsca_.sigma_r)


def _labels_of(y: Any, X: Numbers) -> NDArray[np.str_]:  # noqa: ANN401
    """(N,) text, '' for field stars."""
    check_consistent_length(X, y)
    given = y if hasattr(y, "to_numpy") else np.asarray(y, dtype=object if isinstance(y, list | tuple) else None)
    if given.ndim == 2 and given.shape[1] == 1:
        given = np.asarray(given)[:, 0]
    if given.ndim != 1:
        raise InputError(f"one label a star expected in y, got an array of shape {given.shape}")
    return as_labels(given)


def _tensors(X: Numbers, sigma: Numbers | None) -> tuple[Any, None, Any]:
    """Flux, validity (told by NaN) and errors, as tensors."""
    return torch.tensor(X), None, None if sigma is None else torch.tensor(sigma)
