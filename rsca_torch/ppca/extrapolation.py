"""EM to its end: iterations and their extrapolations (SQUAREM), kept where the likelihood rises (eq. 1.9)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from rsca_torch.errors import InputError
from rsca_torch.ppca.e_step import Parameters
from rsca_torch.ppca.m_step import Moments, moments_of
from rsca_torch.spectra.blocks import Blocks

__all__ = ["ROUNDING", "Ascent", "run_em"]

MOST_SQUARES = 100.0  # in units of the noise: where they are more, a fit that falls has lost digits that it needs
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-6}  # of the mean log-likelihood per bin, by dtype of the products


@dataclass
class Ascent:
    """Where EM looks next: cycles of two M-steps and an extrapolation of them (SQUAREM), kept only where it climbs.

    Attributes:
        rounding: a fall of no more than this is none, where squares are 1 in units of the noise.
        trial: the parameters that the next E-step is to evaluate.
        kept: the parameters of the last entry of the history.
        slow: what to try instead where the trial falls (eq. 1.11).
        extrapolated: whether the trial is an extrapolation.
        history: mean log-likelihood per valid bin of those that were kept, never falling.
        share_set_aside: share of the valid bins that the last of them set aside.
        converged: whether the last iteration of a cycle gained less than the tolerance.
        done: whether there is nothing left to do.

    Example:
        >>> from rsca_torch.spectra.blocks import Arrays
        >>> blocks = Blocks(Arrays(torch.randn(60, 9, generator=torch.Generator().manual_seed(0))), "isotropic")
        >>> theta = Parameters(torch.ones(9, 1).double(), torch.zeros(9).double(), torch.tensor(1.0).double())
        >>> ascent = Ascent(theta, tolerance=1e-6, max_iterations=100)
        >>> while not ascent.done:
        ...     kept = ascent.advance(moments_of(blocks, ascent.trial))
        >>> ascent.converged, ascent.reached.loadings.shape
        (True, torch.Size([9, 1]))
    """

    trial: Parameters
    tolerance: float
    max_iterations: int
    rounding: float = ROUNDING[torch.float64]
    history: list[float] = field(default_factory=list)
    path: list[Parameters] = field(default_factory=list)
    slow: Parameters | None = None
    kept: Parameters | None = None
    extrapolated: bool = False
    share_set_aside: float = 0.0
    converged: bool = False
    done: bool = False
    FLAGS: ClassVar = ("extrapolated", "share_set_aside", "converged", "done")

    def advance(self, moments: Moments) -> bool:
        """Take what the E-step at the trial found; whether the trial was kept.

        Raises:
            InputError: where the likelihood of parameters that were not extrapolated is no finite number.
        """
        log_likelihood = moments.log_likelihood
        gain = log_likelihood - self.history[-1] if self.history else math.inf + log_likelihood
        following, slow = self._following(moments) if gain >= 0 else (None, None)
        if following is None and self.extrapolated:
            self.extrapolated, self.trial = False, self.path[-1]
            return False
        if following is None and self.slow is not None and not math.isnan(gain):
            self.trial, self.slow = self.slow, None
            self.path[-1] = self.trial
            return False
        if following is None:  # rounding, or bins that were set aside, are all that is left
            if math.isnan(gain):
                raise InputError("the likelihood of the spectra is not a finite number: are flux and errors in range?")
            self.converged, self.done = gain > -max(self.tolerance, self._rounding(moments)), True
            self.path, self.slow = [self.kept or self.trial], None
            return False
        self.path = [*(self.path or [self.trial]), following]
        self.history.append(log_likelihood)
        self.kept = self.trial
        self.share_set_aside, self.slow = moments.share_set_aside, slow
        if len(self.path) == 4:
            self.path = [following]
            self.converged = self.done = gain < self.tolerance
        self.done = self.done or len(self.history) >= self.max_iterations
        further = _extrapolate(*self.path) if len(self.path) == 3 else None
        self.extrapolated = further is not None and all(tensor.float().isfinite().all() for tensor in further)
        self.trial = further if further is not None and self.extrapolated else following
        return True

    def _rounding(self, moments: Moments) -> float:
        """A fall of no more than this is none: what is summed are squares, in units of the noise."""
        return self.rounding * min(max(1.0, float(moments.squares / moments.n_valid)), MOST_SQUARES)

    def _following(self, moments: Moments) -> tuple[Parameters | None, Parameters | None]:
        """The M-step, fast and slow; None where an extrapolation has led to where there is none."""
        try:
            return moments.maximise()
        except (torch.linalg.LinAlgError, InputError):  # type: ignore[attr-defined]  # torch's stubs
            if not self.extrapolated:
                raise
            return None, None

    def to(self, device: torch.device | str) -> None:
        """Go on on a device."""
        self.trial, self.path = self.trial.to(device), [theta.to(device) for theta in self.path]
        self.slow, self.kept = (theta and theta.to(device) for theta in (self.slow, self.kept))

    @property
    def reached(self) -> Parameters:
        """The best parameters: one M-step beyond the last that were kept, the one that cannot fall."""
        if self.slow is not None:
            return self.slow
        return self.path[-1] if self.path else self.trial

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors, numbers and lists, with a checksum."""
        state: dict[str, Any] = {
            "trial": list(self.trial),
            "history": list(self.history),
            "path": [list(theta) for theta in self.path],
            **{name: None if (theta := getattr(self, name)) is None else list(theta) for name in ("slow", "kept")},
            **{name: getattr(self, name) for name in self.FLAGS},
        }
        return {**state, "sha256": _checksum(state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ValueError: something in it was changed, or a parameter is not a finite number.
        """
        state = dict(state)
        if state.pop("sha256", None) != _checksum(state):
            raise ValueError("its checksum is of something else")
        if not state["trial"][0].isfinite().all():
            raise ValueError("a parameter is not a finite number")
        self.trial = Parameters(*state["trial"])
        self.path = [Parameters(*theta) for theta in state["path"]]
        self.slow, self.kept = (state[name] and Parameters(*state[name]) for name in ("slow", "kept"))
        self.history = list(state["history"])
        for name in self.FLAGS:
            setattr(self, name, state[name])
        self.done = self.converged or (self.done and len(self.history) >= self.max_iterations)


def _checksum(state: Any) -> str:  # noqa: ANN401  (a mapping, a list, a tensor, a number)
    """SHA-256 of whatever a state holds."""
    total = hashlib.sha256()
    if isinstance(state, torch.Tensor):
        total.update(
            f"{state.dtype} {tuple(state.shape)}".encode() + state.detach().cpu().contiguous().numpy().tobytes()
        )
    elif isinstance(state, dict):
        total.update("".join(f"{name}: {_checksum(state[name])}\n" for name in sorted(state)).encode())
    elif isinstance(state, list | tuple):
        total.update("".join(f"{_checksum(each)}\n" for each in state).encode())
    else:
        total.update(repr(state).encode())
    return total.hexdigest()


def run_em(
    blocks: Blocks,
    theta: Parameters,
    tolerance: float,
    max_iterations: int,
    clip: float | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Ascent:
    """EM from theta to its end, in this process.

    Args:
        blocks: the spectra.
        theta: the first parameters.
        tolerance: as in `fit_ppca`, and so for what follows.
        max_iterations: see there.
        clip: see there.
        progress: see there.

    Example:
        >>> from rsca_torch.spectra.blocks import Arrays
        >>> blocks = Blocks(Arrays(torch.randn(60, 9, generator=torch.Generator().manual_seed(0))), "isotropic")
        >>> theta = Parameters(torch.ones(9, 1).double(), torch.zeros(9).double(), torch.tensor(1.0).double())
        >>> run_em(blocks, theta, tolerance=1e-6, max_iterations=100).converged
        True
    """
    ascent = Ascent(theta, tolerance, max_iterations, ROUNDING[blocks.dtype])
    while not ascent.done:
        if ascent.advance(moments_of(blocks, ascent.trial, clip)) and progress is not None:
            progress(len(ascent.history), ascent.history[-1])
    return ascent


def _extrapolate(theta: Parameters, first: Parameters, second: Parameters) -> Parameters:
    """SQUAREM's scheme 3: along the step and its change, as far as the ratio of their lengths says; eq. 1.9."""
    start, one, two = theta.vector(), first.vector(), second.vector()
    step, change = one - start, two - 2 * one + start
    length = max(1.0, float(step.norm() / change.norm().clamp(min=torch.finfo(change.dtype).tiny)))
    return theta.at(start + 2 * length * step + length**2 * change)
