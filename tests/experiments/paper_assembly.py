"""A small survey for the paper's experiments, and how it can be broken."""

from __future__ import annotations

import copy
from dataclasses import replace

import hydra
import numpy as np
import torch

from rsca_torch.cli.main import CONFIG
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.representation import Representation
from rsca_torch.learners import ScaledComponents
from rsca_torch.survey.simulated.store import simulated_store
from rsca_torch.survey.store import Store


def configured(command, *overrides):
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        return hydra.compose(command, list(overrides))


def assembly_of(folder, *overrides):
    quick = ["compressor.tolerance=1e-3", "compressor.n_components=12", "checkpoints=null"]
    config = configured("reproduce", f"simulated={folder}", *quick, *overrides)
    return Assembly(config, simulated_store(config) if config.store is None else Store.open(config.store))


def with_learner(assembly, make_learner):
    other = copy.copy(assembly)
    other.make_learner = make_learner
    return other


def with_columns(assembly, name, of_field, of_members):
    """The same stars with other values of a column of the star table; None: those that it has."""
    other = copy.copy(assembly)
    other.field, other.members = copy.copy(assembly.field), copy.copy(assembly.members)
    for part, values in ((other.field, of_field), (other.members, of_members)):
        part.stars = part.stars.copy()
        if values is not None:
            part.stars[name] = values
    stars = {"field_stars": other.field.stars, "member_stars": other.members.stars}
    other._made = {key: replace(on, **stars) for key, on in assembly._made.items()}
    return other


def with_clusters_of_field_stars(assembly):
    """Clusters of as many members as before, which are field stars drawn at random."""
    other, random = copy.copy(assembly), np.random.default_rng(0)
    labels = random.permutation(assembly.members.stars["CLUSTER"])
    chosen = random.permutation(len(assembly.field.stars)) < len(labels)
    rows = torch.from_numpy(chosen)
    members = assembly.field.stars[chosen]
    members["CLUSTER"] = labels
    stars = {"field_stars": assembly.field.stars[~chosen], "member_stars": members}
    other._made = {
        key: replace(on, field=on.field[~rows], members=on.field[rows], **stars) for key, on in assembly._made.items()
    }
    return other


def with_random_latents(assembly):
    """The same stars with spectra that say nothing."""
    other, random = copy.copy(assembly), torch.Generator().manual_seed(0)
    field, members = (
        torch.randn(z.shape, generator=random) for z in (assembly.spectra.field, assembly.spectra.members)
    )
    other._made = {(assembly.n_components, None): replace(assembly.spectra, field=field, members=members)}
    return other


def without_column(assembly, name):
    """The same stars, and a star table without that column."""
    other = copy.copy(assembly)
    other.field, other.members = copy.copy(assembly.field), copy.copy(assembly.members)
    for part in (other.field, other.members):
        part.stars = part.stars.copy()
        part.stars.remove_column(name)
    return other


class Shuffled(ScaledComponents):
    """Told clusters that tell nothing."""

    def initialise(self, field, members, clusters, summary=None):
        super().initialise(field, members, np.random.default_rng(len(clusters)).permutation(clusters), summary)


def with_pca(assembly, numbers):
    """The same stars by plain PCA of the field: fitted in a second, and as prone to noise as the paper's."""
    other = copy.copy(assembly)
    parts = [assembly.store.spectra(rows) for rows in (~assembly.store.is_member, assembly.store.is_member)]
    field, members = (np.where(part.valid.numpy(), part.flux.numpy(), np.nan) for part in parts)
    centre = np.nanmean(field, axis=0)
    field, members = (np.nan_to_num(flux - centre).astype(float) for flux in (field, members))
    axes = np.linalg.svd(field, full_matrices=False)[2].T
    latents = [torch.from_numpy(flux @ axes) for flux in (field, members)]
    other._made = {
        (number, start): Representation("spectra", *(z[:, :number] for z in latents), *(part.stars for part in parts))
        for number in numbers
        for start in (*numbers, assembly.n_components, None)
    }
    return other
