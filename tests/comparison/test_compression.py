"""Step 1 as a configuration says, and the name under which a fit is kept."""

from __future__ import annotations

import hydra
import torch

from rsca_torch import fit_ppca
from rsca_torch.comparison import compression
from rsca_torch.comparison.compression import Compression
from rsca_torch.comparison.progress import Silence
from rsca_torch.learners.registry import CONFIG
from rsca_torch.spectra.spectra import Spectra
from rsca_torch.testing import drawn_problem


def name_of(*options, n_components=3, start=None, checksum="store"):
    """Of the checkpoint of a fit with these options."""
    with hydra.initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = hydra.compose("fit", ["out=x", *options])
    made = Compression(config.compressor, config.em_loop, "kept", checksum, Silence())
    return made.checkpoint_name(Spectra(torch.ones(3, 4)), n_components, start)


def test_whatever_can_change_a_fit_is_in_its_name(monkeypatch):
    flux = drawn_problem().field
    starts = [fit_ppca(flux, n_components=3, noise=noise, tolerance=1e-2) for noise in ("isotropic", None)]
    names = [
        name_of(),
        name_of(checksum="other"),
        name_of(n_components=4),
        name_of("compressor.tolerance=1e-5"),
        name_of("+trainer.precision=64-true"),
        name_of("trainer.devices=2"),
        name_of("trainer=gpu"),
        name_of("+trainer.deterministic=true"),
        name_of("em_loop._target_=somebodys.Loop"),
        name_of(start=starts[0]),
    ]
    starts[0].scatter.add_(1)
    names.append(name_of(start=starts[0]))
    monkeypatch.setattr(compression, "code_of", lambda _: "another program")
    names.append(name_of())
    assert len(set(names)) == len(names)


def test_what_cannot_change_a_fit_is_not():
    assert name_of() == name_of("compressor.max_iterations=7", "out=elsewhere", "checkpoints=null", "learner=nca")
