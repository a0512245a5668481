"""Step 1 as a configuration says: what is removed first, how many components, run by what, kept where."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from rsca_torch.comparison.progress import Progress
from rsca_torch.errors import InputError, NumericalWarning
from rsca_torch.evaluation.fold_files import code_of
from rsca_torch.evaluation.nested_choice import carried, different_numbers
from rsca_torch.learners import Identity
from rsca_torch.learners.learner import Learner
from rsca_torch.learners.registry import CONFIG
from rsca_torch.learners.scaled_components import ScaledComponents, require_dimensions
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.removal import Grouping, Removal
from rsca_torch.spectra.view import AnySpectra, View
from rsca_torch.survey.element_windows import inside, windows_of

__all__ = ["Compression", "grouping_of"]

log = logging.getLogger(__name__)

NOT_OF_A_FIT = ("candidates", "remove")  # options of conf/compressor that no fit depends on, or that are kept otherwise
NOT_OF_COMPRESS = (*NOT_OF_A_FIT, "windows")  # that `compress` itself does not take


@dataclass(frozen=True)
class Compression:
    """Fits step 1 to spectra of one store; every fit is kept after each iteration, and used again.

    Attributes:
        options: of conf/compressor.
        em_loop: of the command's configuration.
        checkpoints: folder in which fits are kept. None: nowhere.
        checksum: of the store.
        progress: is told of every iteration.
    """

    options: DictConfig
    em_loop: DictConfig
    checkpoints: str | None
    checksum: str
    progress: Progress

    @property
    def is_auto(self) -> bool:
        """Whether the number of components is to be chosen."""
        return bool(self.options.n_components == "auto")

    def windowed(self, spectra: View) -> View:
        """The spectra on the bins inside `compressor.windows`; as they are where none are given.

        Raises:
            InputError: where these are no windows, or fewer than two bins are inside.
        """
        asked = self.options.get("windows")
        if asked is None:
            return spectra
        asked = OmegaConf.to_object(asked) if OmegaConf.is_config(asked) else asked
        wavelength = spectra.wavelength
        kept = wavelength[torch.from_numpy(inside(wavelength.numpy(), windows_of(asked, CONFIG / "element_windows")))]
        if len(kept) < 2:
            raise InputError(
                f"compressor.windows={asked}: {len(kept)} of {len(wavelength)} bins of the store are inside, two are "
                f"needed; its bins are from {wavelength[0]:.2f} to {wavelength[-1]:.2f} Angstrom, vacuum"
            )
        return spectra.on(kept)

    def numbers(
        self,
        n_field: int,
        clusters: NDArray[np.str_],
        learner: Learner,
        groups: NDArray[np.str_] | None = None,
        n_bins: int | None = None,
    ) -> list[int]:
        """The numbers of components that are to be fitted, refused before the hard work where they cannot be judged.

        Args:
            n_field: field stars.
            clusters: (M,) labels of the members.
            learner: the judged one.
            groups: labels of the stars of other groups, which every fold has. None: there are none.
            n_bins: P of the spectra. None: more than there are stars.
        """
        given = self.options.candidates if self.is_auto else self.options.n_components
        numbers: list[int] = list(given) if OmegaConf.is_list(given) else [given]
        bounded = isinstance(learner, ScaledComponents) and learner.is_bounded  # then members carry any number
        most = n_field - 2 if n_bins is None else n_bins - 1
        if self.is_auto:
            return self._within(carried(numbers, n_field, None if bounded else clusters), most)
        if not different_numbers(numbers):
            raise InputError(
                f"compressor.n_components={given}: expected a whole number of at least 1, different ones such as "
                "[20, 30] to average over, or auto"
            )
        if max(numbers) > n_field - 2:
            raise InputError(
                f"compressor.n_components={given}: {n_field} field stars can carry at most {n_field - 2} components"
            )
        self._within([max(numbers)], most)
        if type(learner) is ScaledComponents and not bounded:
            for left_out in np.unique(clusters):  # what the smallest fold could not carry
                for number in numbers:
                    seen = clusters[clusters != left_out]
                    require_dimensions(number, n_field, seen if groups is None else np.concatenate([seen, groups]))
        return numbers

    def _within(self, numbers: list[int], most: int) -> list[int]:
        """Those that the bins carry."""
        some = [number for number in numbers if number <= most]
        if not some:
            raise InputError(
                f"compressor.n_components={max(numbers)}: spectra of {most + 1} bins carry at most {most} components; "
                "an element's windows carry few: compressor.n_components=5, say"
            )
        if len(some) < len(numbers):
            why = f"{most + 1} bins carry at most {most} components: left out are {sorted({*numbers} - {*some})}"
            warnings.warn(why, NumericalWarning, stacklevel=3)
        return some

    def fit(
        self, field: AnySpectra, members: AnySpectra, n_components: int, start: MaskedPPCA | None = None
    ) -> MaskedPPCA:
        """One fit, going on from where an earlier run of it was stopped.

        Args:
            field: F spectra.
            members: M spectra.
            n_components: K.
            start: a model of the same bins with more components to start from.
        """
        kept: Path | None = None
        if self.checkpoints is not None:
            kept = Path(self.checkpoints) / self.checkpoint_name(field, n_components, start)
        if kept is not None and kept.exists():
            log.info("going on with the fit in %s", kept)
        em_loop = hydra.utils.instantiate(self.em_loop, checkpoint=kept)
        ppca = self.fit_unkept(field, members, n_components=n_components, start=start, em_loop=em_loop)
        last = ppca.history[-1] - ppca.history[-2] if len(ppca.history) > 1 else float("nan")
        end = "converged" if ppca.converged else "NOT converged"
        said = "%d components %s after %d iterations at %.6f nats a bin, the last of which gained %.1e"
        log.info(said, ppca.n_components, end, len(ppca.history), ppca.history[-1], last)
        return ppca

    def fit_unkept(self, field: AnySpectra, members: AnySpectra, **options: Any) -> MaskedPPCA:
        """A fit that is not kept, of other spectra than the store's, say; in this process, if no `em_loop` is given.

        Args:
            field: F spectra.
            members: M spectra.
            options: of `rsca_torch.ppca.fit.compress`, in place of those of conf/compressor.
        """
        given = {name: value for name, value in self.options.items() if name not in NOT_OF_COMPRESS}
        compress = hydra.utils.instantiate(given, progress=self.progress.iteration)
        ppca: MaskedPPCA = compress(field, members, **options)
        return ppca

    def fit_some(self, field: AnySpectra, n_components: int) -> MaskedPPCA:
        """A fit of some field stars alone, in this process; it is not kept."""
        return self.fit_unkept(field, field, basis="inductive", n_components=n_components)

    def removal(self, field: AnySpectra) -> Removal | None:
        """What is to be taken out of all spectra, found in the field alone: no judged star has a part in it.

        Raises:
            InputError: as `Grouping` does, and where `compressor.remove` is neither a name nor a column and a width.
        """
        if self.options.remove is None:
            return None
        grouping = grouping_of(self.options.remove)
        n_components = grouping.components(field.stars)  # refuses before the hard work what it would refuse after
        log.info("what stars of like %s share: masked PPCA of %d spectra", grouping.column, len(field))
        inductive = replace(self, options=OmegaConf.create({**self.options, "basis": "inductive"}))
        ppca = inductive.fit(field, field, n_components)
        removal, chance = grouping.find(ppca, field)
        if not len(removal):
            why = (
                f"compressor.remove: stars of like {grouping.column} have no more in common than chance "
                f"({max(chance, grouping.least):.1%} of the variance of a dimension): nothing is removed"
            )
            warnings.warn(why, NumericalWarning, stacklevel=2)
            return None
        shares = ", ".join(f"{share:.1%}" for share in removal.shares.tolist())
        said = (
            "%d dimensions are removed, in which stars of like %s have %s of the variance in common (by chance %.1f%%)"
        )
        log.info(said, len(removal), grouping.column, shares, 100 * chance)
        return removal

    def checkpoint_name(self, field: AnySpectra, n_components: int, start: MaskedPPCA | None) -> str:
        """Of the file in which a fit is kept: all that it depends on, the program's own source too."""
        settings: dict[Any, Any] = {**self.options, "n_components": n_components, "store": self.checksum}
        settings["em_loop"] = OmegaConf.to_container(self.em_loop, resolve=True)
        for name in (*NOT_OF_A_FIT, "max_iterations"):  # a fit may go on for longer
            settings.pop(name, None)
        if field.removal is not None:
            settings["remove"] = grouping_of(self.options.remove)
        begun = hashlib.sha256()
        if start is not None:
            begun.update(str(start.noise_variance).encode())
            for tensor in start.buffers():
                begun.update(tensor.cpu().contiguous().numpy().data)
        content = json.dumps([code_of(Identity()), settings, begun.hexdigest()], sort_keys=True, default=str)
        return f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.ckpt"


def grouping_of(remove: str | DictConfig) -> Grouping:
    """What `compressor.remove` says: the name of one in conf/removal, or its arguments.

    Raises:
        InputError: where it is neither.
    """
    there = sorted(path.stem for path in (CONFIG / "removal").glob("*.yaml"))
    options = [option.name for option in fields(Grouping)]
    given: Any = OmegaConf.load(CONFIG / "removal" / f"{remove}.yaml") if remove in there else remove
    if not OmegaConf.is_dict(given) or "column" not in given or not {*given} <= {"_target_", *options}:
        raise InputError(
            f"compressor.remove={remove}: one of {', '.join(there)} expected, or {{column: NAME, width: NUMBER}} with "
            f"any of {', '.join(options)}"
        )
    return Grouping(**{str(name): value for name, value in given.items() if name != "_target_"})
