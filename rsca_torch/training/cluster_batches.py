"""Batches of some clusters with some members each, and field stars beside them, for any DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from rsca_torch.errors import InputError
from rsca_torch.spectra.labels import as_labels

__all__ = ["ClusterBatches"]


class ClusterBatches(Sampler[list[int]]):
    """The rows of each batch, for `batch_sampler=` of a DataLoader.

    A star comes at most once a batch, so that nobody is his own sibling: a cluster with fewer members gives all of
    them. Clusters are dealt like cards, so that each comes as often as others; so are its members, and the field.

    Args:
        labels: N, '' or a negative number for field stars. Clusters with one member are never in a batch.
        clusters: in a batch.
        members: of each of them, at most.
        strangers: field stars in a batch, at most.
        batches: an epoch. None: so many that an epoch has as many members as there are.
        seed: of what is drawn. Every epoch (`set_epoch`, which Lightning calls; else they are counted) and every
            process of a distributed training draws other batches.

    Raises:
        InputError: for fewer clusters than a batch must have, or numbers that leave no pair.

    Examples:
        >>> labels = ["A", "A", "A", "B", "B", "C", "C", "", "", ""]
        >>> for rows in ClusterBatches(labels, clusters=2, members=2, strangers=1):
        ...     print([labels[row] for row in rows])
        ['A', 'A', 'B', 'B', '']
        ['C', 'C', 'A', 'A', '']
    """

    def __init__(
        self,
        labels: Sequence[str] | np.ndarray | Tensor,
        clusters: int = 8,
        members: int = 4,
        strangers: int = 0,
        batches: int | None = None,
        seed: int = 0,
    ) -> None:
        names = as_labels(labels)
        known, sizes = np.unique(names[names != ""], return_counts=True)
        self._rows = [torch.from_numpy(np.flatnonzero(names == name)) for name in known[sizes > 1]]
        self._field = torch.from_numpy(np.flatnonzero(names == ""))
        if members < 2 or clusters < 1 or strangers < 0 or (batches is not None and batches < 1):
            raise InputError(
                "a batch has at least 1 cluster with 2 members and 0 strangers, and an epoch a batch, got "
                f"clusters={clusters}, members={members}, strangers={strangers}, batches={batches}"
            )
        if clusters > len(self._rows):
            raise InputError(
                f"clusters={clusters} in a batch, but {len(self._rows)} clusters have two members: give fewer"
            )
        if strangers > len(self._field):
            raise InputError(
                f"strangers={strangers} in a batch, but there are {len(self._field)} field stars: give fewer"
            )
        self.clusters, self.members, self.strangers, self.seed = clusters, members, strangers, seed
        usual = -(-sum(len(rows) for rows in self._rows) // (clusters * members))
        self._batches = usual if batches is None else batches
        self._epoch = 0

    def __len__(self) -> int:
        return self._batches

    @property
    def sampler(self) -> ClusterBatches:
        """Itself: of a batch sampler it is this whose `set_epoch` Lightning calls."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The number of the epoch whose batches come next."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([self.seed, self._epoch, rank]).generate_state(1)[0])
        )
        self._epoch += 1
        decks = [_Deck(rows, generator) for rows in self._rows]
        order, field = _Deck(torch.arange(len(decks)), generator), _Deck(self._field, generator)
        for _ in range(self._batches):
            chosen = [decks[number].deal(self.members) for number in order.deal(self.clusters).tolist()]
            yield torch.cat([*chosen, field.deal(self.strangers)]).tolist()


class _Deck:
    """Cards that are shuffled anew when too few are left for a hand; no hand has a card twice."""

    def __init__(self, cards: Tensor, generator: torch.Generator) -> None:
        self.cards, self.generator, self.left = cards, generator, cards[:0]

    def deal(self, number: int) -> Tensor:
        number = min(number, len(self.cards))
        hand, self.left = self.left[:number], self.left[number:]
        if len(hand) < number:
            shuffled = self.cards[torch.randperm(len(self.cards), generator=self.generator)]
            fresh = shuffled[~torch.isin(shuffled, hand)]
            lacking = number - len(hand)
            # Those that are in the hand already are among the last of the new deck.
            self.left = torch.cat([fresh[lacking:], hand])
            hand = torch.cat([hand, fresh[:lacking]])
        return hand
