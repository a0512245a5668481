"""A small survey for the paper's experiments, and how it can be broken."""

from __future__ import annotations

import copy
import runpy
from dataclasses import replace
from types import SimpleNamespace

import hydra
import numpy as np
from rich.progress import Progress

from rsca_torch.cli import CONFIG
from rsca_torch.learners import ScaledComponents
from rsca_torch.reproduction import EXPERIMENTS
from rsca_torch.simulated_store import simulated_store
from rsca_torch.study import Study


def script(name):
    return SimpleNamespace(**runpy.run_path(str(EXPERIMENTS / "paper" / f"{name}.py")))


def study_of(folder, *overrides):
    settings = (f"simulated={folder}", "compressor.tolerance=1e-3", "compressor.n_components=12", "checkpoints=null")
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = hydra.compose("reproduce", [*settings, *overrides])
    return Study(config, simulated_store(config), Progress(disable=True))


def with_learner(study, make_learner):
    other = copy.copy(study)
    other.make_learner = make_learner
    return other


def with_columns(study, name, of_field, of_members):
    """The same stars with other values of a column of the star table."""
    other = copy.copy(study)
    other.field, other.members = copy.copy(study.field), copy.copy(study.members)
    for part, values in ((other.field, of_field), (other.members, of_members)):
        part.stars = part.stars.copy()
        part.stars[name] = values
    stars = {"field_stars": other.field.stars, "member_stars": other.members.stars}
    other._compressed = {number: replace(on, **stars) for number, on in study._compressed.items()}
    return other


def without_column(study, name):
    """The same stars, and a star table without that column."""
    other = copy.copy(study)
    other.field, other.members = copy.copy(study.field), copy.copy(study.members)
    for part in (other.field, other.members):
        part.stars = part.stars.copy()
        part.stars.remove_column(name)
    return other


class Shuffled(ScaledComponents):
    """Told clusters that tell nothing."""

    def initialise(self, field, members, clusters, summary=None):
        super().initialise(field, members, np.random.default_rng(len(clusters)).permutation(clusters), summary)
