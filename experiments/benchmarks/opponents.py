"""Programs of today beside ours, on simulated surveys: `python experiments/benchmarks/opponents.py [--python ...]`.

Step 1: ppca-rs, ppca-py, rustypca and robusta-hmf, and ours, at the same K, on the same field with 5 % of the valid
bins hidden. Printed are the log-likelihood per valid bin of the exact model at their end, that of the hidden bins given
the other bins of their star, what it took, and the rate of RSCA (floor=none) on the latents. Step 2: LDA with OAS
shrinkage and NCA of scikit-learn and RCA of metric-learn, and RSCA, on the same latents and folds.

Names of packages clash, so each has an environment of its own; opponents_worker.py runs there and needs nothing else.
What is not given is not run, and what fails stands in the table with its error:

    for name in ppca-rs==0.5.1 ppca-py==1.0.4 rustypca==0.2.0 robusta-hmf==0.0.2 "metric-learn==0.7.0 scikit-learn<1.8"
    do python -m venv others/${name%%=*} && others/${name%%=*}/bin/pip install $name; done
    OMP_NUM_THREADS=1 python experiments/benchmarks/opponents.py --others others

Log-likelihoods are of the exact model that leaves invalid bins out (`MaskedPPCA`). Bins farther than 5 standard
deviations from a model of measured noise count as if they lay there, as in step 1 itself (eq. 1.12), and so do hidden
bins of all programs: one cosmic ray would decide all. Seconds are the processor's, all threads together, of the fit
alone, each program with its own defaults.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from opponents_learners import print_learners
from torch import Tensor

from rsca_torch.cli.main import CONFIG
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.representation import compared_values
from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.spectra.blocks import Arrays
from rsca_torch.survey.simulated.store import simulated_store

CLIP = 5.0
HIDDEN = 0.05  # of the valid bins
OTHERS = ("ppca-rs", "rustypca", "robusta-hmf", "ppca-py")
OURS = {"noise": "measured+scatter", "clip": CLIP, "tolerance": 1e-4, "products": "float32"}
#: row: settings of `fit_ppca`
FITS = {
    "ours, isotropic": {**OURS, "noise": "isotropic", "clip": None},
    "ours, measured+scatter, clip 5": OURS,
}
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


@dataclass(frozen=True)
class Problem:
    """Spectra, (N, P), of every so-manieth bin of a survey, some of the field's hidden."""

    flux: Tensor
    sigma: Tensor
    valid: Tensor
    hidden: Tensor
    members: Arrays
    clusters: np.ndarray
    allowed: Tensor

    @classmethod
    def of(cls, assembly: Assembly, every: int, seed: int) -> Problem:
        """Of a survey."""
        survey = assembly.store
        field, members = (survey.spectra(which) for which in (~survey.is_member, survey.is_member))
        flux, valid, sigma = (part[:, ::every] for part in field.read(slice(0, len(field))))
        theirs = Arrays(*(part[:, ::every] for part in members.read(slice(0, len(members)))))
        drawn = torch.from_numpy(np.random.default_rng(seed).random(tuple(flux.shape)))
        values = zip(*(compared_values(assembly.pairs, part.stars) for part in (members, field)), strict=True)
        allowed = assembly.pairs(*(column for of_both in values for column in of_both))
        clusters = np.asarray(members.stars.group, dtype=str)
        return cls(flux, sigma, valid, valid & (drawn < HIDDEN), theirs, clusters, allowed)

    def write(self, folder: Path) -> None:
        """For the worker."""
        flux, valid, sigma = self.members.read(slice(0, len(self.members)))
        for name, part in {
            "flux": self.flux,
            "sigma": self.sigma,
            "valid": self.valid & ~self.hidden,
            "members_flux": flux,
            "members_sigma": sigma,
            "members_valid": valid,
        }.items():
            np.save(folder / f"{name}.npy", part.numpy())

    def judged(self, found: dict[str, np.ndarray]) -> tuple[float, float, float]:
        """Log-likelihood a valid bin of the exact model, a hidden bin, and the rate of RSCA."""
        model = model_of(found)
        seen = Arrays(self.flux, self.valid & ~self.hidden, self.sigma)
        likelihood = model.log_likelihood(self.flux, seen.valid, self.sigma) / int(seen.valid.sum())
        embedding = model.embed(seen, covariances=True)
        hidden = self._of_hidden(model, embedding.latents, embedding.covariances)
        field, members = embedding.latents, model.latents(self.members)
        if "field" in found:
            field, members = (torch.from_numpy(found[which]) for which in ("field", "members"))
        rate = leave_one_cluster_out(paper_rsca, field, members, self.clusters, self.allowed).rate
        return likelihood, hidden, rate

    def _of_hidden(self, model: MaskedPPCA, latents: Tensor, covariances: Tensor | None) -> float:
        assert covariances is not None
        loadings, total = model.loadings, 0.0
        own = self.sigma.double().square() * (model.noise_variance is None)
        for star, bins in enumerate(self.hidden):
            there = loadings[bins]
            variance = ((there @ covariances[star]) * there).sum(1) + model.scatter[bins] + own[star, bins]
            far = (self.flux[star, bins].double() - there @ latents[star] - model.mean[bins]).square() / variance
            total -= 0.5 * float((far.clamp(max=CLIP**2) + variance.log() + math.log(2 * math.pi)).sum())
        return total / int(self.hidden.sum())


