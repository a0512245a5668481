"""A store of a few hundred short spectra, made in a second: field, five clusters, repeats, velocities, extinctions."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from astropy.table import Table

from rsca_torch.survey.censoring import Censoring
from rsca_torch.survey.grid import Grid
from rsca_torch.survey.ingest import ingest
from rsca_torch.survey.reader import Listing, Measured, Reader
from rsca_torch.survey.survey import Survey

NUMBER = 4_611_686_018_427_387_904  # 2^62: a float of it would be another number for most stars
FIELD, CLUSTERS, SIZE, BINS = 160, "ABCDE", 5, 24


class Small(Reader):
    """Latents in four directions; siblings are alike in two; every fourth field star was observed again."""

    roles = MappingProxyType(
        {"id": "number", "group": "family", "velocity": "speed", "extinction": "dust", "snr": "snr"}
    )
    grid = Grid(np.linspace(5000, 5115, BINS))

    def __init__(self, root):
        super().__init__(root)
        rng = np.random.default_rng(3)
        family = np.array([""] * FIELD + [name for name in CLUSTERS for _ in range(SIZE)])
        latents = rng.normal(size=(len(family), 4))
        for name in CLUSTERS:
            latents[family == name] = rng.normal(size=4) + rng.normal(size=(SIZE, 4)) * [0.05, 0.1, 0.9, 0.9]
        row = np.concatenate([np.arange(len(family)), np.arange(0, FIELD, 4)])
        self.flux = 1 + 0.03 * (latents @ rng.normal(size=(4, BINS)))[row] + 0.01 * rng.normal(size=(len(row), BINS))
        self.valid = rng.random(self.flux.shape) > 0.05
        speed, dust = rng.uniform(-9, 9, len(family)), rng.uniform(0, 0.1, len(family))
        self.table = Table({
            "number": NUMBER + row, "family": family[row], "speed": speed[row], "dust": dust[row],
            "snr": np.where(np.arange(len(row)) < len(family), 100.0, 90.0), "FE_H": latents[row, 0] / 9,
            "FILE": [f"file{number}" for number in range(len(row))], "ROW": np.arange(len(row)),
        })  # fmt: skip

    def list_stars(self, columns):
        del columns
        return Listing(self.table)

    def read(self, star):
        number = int(star["ROW"])
        return Measured(self.flux[number], np.full(BINS, 0.01), self.valid[number])


def small_store(path):
    """The store in that folder, made there."""
    return ingest(Survey(path.parent, Small, censoring=Censoring(max_error=0.05)), path)
