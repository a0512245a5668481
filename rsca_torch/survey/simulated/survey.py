"""The simulated survey: everything drawn, written and moved into place in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.files import atomic_folder, is_free
from rsca_torch.survey.apogee import GRID
from rsca_torch.survey.simulated.catalogue import Columns, Pipeline, all_star
from rsca_torch.survey.simulated.detector import Detector
from rsca_torch.survey.simulated.files import FAULTS, write_catalogue, write_memberships, write_spectrum
from rsca_torch.survey.simulated.release import RELEASES, Release
from rsca_torch.survey.simulated.spectra import Flux, Synthesis
from rsca_torch.survey.simulated.stars import Population

__all__ = ["SimulatedSurvey"]

#: Spectra that are made at once: 40 MB of them.
BLOCK = 128


@dataclass(frozen=True)
class SimulatedSurvey:
    """A survey of giants in the field and in 22 open clusters, written as the archive's own files.

    Attributes:
        n_field: field stars that pass the paper's cuts (about: faint cerium costs a few); at least 6.
        release: dr16 or dr17.
        faults: damage six files in six ways.
        stars: who is observed.
        pipeline: how well they are measured.
        synthesis: how labels become flux.
        detector: noise and censoring.

    Raises:
        InputError: an unknown release or no field stars.
    """

    n_field: int = 3000
    release: str = "dr16"
    faults: bool = False
    stars: Population = field(default_factory=Population)
    pipeline: Pipeline = field(default_factory=Pipeline)
    synthesis: Synthesis = field(default_factory=Synthesis)
    detector: Detector = field(default_factory=Detector)

    def __post_init__(self) -> None:
        if self.release not in RELEASES:
            raise InputError(f"release must be one of {', '.join(RELEASES)}, got {self.release!r}")
        if self.n_field < len(FAULTS):
            raise InputError(f"n_field must be at least {len(FAULTS)}, got {self.n_field}")

    def write(self, root: str | Path, seed: int, progress: Callable[[int, int], None] | None = None) -> Table:
        """Write the survey as an archive-shaped tree below ``root``, and ``root/truth.fits`` beside it.

        The tree is written beside ``root`` and moved there at the end: a tree that is there is whole. The same seed
        gives the same bytes.

        Args:
            root: a directory that is not there yet, or is empty.
            seed: of every draw; not negative.
            progress: is told how many spectra of how many are made.

        Returns:
            The truth, one row an observation in the order of the catalogue.

        Raises:
            InputError: something is in ``root`` already, or it cannot be written.
        """
        if seed < 0:
            raise InputError(f"seed must not be negative, got {seed}")
        root = Path(root)
        if not is_free(root):
            raise InputError(
                f"{root} holds something already; choose another place for the simulated survey, or remove it"
            )
        try:
            with atomic_folder(root) as partial:
                return self._write(partial, seed, progress)
        except OSError as error:
            raise InputError(f"{root} cannot be written ({error.strerror}); choose another place") from error

    def _write(self, root: Path, seed: int, progress: Callable[[int, int], None] | None) -> Table:
        release = RELEASES[self.release]
        seeds = np.random.SeedSequence(seed).spawn(4)
        drawing, measuring, belonging = (np.random.default_rng(s) for s in seeds[:3])
        stars = self.stars.draw(self.n_field, drawing)
        stars["FAULT"] = np.full(len(stars), "", dtype="U10")
        if self.faults:
            stars["FAULT"][np.flatnonzero(stars["ROLE"] == "field")[: len(FAULTS)]] = FAULTS
        measured = self.pipeline.measure(stars, release, measuring)
        columns = all_star(stars, measured, release)
        write_catalogue(root, columns, release)
        write_memberships(root, stars, measured, release, belonging)
        self._write_spectra(root, stars, columns, release, seeds[3], progress)
        stars.meta.clear()
        stars.write(root / "truth.fits")
        return stars

    def observe(
        self, stars: Table, seed: np.random.SeedSequence
    ) -> Iterator[tuple[NDArray[np.int64], Flux, Flux, Flux]]:
        """Spectra block by block.

        Args:
            stars: N observations, from `Population.draw`.
            seed: of the noise and of everything else that is not in ``stars``.

        Yields:
            (n,) rows of ``stars``, then the stars' flux without noise, the observed flux and the quoted error, each
            (n, 8575) float32.
        """
        firsts = range(0, len(stars), BLOCK)
        shared, *own = seed.spawn(1 + len(firsts))
        nights = self.synthesis.draw_nights(int(stars["NIGHT"].max()) + 1, np.random.default_rng(shared))
        for first, block_seed in zip(firsts, own, strict=True):
            rows = np.arange(len(stars))[first : first + BLOCK]
            rng = np.random.default_rng(block_seed)
            model = self.synthesis.stellar(stars[rows], rng)
            flux = model * self.synthesis.systematic(stars[rows], nights, rng)
            yield rows, model, *self.detector.expose(flux, stars[rows], RELEASES[self.release], rng)

    def _write_spectra(
        self,
        root: Path,
        stars: Table,
        columns: Columns,
        release: Release,
        seed: np.random.SeedSequence,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        names = ("TELESCOPE", "FIELD", "APOGEE_ID")
        paths = [root / release.spectrum.format(**{name: star[name] for name in names}) for star in stars]
        for folder in {path.parent for path in paths}:
            folder.mkdir(parents=True, exist_ok=True)
        for rows, model, flux, error in self.observe(stars, seed):
            model *= GRID.usable()
            for n, row in enumerate(rows):
                if stars["ROLE"][row] != "failed":  # no result, no file
                    spectrum = np.stack([flux[n], error[n], model[n]])
                    write_spectrum(paths[row], spectrum, columns, int(row), release, str(stars["FAULT"][row]))
            if progress is not None:
                progress(int(rows[-1]) + 1, len(stars))
