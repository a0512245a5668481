"""What the noise of every bin is worth: `python experiments/noise/rates.py [--seeds 8] [--folder runs/noise]`.

Compresses simulated surveys in several ways, judges each by RSCA's doppelganger rate, leaving one cluster out, with the
same pairs, and prints, as Markdown, the mean and range over surveys and the ratio to the compression that the authors
used (pyppca: isotropic, random start, relative tolerance 1e-4, fitted on members too), with the 68 % interval of a
bootstrap over the clusters of all surveys. What is there is not computed again. Needs
`pip install "rsca_torch[benchmarks]"`.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from rsca_torch.cli.main import CONFIG
from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.doppelganger import allowed_pairs
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.nested_choice import nested_leave_one_cluster_out
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.files.whole import atomic_file
from rsca_torch.learners import Averaged, ScaledComponents
from rsca_torch.ppca.fit import fit_ppca
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.spectra.blocks import Joined
from rsca_torch.spectra.spectra import Spectra
from rsca_torch.survey.simulated.store import simulated_store
from rsca_torch.survey.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from authors_compression import compress as authors_compression

AUTHORS = "authors' program (pyppca)"
CLIP = 5.0


@dataclass(frozen=True)
class Compression:
    """One way to compress."""

    noise: str
    n_components: int
    clip: float | None = None
    on_members: bool = False  # fitted on the members too, as the authors do

    @property
    def name(self) -> str:
        """In the table."""
        clip = "" if self.clip is None else f", clip {self.clip:g}"
        stars = ("", ", on members too") if self.noise != AUTHORS else (", on the field alone", "")
        return f"{self.noise}{clip}{stars[self.on_members]}, K = {self.n_components}"


@dataclass(frozen=True)
class Survey:
    """A simulated survey."""

    field: Spectra
    members: Spectra

    @classmethod
    def of(cls, store: Store) -> Survey:
        """Its stars."""
        return cls(store.spectra(~store.is_member), store.spectra(store.is_member))

    @property
    def clusters(self) -> np.ndarray:
        """(M,) labels."""
        return np.asarray(self.members.stars["CLUSTER"], dtype=str)

    def allowed(self) -> Tensor:
        """(M, F) bool."""
        columns = ("VHELIO_AVG", "AK_TARG")
        stars = (self.members.stars, self.field.stars)
        return allowed_pairs(*(torch.from_numpy(np.asarray(s[c], dtype=float)) for c in columns for s in stars))


Latents = tuple[Tensor, Tensor]


def compressed(
    survey: Survey, how: Compression, file: Path, start: MaskedPPCA | None, tolerance: float
) -> tuple[Latents, MaskedPPCA | None]:
    """(field, members) latents, kept in a file; and the model where it was fitted just now."""
    if file.exists():
        kept = torch.load(file, weights_only=True)
        return (kept["field"], kept["members"]), None
    began = time.perf_counter()
    model = None
    source = Joined(survey.field, survey.members) if how.on_members else survey.field
    if how.noise == AUTHORS:
        flux, valid, _ = source.read(slice(0, len(source)))
        done = authors_compression(flux.numpy(), valid.numpy(), how.n_components, 0, "pyppca")
        if how.on_members:
            completed = torch.from_numpy(done.centred @ done.basis)
            field, members = completed[: len(survey.field)], completed[len(survey.field) :]
        else:  # it completes the spectra that it is fitted on, and no others
            theirs = done.model(valid.numpy())
            field, members = theirs.latents(survey.field), theirs.latents(survey.members)
    else:
        model = fit_ppca(
            source,
            n_components=how.n_components,
            noise=how.noise,
            tolerance=tolerance,
            max_iterations=200,
            clip=how.clip,
            products="float32",
            start=start,
        )
        field, members = model.latents(survey.field), model.latents(survey.members)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as part:
        torch.save({"field": field, "members": members, "seconds": time.perf_counter() - began}, part)
    return (field, members), model


def judged(survey: Survey, latents: Sequence[Latents]) -> LOCOResult:
    """RSCA's rates; of several latents the squared distances are averaged."""
    widths = [members.shape[1] for _, members in latents]
    field, members = (torch.cat(parts, dim=1) for parts in zip(*latents, strict=True))
    return leave_one_cluster_out(
        ScaledComponents if len(widths) == 1 else lambda: Averaged(widths),
        field,
        members,
        survey.clusters,
        survey.allowed(),
    )