def paper_rsca() -> ScaledComponents:
    """Steps 2 to 4 as the paper has them."""
    return ScaledComponents(robust=True, floor=None, trim=None)


def model_of(found: dict[str, np.ndarray]) -> MaskedPPCA:
    """What a program found, as the exact model: isotropic where it has a variance, else with measured noise."""
    loadings, mean = (torch.from_numpy(np.asarray(found[name])).double() for name in ("loadings", "mean"))
    if "variance" in found:
        variance = torch.from_numpy(np.asarray(found["variance"])).double().expand(len(mean)).contiguous()
        return MaskedPPCA(loadings, mean, variance, float(variance.nanmean()))
    scatter = torch.from_numpy(found["scatter"]) if "scatter" in found else torch.zeros_like(mean)
    return MaskedPPCA(loadings, mean, scatter + 1e-4, None, scatter=scatter, clip=CLIP)


def interpreter(others: Path | None, program: str) -> Path | None:
    """Of the environment that has the program, if there is one."""
    path = None if others is None else others / program / "bin" / "python"
    return path if path is not None and path.exists() else None


def run(python: Path, program: str, folder: Path, settings: dict[str, object]) -> dict[str, np.ndarray]:
    """What the worker found.

    Raises:
        RuntimeError: with the last line of what it said, where it failed.
    """
    worker = Path(__file__).with_name("opponents_worker.py")
    command = [str(python), str(worker), program, str(folder), json.dumps(settings)]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | ONE_THREAD)
    except subprocess.CalledProcessError as error:
        if error.returncode == -signal.SIGXCPU:
            raise RuntimeError(f"not done in {settings['limit']:.0f} s") from None
        raise RuntimeError((error.stderr.strip().splitlines() or [f"exit {error.returncode}"])[-1]) from None
    with np.load(folder / f"{program}.npz") as kept:
        return dict(kept)


def print_step_1(problem: Problem, given: argparse.Namespace, of: str) -> None:
    """A row a program, in one folder."""
    print(f"\n{of}: {len(problem.flux)} field stars x {problem.flux.shape[1]} bins, K = {given.components[0]}\n")
    print("| program | log-likelihood per valid bin | per hidden bin | RSCA's rate, % | CPU, s | ratio | memory, GB |")
    print("|---|---|---|---|---|---|---|")
    runs = [(name, Path(sys.executable), "ours", settings) for name, settings in FITS.items()]
    for name in OTHERS:
        python = interpreter(given.others, name)
        if python is not None and name not in given.without:
            runs.append((name, python, name, {}))
    first, limits = None, {"memory": given.memory, "limit": given.limit}
    with tempfile.TemporaryDirectory() as folder:
        problem.write(Path(folder))
        for name, python, program, settings in runs:
            wanted = {"components": given.components[0], **limits, **settings}
            try:
                found = run(python, program, Path(folder), wanted)
            except RuntimeError as error:
                print(f"| {name} | {error} | | | | | |", flush=True)
                continue
            likelihood, hidden, rate = problem.judged(found)
            seconds, first = float(found["processor"]), first or float(found["processor"])
            said = name if program == "ours" else str(found["version"])
            steps = f" ({int(found['iterations'])} iterations)" if "iterations" in found else ""
            print(
                f"| {said}{steps} | {likelihood:.4f} | {hidden:.4f} | {100 * rate:.2f} "
                f"| {seconds:.2g} | {seconds / first:.3g} | {float(found['memory']):.2f} |",
                flush=True,
            )


def assembly_of(seed: int, given: argparse.Namespace) -> Assembly:
    """A simulated survey, and step 1 as `compressor=ppca` had it in docs/noise.md, whatever the default is now."""
    folder = given.folder
    kept = [f"seed={seed}", f"simulated={folder}/surveys/seed-{seed}", f"checkpoints={folder}/step-1"]
    options = ["compressor=ppca", "compressor.n_components=30", *(f"compressor.{name}={OURS[name]}" for name in OURS)]
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = compose("compare", [*options, *kept, *(given.overrides or ["simulation.repeats=600"])])
    return Assembly(config, simulated_store(config))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", type=Path, help="folder of environments, each named as its package")
    parser.add_argument("--without", nargs="*", default=[], help="programs that are not run")
    parser.add_argument("--step", type=int, choices=[1, 2], nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--components", type=int, nargs="+", default=[30, 60], help="the first in step 1")
    parser.add_argument("--every", type=int, default=3, help="so-manieth bin in step 1: some programs are slow")
    parser.add_argument("--memory", type=float, default=8, help="of one program at most [GB]")
    parser.add_argument("--limit", type=float, default=600, help="of one program [s of the processor]")
    parser.add_argument("--folder", type=Path, default=Path("runs/opponents"))
    parser.add_argument("overrides", nargs="*", help="of the survey; the default: simulation.repeats=600")
    given = parser.parse_intermixed_args(arguments)
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    surveys = [assembly_of(seed, given) for seed in range(given.seeds)]
    if 1 in given.step:
        for seed, survey in enumerate(surveys):
            print_step_1(Problem.of(survey, given.every, seed), given, f"seed {seed}")
    if 2 in given.step:
        python = interpreter(given.others, "metric-learn")
        rca = (
            None
            if python is None
            else lambda folder: run(python, "rca", folder, {"memory": given.memory, "limit": given.limit})
        )
        print_learners(surveys, given.components, rca)


if __name__ == "__main__":
    main()
