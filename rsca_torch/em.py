"""EM for masked PPCA: exact, parameter-expanded, accelerated (docs/maths.md, eqs. 1.2 to 1.12)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rsca_torch.blocks import BinSums, Block, Blocks, Noise
from rsca_torch.errors import InputError

__all__ = [
    "ROUNDING",
    "Climb",
    "Model",
    "Moments",
    "Parameters",
    "Posterior",
    "climb",
    "em_pass",
    "first_guess",
    "refuse_noiseless",
]

OVERSAMPLING = 10  # of the range finder that gives the start
START_PASSES = 4
START_STARS = 2048  # that are enough for the leading axes
START_LEVELS = ((4096, 20), (16384, 12))  # stars that are fitted before many more are, in so many iterations at most
LEAST_SHARE = 0.5  # of the stars, below which a bin's loading is not scaled up further
BOUND_STARS = 512  # that are enough for the medians of the bins
MAD_TO_SIGMA = 1.482602218505602
START_BOUND = 4.0  # robust standard deviations of a bin, beyond which a star does not pull more at the start
STARS_A_SUM = 4096  # that products of float32 are summed over before they join a sum of float64
ROUNDS = 10  # of setting bins aside and looking again
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-6}  # of the mean log-likelihood per bin, by dtype of the products
LEAST_SCATTER = 1e-12  # of a bin's whole variance: nothing, but positive


class Parameters(NamedTuple):
    """What EM estimates, float64; the noise variance of star n in bin p is sigma_np^2 + scatter_p (eq. 1.1)."""

    loadings: Tensor  # (P, K)
    mean: Tensor  # (P,)
    scatter: Tensor  # () the variance of isotropic noise; (P,) a scatter of each bin; () 0: measured noise alone

    def vector(self) -> Tensor:
        """All of them in one; of the scatter what is estimated."""
        return torch.cat([self.loadings.flatten(), self.mean, self.scatter.flatten()[: self._free()]])

    def at(self, vector: Tensor) -> Parameters:
        """The parameters of the same shapes that `vector` holds."""
        loadings, mean, scatter = torch.split(vector, [self.loadings.numel(), self.mean.numel(), self._free()])
        known = scatter.view_as(self.scatter) if self._free() else self.scatter
        return Parameters(loadings.view_as(self.loadings), mean, known.maximum(LEAST_SCATTER * self.scatter.max()))

    def to(self, device: torch.device | str) -> Parameters:
        """The same on a device."""
        return Parameters(*(tensor.to(device) for tensor in self))

    def _free(self) -> int:
        return self.scatter.numel() if self.scatter.ndim or self.scatter.any() else 0


class Model:
    """Parameters in the dtype and on the device of the blocks, with the products that all blocks share."""

    def __init__(self, theta: Parameters, like: Tensor) -> None:
        self.loadings, self.mean, self.scatter = (tensor.to(like) for tensor in theta)
        self.symmetric = _Symmetric(self.loadings.shape[1], like.device)

    @cached_property
    def outer(self) -> Tensor:
        """(P, K (K + 1) / 2) packed w_p w_p^T."""
        return self.loadings[:, self.symmetric.row] * self.loadings[:, self.symmetric.column]


class SetAside(NamedTuple):
    """Bins that the model cannot explain."""

    star: Tensor  # (m,) rows of the block
    place: Tensor  # (m,) bins
    weight: Tensor  # (m,) that they would have had

    @classmethod
    def none(cls, weight: Tensor) -> SetAside:
        """No bin."""
        nothing = torch.zeros(0, dtype=torch.long, device=weight.device)
        return cls(nothing, nothing, weight.new_zeros(0))


class _Sum:
    """A sum of products over blocks of stars: in their own dtype at first, every few thousand stars in float64."""

    def __init__(self, *shape: int, device: torch.device) -> None:
        self.total = torch.zeros(shape, dtype=torch.float64, device=device)
        self._part: Tensor | None = None
        self._stars = 0

    def add(self, left: Tensor, right: Tensor) -> None:
        """Add left^T @ right, of n stars each."""
        if self._part is None:
            self._part = self.total if left.dtype == torch.float64 else torch.zeros_like(self.total, dtype=left.dtype)
        self._part.addmm_(left.T, right)
        self._stars += len(left)
        if self._stars >= STARS_A_SUM:
            self.collect()

    def collect(self) -> Tensor:
        """The sum so far, float64."""
        if self._part is not None and self._part is not self.total:
            self.total += self._part
            self._part.zero_()
        self._stars = 0
        return self.total


class Posterior:
    """The latents of a block of stars given their valid bins: eqs. 1.2 to 1.5.

    Args:
        block: n stars.
        model: the parameters.
        clip: bins farther than so many standard deviations from the model are set aside (1.12). None: none are.
    """

    def __init__(self, block: Block, model: Model, clip: float | None = None) -> None:
        self.model, self.clip = model, clip
        self.n_valid = block.n_valid
        self.weight = (block.noise + model.scatter).reciprocal_()  # (n, P), 0 where not used
        self.residual = block.flux - model.mean  # (n, P)
        self.weighted = self.weight * self.residual
        self.log_weight = _log_weight(block, model, self.weight)
        self.precision = self.weight @ model.outer  # packed, the prior's not in it
        self.projection = self.weighted @ model.loadings  # (n, K)
        self.aside = SetAside.none(self.weight) if clip is None else self._set_aside(clip)
        self.squares = torch.linalg.vecdot(self.weighted, self.residual).double().sum()
        self.cholesky, self.mean = self._solve(self.precision, self.projection)

    def _solve(self, precision: Tensor, projection: Tensor) -> tuple[Tensor, Tensor]:
        """(Cholesky factor of the whole precision, mean of the latents), float64."""
        full = self.model.symmetric.unpack(precision.double())
        full.diagonal(dim1=1, dim2=2).add_(1)
        cholesky, failed = torch.linalg.cholesky_ex(full)
        cholesky[failed > 0] = torch.nan  # of an extrapolation out of all bounds: its likelihood is not a number
        return cholesky, torch.cholesky_solve(projection.double()[..., None], cholesky)[..., 0]

    def _set_aside(self, clip: float) -> SetAside:
        """Take what is far from the model out of the sums, and look again, until nothing changes."""
        precision, projection = self.precision.clone(), self.projection.clone()
        aside = torch.zeros_like(self.weight, dtype=torch.bool)
        everyone = rows = torch.arange(len(aside), device=aside.device)
        for _ in range(ROUNDS):
            few = 2 * len(rows) < len(everyone)
            part = rows if few else slice(None)  # copies of most rows would cost more than they save
            _, mean = self._solve(self.precision[part], self.projection[part])
            with torch.no_grad():  # which bins are set aside has no gradient
                misfit = torch.addmm(self.residual[part], mean.to(self.residual), self.model.loadings.T, alpha=-1)
                found = misfit.square_().mul_(self.weight[part]) > clip**2
            changed = (found != aside[part]).any(1)
            if not changed.any():
                break
            rows = (rows if few else everyone)[changed]
            aside[rows] = found[changed]
            star, place = aside[rows].nonzero(as_tuple=True)
            star = rows[star]
            self.precision[rows], self.projection[rows] = precision[rows], projection[rows]
            outer = self.weight[star, place, None] * self.model.outer[place]
            along = self.weighted[star, place, None] * self.model.loadings[place]
            self.precision.index_add_(0, star, outer, alpha=-1)
            self.projection.index_add_(0, star, along, alpha=-1)
        star, place = aside.nonzero(as_tuple=True)
        weight = self.weight[star, place]
        if self.weighted.requires_grad:  # autograd needs what the sums were made of
            self.weight, self.weighted = self.weight.clone(), self.weighted.clone()
        self.weight[star, place] = self.weighted[star, place] = 0
        return SetAside(star, place, weight)

    def deviations(self) -> Tensor:
        """(m,) float64: how far the bins that are set aside lie from the model, in standard deviations."""
        star, place, weight = self.aside
        explained = (self.mean[star] * self.model.loadings[place]).sum(1)
        deviations: Tensor = (self.residual[star, place] - explained) * weight.sqrt()
        return deviations.double()

    def covariance(self) -> Tensor:
        """(n, K, K) float64."""
        return torch.cholesky_inverse(self.cholesky)

    def log_likelihood(self) -> Tensor:
        """Of the valid bins of these stars together, nats, eqs. 1.5 and 1.12."""
        log_det = 2 * self.cholesky.diagonal(dim1=1, dim2=2).log().sum()
        explained = (self.projection * self.mean).sum()
        aside = 0.0 if self.clip is None else self.clip**2 * len(self.aside.star)
        constant = math.log(2 * math.pi) * self.n_valid - self.log_weight
        total: Tensor = constant + aside + log_det + self.squares - explained
        return -0.5 * total


def _log_weight(block: Block, model: Model, weight: Tensor) -> Tensor:
    """Sum over the valid bins."""
    if block.known or model.scatter.ndim:
        return weight.log().nan_to_num_(math.nan, math.nan, 0).sum(1).double().sum()
    return -block.n_valid * model.scatter.double().log()


class _Symmetric:
    """Symmetric K x K matrices as their K (K + 1) / 2 upper entries, so that sums of them are one matrix product."""

    def __init__(self, size: int, device: torch.device | str = "cpu") -> None:
        self.row, self.column = torch.triu_indices(size, size, device=device)
        self.position = torch.empty(size, size, dtype=torch.long, device=device)
        self.position[self.row, self.column] = torch.arange(len(self.row), device=device)
        self.position[self.column, self.row] = self.position[self.row, self.column]

    def pack(self, matrices: Tensor) -> Tensor:
        """(..., K, K) -> (..., K (K + 1) / 2)."""
        return matrices[..., self.row, self.column]

    def unpack(self, packed: Tensor) -> Tensor:
        """(..., K (K + 1) / 2) -> (..., K, K)."""
        return packed[..., self.position]


class Moments:
    """The sums over stars that the M-step needs (eqs. 1.6 and 1.11), float64; they add up over blocks and machines."""

    def __init__(self, theta: Parameters, noise: Noise) -> None:
        n_bins, n_components = theta.loadings.shape
        self.theta, self.noise = theta, noise
        self.symmetric = _Symmetric(n_components + 1, theta.mean.device)

        shape, device = (n_bins, len(self.symmetric.row)), theta.mean.device
        zeros = theta.mean.new_zeros
        self.normal = _Sum(*shape, device=device)  # packed sum of weight E[y y^T], y = (z, 1)
        self.right = _Sum(n_bins, n_components + 1, device=device)  # sum of weight residual E[y]
        self.latent = zeros(n_components + 1, n_components + 1)  # sum of E[y y^T]
        self.squares, self.log_likelihood_sum, self.n_valid, self.n_aside = zeros(4)
        self.by_square = None if noise != "measured+scatter" else _BySquare(*shape, n_components, device)

    def tensors(self) -> list[Tensor]:
        """All sums, for adding up over processes in place."""
        scalars = [self.squares, self.log_likelihood_sum, self.n_valid, self.n_aside]
        more = [] if self.by_square is None else self.by_square.tensors()
        return [self.normal.collect(), self.right.collect(), self.latent, *scalars, *more]

    def add(self, posterior: Posterior) -> None:
        """Add the stars of a block."""
        y = torch.nn.functional.pad(posterior.mean, (0, 1), value=1.0)
        second = torch.nn.functional.pad(posterior.covariance(), (0, 1, 0, 1)) + y[:, :, None] * y[:, None, :]
        packed, first = (moment.to(posterior.weight) for moment in (self.symmetric.pack(second), y))
        self.normal.add(posterior.weight, packed)
        self.right.add(posterior.weighted, first)
        self.latent += second.sum(0)
        self.squares += posterior.squares
        self.log_likelihood_sum += posterior.log_likelihood()
        self.n_valid += posterior.n_valid
        self.n_aside += len(posterior.aside.star)
        if self.by_square is not None:
            self.by_square.add(posterior, packed, first)

    @property
    def log_likelihood(self) -> float:
        """Mean per valid bin of the parameters that the posteriors were of, nats."""
        return float(self.log_likelihood_sum / self.n_valid)

    @property
    def aside(self) -> float:
        """Share of the valid bins that were set aside."""
        return float(self.n_aside / self.n_valid)

    def maximise(self) -> tuple[Parameters, Parameters | None]:
        """The M-step, eqs. 1.6 and 1.7, then the expanded latents' mean and covariance folded in, eq. 1.8.

        With a scatter of each bin twice: with its fast step (1.10), and with its slow one (1.11), which cannot fall.
        """
        solution = self._solution()
        moments = self.latent / self.latent[-1, -1]
        centre = moments[:-1, -1]
        spread = torch.linalg.cholesky(moments[:-1, :-1] - torch.outer(centre, centre))
        loadings = solution[:, :-1]
        loadings, mean = loadings @ spread, self.theta.mean + solution[:, -1] + loadings @ centre
        if self.by_square is None:
            return Parameters(loadings, mean, self._variance(solution)), None
        fast, slow = self.by_square.scatters(solution, self.theta.scatter, self.symmetric)
        return Parameters(loadings, mean, fast), Parameters(loadings, mean, slow)

    def _solution(self) -> Tensor:
        """(P, K + 1) loadings and change of the mean."""
        normal = self.symmetric.unpack(self.normal.collect())
        normal[normal[:, -1, -1] == 0] = torch.eye(normal.shape[-1]).to(normal)  # unused bins: solution 0
        cholesky, failed = torch.linalg.cholesky_ex(normal)
        if failed.any():
            raise InputError(
                f"the equations of {int((failed > 0).sum())} bins have no solution in this precision: "
                "give products='float64', or more stars that have those bins"
            )
        solution: Tensor = torch.cholesky_solve(self.right.collect()[..., None], cholesky)[..., 0]
        return solution

    def _variance(self, solution: Tensor) -> Tensor:
        """The scatter of isotropic noise; none of measured noise."""
        if self.noise != "isotropic":
            return self.theta.scatter
        left = float(self.squares - (solution * self.right.collect()).sum())
        refuse_noiseless(left, float(self.squares))
        return self.theta.scatter * (left / float(self.n_valid))


class _BySquare:
    """The sums with the squares of the weights that the scatter's steps need (eqs. 1.10 and 1.11)."""

    def __init__(self, n_bins: int, n_packed: int, n_components: int, device: torch.device) -> None:
        self.normal = _Sum(n_bins, n_packed, device=device)
        self.right = _Sum(n_bins, n_components + 1, device=device)
        self.squares, self.valid, self.valid_square = torch.zeros(3, n_bins, dtype=torch.float64, device=device)

    def tensors(self) -> list[Tensor]:
        """normal, right, squares (P,); weight and weight^2 (P,) of all valid bins, those set aside too."""
        return [self.normal.collect(), self.right.collect(), self.squares, self.valid, self.valid_square]

    def add(self, posterior: Posterior, packed: Tensor, first: Tensor) -> None:
        """Add the stars of a block."""
        square = posterior.weight.square()
        self.normal.add(square, packed)
        self.right.add(posterior.weighted * posterior.weight, first)
        self.squares += posterior.weighted.square().sum(0)
        self.valid += posterior.weight.sum(0)
        self.valid_square += square.sum(0)
        aside = posterior.aside.weight.double()
        self.valid.index_add_(0, posterior.aside.place, aside)
        self.valid_square.index_add_(0, posterior.aside.place, aside.square())

    def scatters(self, solution: Tensor, scatter: Tensor, symmetric: _Symmetric) -> tuple[Tensor, Tensor]:
        """(P,) by eq. 1.10 and by eq. 1.11."""
        normal, right, squares, valid, valid_square = self.tensors()
        quadratic = torch.einsum("pi,pij,pj->p", solution, symmetric.unpack(normal), solution)
        misfit = (squares - 2 * (solution * right).sum(1) + quadratic).clamp(min=0)
        seen = valid > 0
        fast = torch.where(seen, scatter + (misfit - valid) / valid_square, scatter)
        slow = scatter * torch.where(seen, misfit / valid, 1).sqrt()
        least = LEAST_SCATTER * (valid / valid_square)[seen].max()  # of a bin's whole variance
        return fast.maximum(least), slow.maximum(least)


