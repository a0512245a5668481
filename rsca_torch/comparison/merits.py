"""What a comparison tells beside the rate, as its configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import hydra
import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from rsca_torch.errors import InputError
from rsca_torch.evaluation.calibration import require_priors
from rsca_torch.evaluation.figure_of_merit import FigureOfMerit
from rsca_torch.evaluation.membership import require_share
from rsca_torch.spectra.stars import Stars

__all__ = ["CALIBRATED", "Merits"]

CALIBRATED = ("none", "judged", "closed_forms", "all")  # each with those before it


@dataclass(frozen=True)
class Merits:
    """Figures of merit, among which pairs, and of which learners likelihood ratios are calibrated.

    Attributes:
        further: functions of the distances of one cluster, by name.
        alike: the role or column of the star table in which pairs are alike that are told apart once more. None: none.
        within: they differ by less than this in it.
        calibrate: "none"; "judged", the first learner on the first representation; "closed_forms", every learner that
            is not trained, on every representation; "all", trained ones too, with a training for every two clusters.
        priors: at which probabilities are compared with shares.
        wrong: the share of listed members that are none, which their probabilities take for granted.

    Raises:
        InputError: for a word or a number out of range.
    """

    further: Mapping[str, FigureOfMerit] = field(default_factory=dict)
    alike: str | None = None
    within: float = 0.05
    calibrate: str = "none"
    priors: tuple[float, ...] = (0.5, 0.01)
    wrong: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.calibrate not in CALIBRATED:
            raise InputError(f"calibration.of must be one of {', '.join(CALIBRATED)}, got {self.calibrate!r}")
        if not self.within > 0:
            raise InputError(f"alike.within={self.within} must be positive, or no pair is alike")
        require_priors(self.priors)
        require_share("suspects.prior", self.wrong)

    @classmethod
    def of(cls, config: DictConfig) -> Merits:
        """As the configuration of `rsca compare` says.

        Raises:
            InputError: for a word or a number out of range.
        """
        given: dict[str, Any] = {"wrong": config.suspects.prior}
        if config.alike is not None:
            given |= {"alike": config.alike.column, "within": config.alike.within}
        if config.calibration is not None:
            given |= {"calibrate": config.calibration.of, "priors": tuple(config.calibration.priors)}
        further = {str(name): hydra.utils.instantiate(merit) for name, merit in config.figures_of_merit.items()}
        return cls(further, **given)

    def calibrates(self, is_judged: bool, is_trained: bool) -> bool:
        """Whether such a learner's likelihood ratios are calibrated."""
        least = "all" if is_trained else "judged" if is_judged else "closed_forms"
        return CALIBRATED.index(self.calibrate) >= CALIBRATED.index(least)

    def alike_pairs(self, members: Stars, field: Stars) -> NDArray[np.bool_] | None:
        """(M, F) the pairs that are alike; None where the survey does not know. An unknown value is like no other.

        Raises:
            InputError: where the column holds text.
        """
        tables = (members, field)
        if self.alike is None or not all(stars.has(self.alike) or self.alike in stars.colnames for stars in tables):
            return None
        member, stranger = (stars.values(self.alike) for stars in tables)
        if not member.dtype.kind == stranger.dtype.kind == "f":
            raise InputError(f"alike.column={self.alike} holds text: a column of numbers expected, or alike=null")
        return np.asarray(np.abs(member[:, None] - stranger) < self.within)
