"""The simulated survey: everything drawn, written and moved into place in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.files.places import is_free, remove_left
from rsca_torch.files.whole import atomic_folder
from rsca_torch.survey.apogee import GRID
from rsca_torch.survey.apogee_catalogue import spectrum_files
from rsca_torch.survey.simulated.catalogue import Columns, Pipeline, all_star
from rsca_torch.survey.simulated.companions import Companions
from rsca_torch.survey.simulated.detector import Detector
from rsca_torch.survey.simulated.faint_lines import FaintLines
from rsca_torch.survey.simulated.files import (
    FAULTS,
    member_candidates,
    write_catalogue,
    write_memberships,
    write_spectrum,
)
from rsca_torch.survey.simulated.groups import Groups, is_grouped
from rsca_torch.survey.simulated.mwm_files import MwmFiles
from rsca_torch.survey.simulated.release import RELEASES, Release
from rsca_torch.survey.simulated.repeats import REPEAT, Repeats
from rsca_torch.survey.simulated.spectra import Flux, OfStar, Synthesis
from rsca_torch.survey.simulated.stars import Population

__all__ = ["SimulatedSurvey"]

#: Spectra that are made at once: 40 MB of them.
BLOCK = 128

REPEATS_PER_STAR = 35_836 / 437_485  # DR16's further observations; its stars


@dataclass(frozen=True)
class SimulatedSurvey:
    """A survey of giants in the field and in 22 open clusters, written as the archive's own files.

    Attributes:
        n_field: field stars that pass the paper's cuts (about: faint cerium costs a few); at least 6.
        release: dr13, dr14, dr16, dr17 or dr19: from one seed the same stars in each.
        faults: damage six files in six ways.
        repeats: further observations of field stars and members; however many, what is observed first is the same
            to the last bit. None: 82 for a thousand field stars, as many as DR16 has (35,836 of 437,485 stars).
        stars: who is observed.
        again: what further observations are like.
        groups: wide binaries and moving groups; however many, what is observed besides is the same to the last bit.
        companions: which stars are binaries.
        pipeline: how well they are measured.
        synthesis: how labels become flux.
        faint_lines: what the line list lacks.
        detector: noise and censoring.
        further_files: of dr19 what is written beside mwmStar: "visits", "aspcap".

    Raises:
        InputError: an unknown release, no field stars, a negative number of repeats, or files that the release has not.
    """

    n_field: int = 3000
    release: str = "dr16"
    faults: bool = False
    repeats: int | None = None
    stars: Population = field(default_factory=Population)
    again: Repeats = field(default_factory=Repeats)
    groups: Groups = field(default_factory=Groups)
    companions: Companions = field(default_factory=Companions)
    pipeline: Pipeline = field(default_factory=Pipeline)
    synthesis: Synthesis = field(default_factory=Synthesis)
    faint_lines: FaintLines = field(default_factory=FaintLines)
    detector: Detector = field(default_factory=Detector)
    further_files: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.release not in RELEASES:
            raise InputError(f"release must be one of {', '.join(RELEASES)}, got {self.release!r}")
        if self.release == "dr19" and self.faults:
            raise InputError("faults=true is of aspcapStar files (dr13 to dr17); dr19 has missing files of its own")
        if self.further_files and self.release != "dr19":
            raise InputError(f"further_files={list(self.further_files)} are of release=dr19, got {self.release}")
        if self.n_field < len(FAULTS):
            raise InputError(f"n_field must be at least {len(FAULTS)}, got {self.n_field}")
        if self.n_repeats < 0:
            raise InputError(f"repeats must not be negative, got {self.repeats}")

    @property
    def n_repeats(self) -> int:
        """How many further observations there are."""
        return round(REPEATS_PER_STAR * self.n_field) if self.repeats is None else self.repeats

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
            remove_left(root)
            raise InputError(
                f"{root} holds something already; choose another place for the simulated survey, or remove it"
            )
        try:
            with atomic_folder(root) as partial:
                return self._write(partial, seed, progress)
        except OSError as error:
            raise InputError(f"{root} cannot be written ({error.strerror or error}); choose another place") from error

    def _write(self, root: Path, seed: int, progress: Callable[[int, int], None] | None) -> Table:
        release = RELEASES[self.release]
        seeds = np.random.SeedSequence(seed).spawn(4)
        drawing, measuring, belonging = (np.random.default_rng(s) for s in seeds[:3])
        stars = self.draw(drawing)
        stars["FAULT"] = np.full(len(stars), "", dtype="U10")
        if self.faults:
            stars["FAULT"][np.flatnonzero(stars["ROLE"] == "field")[: len(FAULTS)]] = FAULTS
        measured = self._measure(stars, release, measuring)
        self.groups.write(root, stars)
        if self.release == "dr19":
            self._write_mwm(MwmFiles(root, stars, measured, self.further_files), belonging, seeds[3], progress)
        else:
            columns = all_star(stars, measured, release)
            write_catalogue(root, columns, release)
            write_memberships(root, stars, measured, release, belonging)
            self._write_spectra(root, stars, columns, release, seeds[3], progress)
        stars.meta.clear()
        stars.write(root / "truth.fits")
        return stars

    def draw(self, rng: np.random.Generator) -> Table:
        """Draw the survey's observations, with all that its switches add.

        Args:
            rng: source of every draw.

        Returns:
            As `Population.draw`; further observations have the role "repeat".
        """
        stars = self.stars.draw(self.n_field, rng)
        hiding, pairing, choosing, turning, joining = rng.spawn(5)
        if self.faint_lines.number:
            self.faint_lines.draw(stars, hiding)
        if self.companions.share:
            self.companions.draw(stars, pairing)
        if self.n_repeats:
            again = self.again.draw(stars, self.n_repeats, choosing)
            if self.companions.share:
                self.companions.move(again, turning)
            stars = vstack([stars, again], metadata_conflicts="silent")
            stars = stars[np.argsort(stars["RA"], kind="stable")]
        if self.groups:
            stars = vstack([stars, self._siblings(stars, joining)], metadata_conflicts="silent")
            stars["GROUP"] = stars["GROUP"].filled("")
            stars = stars[np.argsort(stars["RA"], kind="stable")]
        return stars

    def _siblings(self, stars: Table, rng: np.random.Generator) -> Table:
        """The stars of wide binaries and moving groups, with all that the switches add."""
        siblings = self.groups.draw(stars, self.stars, rng)
        hiding, pairing = rng.spawn(2)
        if self.faint_lines.number:
            siblings["CLUSTER"] = siblings["GROUP"]  # whose birth is shared
            self.faint_lines.draw(siblings, hiding)
            siblings["CLUSTER"] = ""
        if self.companions.share:
            self.companions.draw(siblings, pairing)
        if "INTERLOPER" in stars.colnames:
            siblings["INTERLOPER"] = False
        return siblings

    def _measure(self, stars: Table, release: Release, rng: np.random.Generator) -> Table:
        """As `Pipeline.measure`; further observations and stars do not change what is measured of the others."""
        rows = _parts(stars)
        measured = [
            self.pipeline.measure(stars[part], release, own)
            for part, own in zip(rows, (rng, *rng.spawn(2)), strict=True)
            if len(part)
        ]
        return vstack(measured)[np.argsort(np.concatenate(rows))]

    def observe(
        self, stars: Table, seed: np.random.SeedSequence
    ) -> Iterator[tuple[NDArray[np.int64], Flux, Flux, Flux]]:
        """Spectra block by block: first those of the stars' first observations, then the further ones, then groups.

        Args:
            stars: N observations, from `draw` or `Population.draw`.
            seed: of the noise and of everything else that is not in ``stars``.

        Yields:
            (n,) rows of ``stars``, then the stars' flux without noise, the observed flux and the quoted error, each
            (n, 8575) float32.
        """
        parts = _parts(stars)
        blocks = [part[first : first + BLOCK] for part in parts for first in range(0, len(part), BLOCK)]
        shared, *own = seed.spawn(1 + len(blocks))
        nights = self.synthesis.draw_nights(int(stars["NIGHT"].max()) + 1, np.random.default_rng(shared))
        common: dict[str, OfStar] = {}
        for rows, block_seed in zip(blocks, own, strict=True):
            rng = np.random.default_rng(block_seed)
            of_star = self.synthesis.draw_own(len(rows), rng)
            if len(parts[1]):
                of_star = self.again.share(of_star, stars[rows], common, rng.spawn(1)[0])
            model = self._model(stars[rows], of_star)
            flux = self.synthesis.displace(model, rng) * self.synthesis.systematic(stars[rows], nights, of_star, rng)
            yield rows, model, *self.detector.expose(flux, stars[rows], RELEASES[self.release], rng)

    def _model(self, stars: Table, own: OfStar) -> Flux:
        """(n, 8575) what reaches the air: the stars with all their lines and companions."""
        flux = self._alone(stars, own)
        if "BINARY" in stars.colnames and (binary := np.flatnonzero(stars["BINARY"])).size:
            pairs = stars[binary]
            companions = self._alone(self.companions.labels(pairs), OfStar(*(values[binary] for values in own)))
            flux[binary] = self.companions.dilute(flux[binary], companions, pairs)
        return flux

    def _alone(self, stars: Table, own: OfStar) -> Flux:
        flux = self.synthesis.stellar(stars, own)
        return self.faint_lines.absorb(flux, stars) if self.faint_lines.number else flux

    def _write_mwm(
        self,
        files: MwmFiles,
        belonging: np.random.Generator,
        seed: np.random.SeedSequence,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        files.write_catalogue()
        files.write_members(member_candidates(files.stars, belonging))
        made = 0
        for rows, _, flux, error in self.observe(files.stars, seed):
            made += len(rows)
            files.write_spectra(rows, flux, error)
            if progress is not None:
                progress(made, len(files.stars))

    def _write_spectra(
        self,
        root: Path,
        stars: Table,
        columns: Columns,
        release: Release,
        seed: np.random.SeedSequence,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        paths = [root / file for file in spectrum_files(release.spectrum, stars)]
        for folder in {path.parent for path in paths}:
            folder.mkdir(parents=True, exist_ok=True)
        made = 0
        for rows, model, flux, error in self.observe(stars, seed):
            made += len(rows)
            model *= GRID.usable()
            for n, row in enumerate(rows):
                if stars["ROLE"][row] != "failed":  # no result, no file
                    spectrum = np.stack([flux[n], error[n], model[n]])
                    write_spectrum(paths[row], spectrum, columns, int(row), release, str(stars["FAULT"][row]))
            if progress is not None:
                progress(made, len(stars))


def _parts(stars: Table) -> tuple[NDArray[np.int64], ...]:
    """The rows of first observations, of further ones, and of stars of groups: each with random numbers of its own."""
    again, grouped = np.asarray(stars["ROLE"] == REPEAT), is_grouped(stars)
    return tuple(np.flatnonzero(part) for part in (~again & ~grouped, again, grouped))
