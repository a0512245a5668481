"""Step 2 of `opponents.py`: other packages' learners beside RSCA, on the same latents, pairs and folds."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.base import TransformerMixin
from sklearn.covariance import OAS
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NeighborhoodComponentsAnalysis
from torch import Tensor

from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.representation import Representation
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners.learner import Labels, Learner
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.spectra.arrays import Array, as_tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "noise"))
from rates import ratio

#: of scikit-learn, of so many dimensions at most: the members and their clusters in, a map out
TRANSFORMERS = {
    "scikit-learn LDA, OAS": lambda most: LinearDiscriminantAnalysis(
        solver="eigen", covariance_estimator=OAS(), n_components=most
    ),
    "scikit-learn NCA": lambda most: NeighborhoodComponentsAnalysis(init="lda", random_state=0, n_components=most),
}
#: RSCA as the paper has steps 2 to 4, and with the floor of repeats
RSCA = {
    "rsca, floor=none": {"robust": True, "floor": None, "trim": None},
    "rsca, floor=repeats sd, trim=2": {"robust": False, "floor": "repeats", "trim": 2.0},
}
#: gives what metric-learn found of a folder: the names of the clusters, and a map without each
Maps = Callable[[Path], dict[str, np.ndarray]]


class Theirs(Learner):
    """A transformer of scikit-learn as a learner: fitted on the members alone, as it is by its users."""

    depends_on_units = False  # it is given the latents as RSCA is, and not in units of flux

    def __init__(self, make: Callable[[int], TransformerMixin]) -> None:
        super().__init__()
        self.make = make

    def initialise(self, field: Array, members: Array, clusters: Labels, summary: object = None) -> None:  # noqa: ARG002
        """Of the members; LDA, with which NCA starts, has a dimension less than there are clusters."""
        latents, names = as_tensor(members).numpy(), np.asarray(clusters)
        self.of_theirs = self.make(min(latents.shape[1], len(np.unique(names)) - 1)).fit(latents, names)

    def forward(self, z: Array) -> Tensor:
        """(N, D)."""
        z = as_tensor(z)
        if not len(z):  # scikit-learn refuses no star; a fold may have no stranger
            return self(z.new_zeros(1, z.shape[1]))[:0]
        return torch.from_numpy(np.ascontiguousarray(self.of_theirs.transform(z.numpy())))


class Kept(Learner):
    """Maps that were found without each of the clusters: takes the one of the cluster that it is not given."""

    depends_on_units = False  # as it is found of the latents as they are

    def __init__(self, found: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.found = found

    def initialise(self, field: Array, members: Array, clusters: Labels, summary: object = None) -> None:  # noqa: ARG002
        """Look it up."""
        (left_out,) = np.nonzero(~np.isin(self.found["names"], clusters))[0]
        self.map = torch.from_numpy(self.found["maps"][left_out])

    def forward(self, z: Array) -> Tensor:
        """(N, D)."""
        return as_tensor(z).double() @ self.map.T


def of_metric_learn(on: Representation, maps: Maps) -> dict[str, np.ndarray]:
    """RCA in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "latents.npy", on.members.numpy())
        np.save(Path(folder) / "clusters.npy", np.asarray(on.clusters, dtype=str))
        return maps(Path(folder))


def of_survey(survey: Assembly, numbers: Sequence[int], maps: Maps | None) -> dict[str, tuple[LOCOResult, float]]:
    """Rates and the processor's seconds of every learner and K."""
    results = {}
    on_each = {number: survey.compressed(number) for number in sorted(numbers, reverse=True)}
    allowed = on_each[max(numbers)].allowed(survey.pairs)

    def judge(name: str, on: Representation, make: Callable[[], Learner], began: float) -> None:
        result = survey.judged(on, make, allowed)
        results[name] = result, time.process_time() - began
        print(f"seed {survey.seed}: {name}: {100 * result.rate:.3f} %", file=sys.stderr, flush=True)

    for number, on in sorted(on_each.items()):
        for name, options in RSCA.items():
            if options["floor"] != "repeats" or (on.repeats and on.repeats[0].freedom >= number):
                make = partial(ScaledComponents, **options)
                judge(f"{name}, K = {number}", on, make, time.process_time())
        for name, transformer in TRANSFORMERS.items():
            judge(f"{name}, K = {number}", on, partial(Theirs, transformer), time.process_time())
        if maps is not None:
            began = time.process_time()
            found = of_metric_learn(on, maps)
            judge(f"{found['version']} RCA, K = {number}", on, partial(Kept, found), began - float(found["processor"]))
    return results


def print_learners(surveys: Sequence[Assembly], numbers: Sequence[int], maps: Maps | None) -> None:
    """As Markdown: mean and range of the rate, ratio to the first row (68 % over clusters), surveys won, seconds."""
    of_each = [of_survey(survey, numbers, maps) for survey in surveys]
    first = next(iter(of_each[0]))
    print(f"\n| learner | rate, %: mean (range over surveys) | ratio to {first} (68 %) | surveys won | CPU, s |")
    print("|---|---|---|---|---|")
    for name in of_each[0]:
        rates = 100 * np.array([each[name][0].rate for each in of_each])
        told = ratio([each[name][0] for each in of_each], [each[first][0] for each in of_each])
        won = sum(each[name][0].rate < each[first][0].rate for each in of_each)
        seconds = float(np.mean([each[name][1] for each in of_each]))
        print(
            f"| {name} | {rates.mean():.2f} ({rates.min():.2f}-{rates.max():.2f}) "
            f"| {told[0]:.2f} ({told[1]:.2f}-{told[2]:.2f}) "
            f"| {'' if name == first else f'{won} of {len(of_each)}'} | {seconds:.2g} |",
            flush=True,
        )
