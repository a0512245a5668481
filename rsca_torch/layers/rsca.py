"""RSCA: masked PPCA and the three steps after it as one frozen linear layer (paper, section 3; docs/maths.md, 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rsca_torch.errors import InputError
from rsca_torch.files.whole import atomic_file
from rsca_torch.layers.layer import Layer
from rsca_torch.layers.sound import sound
from rsca_torch.learners.floor import Repeats
from rsca_torch.learners.learner import Labels
from rsca_torch.learners.scaled_components import ScaledComponents, require_dimensions
from rsca_torch.ppca.affine import affine
from rsca_torch.ppca.answers import Embedding
from rsca_torch.ppca.fit import Basis, Products, compress
from rsca_torch.ppca.frozen import Frozen, as_bytes
from rsca_torch.ppca.frozen_file import file_of, read_file
from rsca_torch.ppca.frozen_folder import model_in
from rsca_torch.ppca.graph import in_graph, only_if
from rsca_torch.ppca.initialisation import MAD_TO_SIGMA
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.removal import Removal, without
from rsca_torch.spectra.arrays import Array, as_floats, as_tensor
from rsca_torch.spectra.blocks import Arrays, Noise
from rsca_torch.spectra.labelled import labelled
from rsca_torch.spectra.shown import card, plots
from rsca_torch.spectra.view import AnySpectra, sources_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rsca_torch.drawing.named_lines import Lines

__all__ = ["RSCA"]


class RSCA(Layer):
    """Spectra in, features out, whose Euclidean distance says how likely two stars were born together.

    A frozen layer (`Frozen`): buffers only, nothing to train, gradients pass through to the flux. It computes in
    float64, which no cast of the layer changes, and gives back the dtype that came in. Rows are ordered by importance;
    the largest weight of a row is positive.

    Attributes:
        weight: (K, P) float64; a dimension that tells nothing about siblings is a row of zeros.
        bias: (K,) float64; an average field star has features near 0.
        sigma_r: (K,) float64 rising, eq. 4 of the paper; inf where a dimension tells nothing.
        wavelength: (P,) float64, vacuum Angstrom.
        ppca: step 1, which takes over where bins are censored or their noise is given.
        removal: what is taken out of every spectrum before it; None: nothing. `weight` and `bias` have it in them.
        clusters: those on whose members it was fitted; empty: not known.
        version: of the rsca_torch that fitted it.
        sources: what the stores say of themselves whose spectra it was fitted on; {}: in memory; empty: not known.
        calibration: what its ratios are worth as probabilities, as `rsca fit` and `rsca compare` find it
            (`evaluation.sibling_calibration`), or why that is not known; `RSCA.fit` leaves no cluster out: {}.

    Example:
        >>> import numpy as np
        >>> from rsca_torch import Spectra
        >>> random = np.random.default_rng(0)
        >>> axes, centres = random.normal(size=(2, 20)), np.repeat(random.normal(size=(3, 2)), 4, axis=0)
        >>> def drawn(latents, **stars):
        ...     flux = 1 + latents @ axes + random.normal(size=(len(latents), 20)) / 10
        ...     return Spectra(flux, sigma=np.full(flux.shape, 0.1), stars=stars)
        >>> field = drawn(random.normal(size=(60, 2)), id=np.arange(60))
        >>> siblings = centres + random.normal(size=(12, 2)) / 5
        >>> members = drawn(siblings, id=np.arange(60, 72), group=np.repeat(["A", "B", "C"], 4))
        >>> rsca = RSCA.fit(field, members, n_components=2)
        >>> rsca
        RSCA of 20 bins: 2 features, 2 of which tell siblings apart; trained on 3 clusters
          step 1: MaskedPPCA(K=2, P=20, noise=measured+scatter, clip=5, converged in ... iterations)
          fitted by rsca_torch ... on spectra in memory
        >>> rsca.embed(members).shape
        torch.Size([12, 2])
    """

    weight: Tensor
    bias: Tensor
    rotation: Tensor
    centre: Tensor
    sigma_r: Tensor
    told: ClassVar[tuple[str, ...]] = (*Layer.told, "calibration")

    def __init__(
        self,
        ppca: MaskedPPCA,
        rotation: Tensor,
        centre: Tensor,
        sigma_r: Tensor,
        wavelength: Tensor,
        removal: Removal | None = None,
        clusters: Labels = (),
        sources: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(ppca, wavelength, removal, clusters, sources)
        self.calibration: dict[str, Any] = {}
        weight, shift = rotation @ ppca.linear_map(), -rotation @ centre
        shift = shift - weight @ ppca.mean.nan_to_num()
        if removal is not None:  # eq. 12.4: x minus directions (read x + offset)
            read, offset = removal.linear_map()
            along = weight @ removal.directions
            weight, shift = weight - along @ read, shift - along @ offset
        flip = weight.gather(1, weight.abs().argmax(1, keepdim=True)) < 0
        self.register_buffer("weight", torch.where(flip, -weight, weight).contiguous())
        self.register_buffer("rotation", torch.where(flip, -rotation, rotation).contiguous())
        self.register_buffer("bias", torch.where(flip[:, 0], -shift, shift))
        self.register_buffer("centre", centre)
        self.register_buffer("sigma_r", sigma_r)

    @classmethod
    def fit(
        cls,
        field: AnySpectra,
        members: AnySpectra,
        clusters: Labels | None = None,
        n_components: int = 60,
        noise: Noise | None = None,
        *,
        clip: float | Literal["usual"] | None = "usual",
        tolerance: float = 1e-4,
        max_iterations: int = 500,
        products: Products = "float32",
        basis: Basis = "inductive",
        fitted_components: int | None = None,
        random_start: int | None = None,
        start: MaskedPPCA | None = None,
        robust: bool = False,
        pooled: bool = True,
        top: int | None = None,
        mad_factor: float = MAD_TO_SIGMA,
        clamp: float | None = None,
        floor: Array | str | None = "auto",
        trim: float | None = 2.0,
        repeats: AnySpectra | None = None,
        groups: AnySpectra | None = None,
        removal: Removal | None = None,
        progress: Callable[[int, float], None] | None = None,
    ) -> RSCA:
        """Learn the map from field stars and the members of open clusters; without options as `rsca fit` does.

        Args:
            field: F spectra, in memory or in a store.
            members: M spectra of the same bins.
            clusters: M labels. None: the members' role group. Members without one (masked, missing, NaN, None, '', the
                word nan, a negative number) are left out.
            n_components: as in `compress`, and so for what follows up to start.
            noise: see there.
            clip: see there.
            tolerance: see there.
            max_iterations: see there.
            products: see there.
            basis: see there.
            fitted_components: see there.
            random_start: see there.
            start: see there.
            robust: as in `ScaledComponents`, and so for what follows up to clamp.
            pooled: see there.
            top: see there.
            mad_factor: see there.
            clamp: see there.
            floor: see there; of "repeats" and "auto" that of `repeats`.
            trim: see there.
            repeats: further observations of field stars and of groups' stars, which say in their role repeat_of of
                which; those of members are left out, as where stars are judged. None: there are none.
            groups: stars of groups besides clusters, wide binaries say, with the role group: they say how siblings
                scatter, as members do. None: there are none.
            removal: what is taken out of all spectra first, as `Grouping.find` finds it in the field. None: nothing.
            progress: called with (iteration, mean log-likelihood per valid bin) after each iteration of step 1.

        Raises:
            InputError: as `compress` and `ScaledComponents.initialise` do, and where the members have no labels, or are
                all stars, the field among them.

        Warns:
            NumericalWarning: says how many members have no label.
        """
        if clusters is None and not members.stars.has("group"):
            raise InputError("no column of the members' table plays the role group: give their labels as clusters=")
        members, labels = labelled(field, members, members.stars.group if clusters is None else clusters)
        learner = ScaledComponents(robust, pooled, top, mad_factor, clamp, floor=floor, trim=trim)
        ids, every = np.concatenate([field.stars.id, members.stars.id]), labels
        if groups is not None:
            groups.stars.require_groups(ids)
            ids, every = (np.concatenate(each) for each in ((ids, groups.stars.id), (labels, groups.stars.group)))
            groups = without(groups, removal)
        if not learner.is_bounded:
            require_dimensions(n_components, len(field), every)  # before the hard work
        if repeats is not None:
            repeats.stars.require_repeats(ids)
            repeats = without(repeats, removal)
        field, members = (without(part, removal) for part in (field, members))
        ppca = compress(
            field,
            members,
            n_components,
            noise,
            clip=clip,
            tolerance=tolerance,
            max_iterations=max_iterations,
            products=products,
            basis=basis,
            fitted_components=fitted_components,
            random_start=random_start,
            start=start,
            progress=progress,
        )
        of_field, known = ppca.latents(field), field.stars.id
        taught = [ppca.embed(part, covariances=learner.is_bounded) for part in (members, groups) if part is not None]
        photons = [part.noise for part in taught if part.noise is not None]
        latents = torch.cat([part.latents for part in taught])
        if groups is not None:
            known = np.concatenate([known, groups.stars.id])
        of_known = torch.cat([of_field, latents[len(labels) :]])
        learner.repeats = Repeats.of_spectra(ppca, of_known, known, repeats)
        learner.initialise(of_field, latents, every, noise=torch.cat(photons) if photons else None)
        steps = learner.weight, learner.centre, learner.sigma_r
        return cls(ppca, *steps, field.wavelength, removal, np.unique(labels), sources_of(field, members))

    def forward(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, K) features, in the dtype of the flux; float64 of integers.

        Without `valid` and `sigma` a row whose flux is all finite is exactly flux @ weight.T + bias. Where bins are
        censored, or with either of the two, they are marginalised and noisy ones weigh less: the posterior mean of step
        1, star by star (eq. 1.4), then steps 2 to 4. What is to be removed is read from the same bins first.

        An exported graph (`torch.export`, ONNX) does the same for any number of stars; it makes a star NaN where this
        refuses it.

        Args:
            flux: (N, P) continuum-normalised; what is not finite, under a mask or missing is a censored bin.
            valid: (N, P) bool, True = use. None: every finite flux.
            sigma: (N, P) standard errors; they matter where the model was fitted with measured noise.
        """
        given = as_tensor(flux)
        self._require_bins(given.shape)
        dtype = given.dtype if given.is_floating_point() else torch.float64
        if valid is not None or sigma is not None:
            posterior = self._marginalised if in_graph() else self._by_blocks
            return posterior(flux, valid, sigma).to(dtype)
        given = as_floats(given)
        if in_graph():
            features = given.to(self.weight.dtype) @ self.weight.T + self.bias
            censored = ~features.isfinite().all()
            return only_if(censored, self._where_censored, _as_they_are, (features, given)).to(dtype)
        features = affine(given, self.weight, self.bias)
        return (features if features.isfinite().all() else self._filled(features, given)).to(dtype)

    def _where_censored(self, features: Tensor, flux: Tensor) -> Tensor:
        """(N, K) those of the posterior for stars whose features are not finite, as a bin that is not makes them."""
        return torch.where(features.isfinite().all(1, keepdim=True), features, self._marginalised(flux))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _filled(self, features: Tensor, flux: Tensor) -> Tensor:
        """As `_where_censored`, with work for these stars alone."""
        censored = ~features.isfinite().all(1)
        return features.index_put((censored,), self._marginalised(flux[censored]).to(features.dtype))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _by_blocks(self, flux: Array, valid: Array | None, sigma: Array | None) -> Tensor:
        """Which bins are set aside depends on numbers: nothing to compile."""
        return self._marginalised(flux, valid, sigma)

    def _marginalised(self, flux: Array, valid: Array | None = None, sigma: Array | None = None) -> Tensor:
        """(N, K) float64 features by the posterior of step 1."""
        return self.from_latents(self._latents(Arrays(flux, valid, sigma)))

    def __repr__(self) -> str:
        """What a person wants to know, in three lines."""
        telling = int(self.sigma_r.isfinite().sum())
        stores = [f"store {of['store'][:16]} ({of['survey']})" if of else "spectra in memory" for of in self.sources]
        return (
            f"RSCA of {self.weight.shape[1]} bins: {len(self.sigma_r)} features, {telling} of which tell siblings "
            f"apart; trained on {len(self.clusters) or 'unknown'} clusters\n  step 1: {self.ppca!r}\n"
            f"  fitted by rsca_torch {self.version} on {' and '.join(stores) or 'unknown spectra'}"
        )

    def _repr_html_(self) -> str:
        telling = int(self.sigma_r.isfinite().sum())
        names = ", ".join(self.clusters[:6]) + (", ..." if len(self.clusters) > 6 else "")
        stores = [f"store {of['store'][:16]} ({of['survey']})" if of else "spectra in memory" for of in self.sources]
        simulated = any(of.get("simulated") for of in self.sources)
        rows = {
            "features": f"{len(self.sigma_r)}, {telling} of which tell siblings apart",
            "bins": f"{self.weight.shape[1]:,}",
            "wavelength": f"{self.wavelength[0]:.2f} to {self.wavelength[-1]:.2f} Angstrom",
            "trained on": f"{len(self.clusters)} clusters: {names}" if names else "unknown clusters",
            "of": (" and ".join(stores) or "unknown spectra") + (", SIMULATED" if simulated else ""),
            "step 1": repr(self.ppca),
            "removed": None if self.removal is None else f"{self.removal.directions.shape[1]} directions",
            "rsca_torch": self.version,
        }
        return card("RSCA", rows)

    def plot(self, ax: Axes | None = None, feature: int = 1, lines: Lines | None = None) -> Axes:
        """Draw the weights by which a feature is read off the flux.

        Args:
            ax: to draw on. None: new ones of `matplotlib.pyplot`.
            feature: its number, from 1, the most important.
            lines: whose strongest are named, as `rsca_torch.survey.line_list.apogee_lines()`. None: none are.

        Returns:
            The axes.

        Raises:
            InputError: there is no such feature.

        Example:
            >>> RSCA.blank().plot().get_ylabel()
            'weight in feature 1'
        """
        if not 1 <= feature <= len(self.weight):
            raise InputError(f"feature {feature}: the model has 1 to {len(self.weight)}")
        curves = {f"feature {feature}": self.weight[feature - 1].cpu().numpy()}
        said = "rest wavelength in vacuum, Angstrom", f"weight in feature {feature}"
        axes: Axes = plots().plot_curves(ax, self.wavelength.cpu().numpy(), curves, said, lines)
        return axes

    def from_latents(self, latents: Tensor) -> Tensor:
        """(N, K) features of the latents of step 1 (N, K)."""
        return torch.matmul(latents - self.centre, self.rotation.to(latents.dtype).T)

    def embed(self, spectra: AnySpectra) -> Tensor:
        """(N, K) features of spectra in memory or in a store, read block by block; in the dtype of the flux.

        Args:
            spectra: on any bins of the same grid: bins that they lack are censored.

        Raises:
            InputError: where not a single bin is the model's.
        """
        flux, _, _ = spectra.read(slice(0, 0))
        return self.from_latents(self.embedding(spectra).latents).to(flux.dtype)

    def embedding(self, spectra: AnySpectra) -> Embedding:
        """The latents of step 1 that `embed` is made of, and the bins that were set aside for them."""
        return self.ppca.embed(without(spectra.on(self.wavelength), self.removal))

    def trainable(self, dtype: torch.dtype | None = None) -> nn.Linear:
        """The map of complete spectra as an `nn.Linear` to fine-tune: a copy, which this layer knows nothing of.

        It knows no censored bins: a flux that is not finite makes all features NaN. Put what `ppca.reconstruct` has
        there first.

        Args:
            dtype: None: torch's default. In float32 the features of APOGEE's 7,514 bins differ from this layer's by
                their last three digits, as a sum of so many does.

        Example:
            >>> rsca = RSCA.blank()
            >>> rsca.trainable(torch.float64)(torch.ones(1, 1).double()) == rsca(torch.ones(1, 1).double())
            tensor([[True]])
        """
        linear = nn.Linear(self.weight.shape[1], self.weight.shape[0], device="meta", dtype=dtype)
        linear.weight = nn.Parameter(self.weight.detach().to(linear.weight.dtype, copy=True))
        linear.bias = nn.Parameter(self.bias.detach().to(linear.weight.dtype, copy=True))
        return linear

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all."""
        with atomic_file(Path(path)) as part:
            part.write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """What `save` writes."""
        removal = None if self.removal is None else _header(self.removal.ppca)
        header = {**_header(self), **_header(self.ppca), "removal": removal}
        return file_of("RSCA", header, dict(self.named_buffers(remove_duplicate=False)))

    @classmethod
    def load(cls, path: str | Path) -> RSCA:
        """Read what `save` wrote, or the folder that `rsca export to=hub` did.

        Raises:
            InputError: where a file is missing, is no RSCA model, is of another schema or damaged.
        """
        header, state = read_file(model_in(path) if Path(path).is_dir() else path, "RSCA")
        state |= {"_extra_state": as_bytes(header), "ppca._extra_state": as_bytes(header)}
        if header.get("removal") is not None:
            state |= {"removal._extra_state": as_bytes({}), "removal.ppca._extra_state": as_bytes(header["removal"])}
        return sound(cls, state, path)

    @classmethod
    def _blank(cls) -> RSCA:
        one = torch.ones(1, dtype=torch.float64)
        return cls(MaskedPPCA._blank(), one[:, None], one, one, one)


def _header(layer: Frozen) -> dict[str, Any]:
    """What a file says of a layer besides its tensors."""
    return {name: getattr(layer, name) for name in layer.told}


def _as_they_are(features: Tensor, _: Tensor) -> Tensor:
    """A copy, as a graph demands."""
    return features.clone()
