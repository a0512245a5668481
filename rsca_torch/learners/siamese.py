"""Siamese (twin) networks: one map for both stars of a pair, and a loss of their distance."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from math import sqrt
from typing import Any

import torch
from pytorch_metric_learning.distances import BaseDistance, LpDistance
from pytorch_metric_learning.losses import ContrastiveLoss, SupConLoss, TripletMarginLoss
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor, nn

from rsca_torch.errors import InputError
from rsca_torch.learners.gradient import GradientLearner
from rsca_torch.learners.groups import Groups
from rsca_torch.learners.learner import Labels, Recipe
from rsca_torch.learners.moments import FieldMoments
from rsca_torch.learners.options import require_number
from rsca_torch.spectra.arrays import Array

__all__ = ["Euclidean", "Siamese"]


class Euclidean(LpDistance):
    """For losses of pytorch-metric-learning: of embeddings as they are, not normalised, by direct differences.

    Its own LpDistance takes |a|² + |b|² - 2ab for larger batches, which cancels where stars are near-identical.

    Args:
        power: of the distance; 2: squared.

    Examples:
        >>> import torch
        >>> from rsca_torch.learners.siamese import Euclidean
        >>> Euclidean()(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        tensor([[0., 5.],
                [5., 0.]])
    """

    def __init__(self, power: int = 1) -> None:
        super().__init__(normalize_embeddings=False, p=2, power=power)

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor | None = None) -> Tensor:
        """(A, D), (B, D) -> (A, B) distances, before the power."""
        other = query_emb if ref_emb is None else ref_emb
        return torch.cdist(query_emb, other, compute_mode="donot_use_mm_for_euclid_dist")


class Siamese(GradientLearner):
    """y = weight (z - centre), and where there are hidden layers plus a network of the sphered z (eq. 8.5).

    Bromley et al. 1993; "contrastive": Hadsell, Chopra & LeCun 2006; "triplet": Schroff, Kalenichenko & Philbin 2015;
    "supcon": Khosla et al. 2020. Every negative is a class of its own; anchors of these three are members only.

    Args:
        hidden: widths of hidden layers (GELU). Empty: a linear map. The last layer of the network, which has no bias,
            is 0 at the start with init="rsca"; the penalty holds it there.
        criterion: "contrastive", "triplet", "supcon" (docs/maths.md, eqs. 8.6 to 8.8), or a loss object of
            pytorch_metric_learning, which is copied. With classes of its own (proxies) it needs negatives=0, and as
            many classes as there are clusters.
        miner: a miner object of pytorch_metric_learning, which chooses pairs or triplets; it is copied. None: all.
        margin: of "contrastive" and "triplet", in units of sqrt(2 D) (sqrt(2) with normalise=True), the length of the
            difference of two draws of D standard normal numbers. A miner sees embeddings in these units too.
        temperature: of "supcon", whose similarity is -|d|² / temperature. At 4 it is RSCA's log likelihood ratio
            (eq. 4.3).
        normalise: forward itself gives embeddings of length 1. Without it nothing is normalised, and a criterion or a
            miner whose distance would do so is refused: it would be trained on other distances than it is judged by.
        n_dimensions, init, penalty, dropout, negatives, recipe: as in GradientLearner.

    Raises:
        InputError: for options out of range.

    Examples:
        With a loss of pytorch-metric-learning:

        >>> from pytorch_metric_learning.losses import MultiSimilarityLoss
        >>> from rsca_torch import Siamese
        >>> from rsca_torch.learners.siamese import Euclidean
        >>> from rsca_torch.testing import drawn_problem
        >>> stars = drawn_problem()  # 300 field stars, 30 members of 5 clusters, 6 latents
        >>> learner = Siamese(criterion=MultiSimilarityLoss(distance=Euclidean()))
        >>> learner.initialise(stars.field, stars.members, stars.clusters)
        >>> print(f"{learner.loss(stars.members, stars.clusters):.4f}")
        4.6058
    """

    name = "siamese"
    paper = "Bromley et al. 1993; Hadsell et al. 2006"
    n_features = 0  # that the network is given besides the sphered latents

    def __init__(
        self,
        hidden: Sequence[int] = (),
        criterion: str | nn.Module = "contrastive",
        miner: nn.Module | None = None,
        margin: float = 1.0,
        temperature: float = 4.0,
        normalise: bool = False,
        n_dimensions: int | None = None,
        init: str = "rsca",
        penalty: float = 0.0,
        dropout: float = 0.0,
        negatives: int = 0,
        recipe: Recipe | None = None,
    ) -> None:
        super().__init__(n_dimensions, init, penalty, dropout, negatives, recipe)
        require_number("margin", margin, above=0)
        require_number("temperature", temperature, above=0)
        if not (isinstance(hidden, Sequence) and all(isinstance(width, int) and width >= 1 for width in hidden)):
            raise InputError(f"hidden must be the widths of layers, whole numbers of at least 1, got {hidden!r}")
        if not (miner is None or isinstance(miner, nn.Module)):
            raise InputError(f"miner must be a miner object of pytorch_metric_learning or None, got {miner!r}")
        self.criterion, self.miner = _loss(criterion, margin, temperature), deepcopy(miner)
        if self.negatives and any(True for _ in self.criterion.parameters()):
            raise InputError(
                f"{type(criterion).__name__} has parameters for each of its classes, and field stars have no class: "
                f"set negatives=0, got {self.negatives}"
            )
        for part in (self.criterion, self.miner):
            if part is not None and not normalise:
                _require_lengths(part)
        self.hidden, self.normalise = tuple(hidden), normalise
        self.names: list[str] = []
        self.named = criterion if isinstance(criterion, str) else None
        self.network = nn.Sequential()

    def initialise(self, field: Array, members: Array, clusters: Labels, summary: FieldMoments | None = None) -> None:
        """As in GradientLearner; the network's first weights are torch's random numbers."""
        super().initialise(field, members, clusters, summary)
        self.names = Groups(clusters).names
        self.network = self._layers(self.start)

    def _layers(self, like: Tensor) -> nn.Sequential:
        """K + n_features -> hidden -> D, (D, K) the shape of `like`."""
        n_dimensions, width = like.shape[0], like.shape[1] + self.n_features
        layers: list[nn.Module] = []
        for size in self.hidden:
            layers += [nn.Linear(width, size, device=like.device, dtype=like.dtype), nn.GELU()]
            width = size
        if self.hidden:
            last = nn.Linear(width, n_dimensions, bias=False, device=like.device, dtype=like.dtype)
            if self.init == "rsca":
                nn.init.zeros_(last.weight)
            layers.append(last)
        return nn.Sequential(*layers)

    def _embedding(self, deviation: Tensor, *features: Tensor) -> Tensor:
        """With the network's part, of the sphered latents and the features."""
        embedded = super()._embedding(deviation)
        if self.hidden:
            embedded = embedded + self.network(torch.cat([deviation @ self.sphere.T, *features], dim=1))
        return nn.functional.normalize(embedded, dim=1) if self.normalise else embedded

    def _departure(self) -> Tensor:
        last = self.network[-1:].parameters()  # none where the map is linear
        return super()._departure() + sum(weight.square().sum() for weight in last)

    def _unpenalised(self, z: Tensor, groups: Groups) -> Tensor:
        embedded = self._with_strangers(z)
        if self.named in ("contrastive", "triplet"):
            embedded = embedded / sqrt(2 if self.normalise else 2 * embedded.shape[1])
        labels = self._labels(groups)
        if self.miner is not None:
            indices = self.miner(embedded, labels)
        else:
            indices = None if self.named is None else _indices(labels, len(z), self.named == "triplet")
        loss: Tensor = self.criterion(embedded, labels, indices)
        if self.named == "supcon" and indices is not None:  # its mean is over all stars: over anchors with a sibling
            loss = loss * (len(labels) / max(1, len(indices[0].unique())))
        return loss

    def _labels(self, groups: Groups) -> Tensor:
        """(M + negatives,) classes: of a cluster the same in every batch, of each negative its own."""
        known = {name: number for number, name in enumerate(self.names)}
        classes = [known.setdefault(name, len(known)) for name in groups.names]
        members = torch.tensor(classes, device=groups.number.device)[groups.number]
        return torch.cat([members, len(known) + torch.arange(self.negatives, device=members.device)])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        start = state_dict.get(prefix + "start")
        if start is not None and start.shape != self.start.shape:
            self.network = self._layers(start)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _loss(criterion: str | nn.Module, margin: float, temperature: float) -> nn.Module:
    """One that is named, or a copy of what was given.

    Those that are named take means over all pairs or triplets, also those that cost nothing: else the loss jumps where
    one begins to.
    """
    loss: nn.Module
    match criterion:
        case nn.Module():
            loss = deepcopy(criterion).double()
        case "contrastive":
            loss = ContrastiveLoss(pos_margin=0, neg_margin=margin, distance=Euclidean(), reducer=MeanReducer())
        case "triplet":
            loss = TripletMarginLoss(margin=margin, distance=Euclidean(), reducer=MeanReducer())
        case "supcon":
            loss = SupConLoss(temperature=temperature, distance=Euclidean(power=2), reducer=MeanReducer())
        case _:
            raise InputError(
                "criterion must be one of contrastive, triplet, supcon or a loss object of pytorch_metric_learning, "
                f"got {criterion!r}"
            )
    return loss


def _indices(labels: Tensor, n_members: int, triplets: bool) -> tuple[Tensor, ...]:
    """All (anchor, sibling, stranger), or (anchor, sibling, anchor, stranger), whose anchor is a member.

    Memory grows with the pairs or triplets that there are; that of the library's own choice with the cube of the stars.
    """
    siblings = labels[:n_members, None] == labels[:n_members]
    anchor, sibling = torch.where(siblings.fill_diagonal_(False))
    strangers = labels[:n_members, None] != labels
    if not triplets:
        return (anchor, sibling, *torch.where(strangers))
    pair, stranger = torch.where(strangers[anchor])
    return anchor[pair], sibling[pair], stranger


def _require_lengths(part: nn.Module) -> None:
    """Refuse a loss or a miner with a distance that sets all embeddings to length 1."""
    for module in part.modules():
        if isinstance(module, BaseDistance) and module.normalize_embeddings:
            raise InputError(
                f"{type(part).__name__} takes {type(module).__name__} of embeddings that it sets to length 1, so it "
                "would be trained on other distances than it is judged by: give it "
                "distance=rsca_torch.learners.siamese.Euclidean(), or set normalise=True"
            )