def refuse_noiseless(variance: float, total: float) -> None:
    """Raises InputError where the noise is nothing beside the whole."""
    if not variance > 1e-12 * total:
        raise InputError(
            f"the components fit the spectra without noise (variance {variance:.2g} of {total:.2g}): "
            "give more stars or bins that differ, or fewer n_components"
        )


@dataclass
class Climb:
    """Where EM looks next: cycles of two steps and an extrapolation of them (SQUAREM), kept only where it climbs.

    Attributes:
        rounding: a fall of no more than this is none.
        trial: the parameters that the next pass is to evaluate.
        kept: the parameters of the last entry of the history.
        slow: what to try instead where the trial falls.
        history: mean log-likelihood per valid bin of those that were kept, never falling.
        aside: share of the valid bins that the last of them set aside.
        converged: whether the last step of a cycle gained less than the tolerance.
        done: whether there is nothing left to do.
    """

    trial: Parameters
    tolerance: float
    max_iterations: int
    rounding: float = ROUNDING[torch.float64]
    history: list[float] = field(default_factory=list)
    path: list[Parameters] = field(default_factory=list)
    slow: Parameters | None = None
    kept: Parameters | None = None
    leaping: bool = False
    aside: float = 0.0
    converged: bool = False
    done: bool = False
    FLAGS: ClassVar = ("leaping", "aside", "converged", "done")

    def move(self, moments: Moments) -> bool:
        """Take what a pass at the trial found; whether the trial was kept.

        Raises:
            InputError: where the likelihood of parameters that were not extrapolated is no finite number.
        """
        log_likelihood = moments.log_likelihood
        gain = log_likelihood - self.history[-1] if self.history else math.inf + log_likelihood
        following, slow = self._following(moments) if gain >= 0 else (None, None)
        if following is None and self.leaping:
            self.leaping, self.trial = False, self.path[-1]
            return False
        if following is None and self.slow is not None and not math.isnan(gain):
            self.trial, self.slow = self.slow, None
            self.path[-1] = self.trial
            return False
        if following is None:  # rounding, or bins that were set aside, are all that is left
            if math.isnan(gain):
                raise InputError("the likelihood of the spectra is not a finite number: are flux and errors in range?")
            self.converged, self.done = gain > -max(self.tolerance, self.rounding), True
            self.path, self.slow = [self.kept or self.trial], None
            return False
        self.path = [*(self.path or [self.trial]), following]
        self.history.append(log_likelihood)
        self.kept = self.trial
        self.aside, self.slow = moments.aside, slow
        if len(self.path) == 4:
            self.path = [following]
            self.converged = self.done = gain < self.tolerance
        self.done = self.done or len(self.history) >= self.max_iterations
        leap = _extrapolate(*self.path) if len(self.path) == 3 else None
        self.leaping = leap is not None and all(tensor.float().isfinite().all() for tensor in leap)
        self.trial = leap if leap is not None and self.leaping else following
        return True

    def _following(self, moments: Moments) -> tuple[Parameters | None, Parameters | None]:
        """One EM step on, fast and slow; None where an extrapolation has led to where there is none."""
        try:
            return moments.maximise()
        except (torch.linalg.LinAlgError, InputError):  # type: ignore[attr-defined]  # torch's stubs
            if not self.leaping:
                raise
            return None, None

    def to(self, device: torch.device | str) -> None:
        """Go on on a device."""
        self.trial, self.path = self.trial.to(device), [theta.to(device) for theta in self.path]
        self.slow, self.kept = (theta and theta.to(device) for theta in (self.slow, self.kept))

    @property
    def reached(self) -> Parameters:
        """The best parameters: one EM step beyond the last that were kept, the one that cannot fall."""
        if self.slow is not None:
            return self.slow
        return self.path[-1] if self.path else self.trial

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors, numbers and lists."""
        return {
            "trial": list(self.trial),
            "history": list(self.history),
            "path": [list(theta) for theta in self.path],
            **{name: None if (theta := getattr(self, name)) is None else list(theta) for name in ("slow", "kept")},
            **{name: getattr(self, name) for name in self.FLAGS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.trial = Parameters(*state["trial"])
        self.path = [Parameters(*theta) for theta in state["path"]]
        self.slow, self.kept = (state[name] and Parameters(*state[name]) for name in ("slow", "kept"))
        self.history = list(state["history"])
        for name in self.FLAGS:
            setattr(self, name, state[name])
        self.done = self.converged or (self.done and len(self.history) >= self.max_iterations)


def em_pass(blocks: Blocks, theta: Parameters, clip: float | None = None) -> Moments:
    """The E-step of one EM iteration: what the spectra say of theta, and the sums for its M-step."""
    moments = Moments(theta, blocks.noise)
    model: Model | None = None
    for block in blocks:
        model = model or Model(theta, block.flux)
        moments.add(Posterior(block, model, clip))
    return moments


def climb(
    blocks: Blocks,
    theta: Parameters,
    tolerance: float,
    max_iterations: int,
    clip: float | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Climb:
    """EM from theta to its end, in this process."""
    ascent = Climb(theta, tolerance, max_iterations, ROUNDING[blocks.dtype])
    while not ascent.done:
        if ascent.move(em_pass(blocks, ascent.trial, clip)) and progress is not None:
            progress(len(ascent.history), ascent.history[-1])
    return ascent


def _extrapolate(theta: Parameters, first: Parameters, second: Parameters) -> Parameters:
    """SQUAREM's scheme 3: along the step and its change, as far as the ratio of their lengths says; eq. 1.9."""
    start, one, two = theta.vector(), first.vector(), second.vector()
    step, change = one - start, two - 2 * one + start
    length = max(1.0, float(step.norm() / change.norm().clamp(min=torch.finfo(change.dtype).tiny)))
    return theta.at(start + 2 * length * step + length**2 * change)