def ratio(a: list[LOCOResult], b: list[LOCOResult], draws: int = 10_000) -> tuple[float, float, float]:
    """(ratio of the mean rates of a and b over surveys, 16 % and 84 % quantiles over clusters drawn anew)."""
    labels = [list(one.members) for one in a]
    rates = [
        np.array([[result.cluster_rates[cluster] for cluster in names] for result in pair])
        for *pair, names in zip(a, b, labels, strict=True)
    ]
    sizes = [np.array([one.members[c] for c in names], dtype=float) for one, names in zip(a, labels, strict=True)]
    rng = np.random.default_rng(0)
    means = np.zeros((2, draws + 1))
    for rate, size in zip(rates, sizes, strict=True):
        known = np.isfinite(rate).all(0)
        rate, size = rate[:, known], size[known]
        drawn = np.vstack([np.arange(len(size)), rng.integers(len(size), size=(draws, len(size)))])
        means += (rate[:, drawn] * size[drawn]).sum(-1) / size[drawn].sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):  # clusters may be drawn in which b has no doppelganger
        quotients = means[0] / means[1]
    return float(quotients[0]), *(float(q) for q in np.nanquantile(quotients[1:], [0.16, 0.84]))


def print_table(what: str, surveys: Sequence[dict[str, LOCOResult]], first: str, to: str) -> None:
    """As Markdown, a row for each that all surveys have; ratios are to `first`, which `to` names."""
    print(f"| {what} | rate, %: mean (range over surveys) | ratio to {to} (68 %) | surveys won |")
    print("|---|---|---|---|")
    for name in surveys[0]:
        rates = 100 * np.array([survey[name].rate for survey in surveys])
        quotient, low, high = ratio([survey[name] for survey in surveys], [survey[first] for survey in surveys])
        won = sum(survey[name].rate < survey[first].rate for survey in surveys)
        print(
            f"| {name} | {rates.mean():.2f} ({rates.min():.2f}-{rates.max():.2f}) "
            f"| {quotient:.2f} ({low:.2f}-{high:.2f}) | {'' if name == first else f'{won} of {len(surveys)}'} |",
            flush=True,
        )


def rates_of(
    seed: int, folder: Path, numbers: Sequence[int], tolerance: float, small: Sequence[str]
) -> dict[str, LOCOResult]:
    """Of every compression of one survey."""
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        config = compose("compare", [f"seed={seed}", f"simulated={folder}/surveys/seed-{seed}", *small])
    survey = Survey.of(simulated_store(config))
    paper = min(30, max(numbers))
    both = [Compression(noise, paper, on_members=on) for noise in (AUTHORS, "isotropic") for on in (True, False)]
    alone = [*both, *(Compression(noise, paper) for noise in ("measured", "measured+scatter"))]
    results, model, kept = {}, None, {}
    for how in [*alone, *(Compression("measured+scatter", k, CLIP) for k in sorted(numbers, reverse=True))]:
        began = time.perf_counter()
        file = folder / f"seed-{seed}" / f"{how.name.replace(' ', '_')}, {tolerance:g}.pt"
        latents, fitted = compressed(survey, how, file, model if how.clip else None, tolerance)
        if how.clip:
            model, kept[how.n_components] = fitted, latents
        results[how.name] = judged(survey, [latents])
        rate, seconds = 100 * results[how.name].rate, time.perf_counter() - began
        print(f"seed {seed}: {how.name}: {rate:.3f} % ({seconds:.0f} s)", flush=True)
    pairs = [two for two in [(20, 30), (15, 25), (20, 40), (20, 25, 30), (15, 20, 25, 30)] if set(two) <= set(kept)]
    for several in pairs:
        results[f"average of K = {', '.join(map(str, several))}"] = judged(survey, [kept[k] for k in several])
    nested = nested_leave_one_cluster_out(ScaledComponents, kept, survey.clusters, survey.allowed())
    print(f"seed {seed}: auto chose {sorted(nested.chosen.values())}, on all clusters {nested.best}", flush=True)
    return results | {"K = auto": nested.loco}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--components", type=int, nargs="+", default=[10, 15, 20, 25, 30, 40])
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--folder", type=Path, default=Path("runs/noise"))
    parser.add_argument(
        "--baseline", help="the row that the ratios are to, as the table names it; the authors' program"
    )
    parser.add_argument("overrides", nargs="*", help="of the simulated survey, e.g. simulation.n_field=400")
    given = parser.parse_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    surveys = [
        rates_of(seed, given.folder, given.components, given.tolerance, given.overrides) for seed in range(given.seeds)
    ]
    first = given.baseline or next(iter(surveys[0]))
    if first not in surveys[0]:
        parser.error(f"--baseline: one of {'; '.join(surveys[0])} expected, got {first}")
    to = given.baseline or "the authors'"
    print_table("compression", surveys, first, to)


if __name__ == "__main__":
    main()
