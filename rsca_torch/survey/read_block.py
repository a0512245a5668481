"""A block of spectra, read from the survey's files: what one process reads of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.reader import Reader

__all__ = ["BlockReader", "ReadBlock"]


class ReadBlock(NamedTuple):
    """Spectra in the bins that are kept.

    Attributes:
        flux: (n, P) float32.
        error: (n, P) float32, infinite where the survey's own mask leaves a pixel out.
        valid: (n, P) bool.
        failed: place in the block -> why its spectrum cannot be used.
        faulty: file -> how many of its errors are zero, negative and not finite, where any is.
    """

    flux: NDArray[np.float32]
    error: NDArray[np.float32]
    valid: NDArray[np.bool_]
    failed: dict[int, str]
    faulty: dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class BlockReader:
    """Reads the spectra of some rows of the survey's star tables; may be sent to another process.

    Args:
        reader: of the survey's files.
        censoring: which measurements are valid.
        bins: (P,) the pixels that are kept.
    """

    reader: Reader
    censoring: Censoring
    bins: NDArray[np.int64]

    def __call__(self, tables: Sequence[Table]) -> ReadBlock:
        """Of all rows of these tables, one table after the other."""
        stars = [star for table in tables for star in table]
        flux, error = np.zeros((2, len(stars), len(self.bins)), dtype=np.float32)
        valid = np.zeros(flux.shape, dtype=bool)
        failed, faulty = dict[int, str](), dict[str, tuple[int, int, int]]()
        for place, star in enumerate(stars):
            try:
                read = self.reader.read(star)
            except UnusableFileError as problem:
                failed[place] = str(problem)
                continue
            flux[place], error[place] = read.flux[self.bins], read.error[self.bins]
            masked = slice(0) if read.valid is None else ~read.valid[self.bins]
            counted = flux[place].copy()
            counted[masked] = 0  # what the survey's own mask leaves out is not faulty
            if any(counts := self.censoring.faulty_errors(counted, error[place])):
                faulty[str(star["FILE"])] = counts
            error[place, masked] = np.inf
            valid[place] = self.censoring.valid(flux[place], error[place])
        return ReadBlock(flux, error, valid, failed, faulty)