def first_guess(blocks: Blocks, sums: BinSums, n_components: int, tolerance: float, clip: float | None) -> Parameters:
    """The parameters to climb from: the leading axes of the spectra, and where stars are many, EM on some of them."""
    theta = _leading_axes(blocks.sample(START_STARS), sums, n_components)
    for stars, iterations in START_LEVELS:
        if 4 * stars <= blocks.n_stars:
            theta = climb(blocks.sample(stars), theta, tolerance, iterations, clip).reached
    return theta


def _robust_bounds(blocks: Blocks, mean: Tensor) -> tuple[Tensor, Tensor]:
    """(P,) centre of each bin and how far from it a star may pull at the start, of medians: no outlier moves them."""
    flux = torch.cat([block.flux.masked_fill(block.noise == torch.inf, torch.nan) for block in blocks])
    median = flux.nanmedian(0).values
    bound = START_BOUND * MAD_TO_SIGMA * (flux - median).abs_().nanmedian(0).values
    known = bound > 0  # false where no star has the bin
    return torch.where(known, median, mean), torch.where(known, bound.double(), torch.inf)


def _leading_axes(blocks: Blocks, sums: BinSums, n_components: int) -> Parameters:
    """Of the spectra with the bin's mean where invalid, by a randomised range finder of fixed seed."""
    count = sums.stars.clamp(min=1)
    mean = sums.flux / count
    size = min(n_components + OVERSAMPLING, blocks.n_bins)
    generator = torch.Generator().manual_seed(0)
    axes = torch.randn(blocks.n_bins, size, generator=generator, dtype=torch.float64)
    mean, bound = _robust_bounds(blocks.sample(BOUND_STARS), mean)
    for number in range(START_PASSES):
        axes, _ = torch.linalg.qr(axes)
        product, squares, seen = torch.zeros_like(axes), torch.zeros_like(mean), torch.zeros_like(mean)
        for flux, noise, _, _ in blocks:
            valid = noise < torch.inf
            residual = (flux - mean.to(flux)).mul_(valid)
            residual = residual.clamp_(-bound.to(flux), bound.to(flux))
            product += residual.T @ (residual @ axes.to(flux))
            if number == START_PASSES - 1:
                squares += residual.square_().sum(0)
                seen += valid.sum(0)
        axes, covariance = product, axes.T @ product
    eigenvalues, rotation = torch.linalg.eigh(covariance / blocks.n_stars)
    leading = slice(-n_components, None)
    basis, _ = torch.linalg.qr(axes @ rotation.flip(1)[:, :n_components])
    left = float(squares.sum() / blocks.n_stars - eigenvalues[leading].sum())
    noise_variance = left / (blocks.n_bins - n_components)
    refuse_noiseless(noise_variance, float(squares.sum() / seen.sum()))
    scale = (eigenvalues[leading].flip(0) - noise_variance).clamp(min=noise_variance).sqrt()
    share = (seen / blocks.n_stars).clamp(min=LEAST_SHARE)  # a loading is seen as small as its bin is rare
    loadings = basis * scale / share[:, None]
    if blocks.noise == "isotropic":
        return Parameters(loadings, mean, torch.tensor(noise_variance, dtype=torch.float64))
    if blocks.noise == "measured":
        return Parameters(loadings, mean, torch.tensor(0.0, dtype=torch.float64))
    known = sums.noise / count
    left = squares / seen.clamp(min=1) - loadings.square().sum(1) - known
    return Parameters(loadings, mean, left.maximum(0.1 * known).clamp(min=LEAST_SCATTER * float(left.abs().max())))
