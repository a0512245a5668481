"""An embedding of any origin as a representation of a store's stars: joined by id, judged among the store's pairs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig
from torch import Tensor

from rsca_torch.comparison.comparison import Comparison, compare
from rsca_torch.comparison.embedded_stars import judging, on_stars
from rsca_torch.comparison.embedding_file import Embedding, read_embedding, shortened
from rsca_torch.comparison.embedding_folds import LEFT_OUT, file_without, of_folds, result_of_folds
from rsca_torch.comparison.merits import Merits
from rsca_torch.comparison.pair_rules import possible_pairs
from rsca_torch.comparison.progress import Progress, Silence
from rsca_torch.comparison.representation import Representation
from rsca_torch.comparison.teachers import MakeLearner
from rsca_torch.comparison.training_options import TrainingOptions
from rsca_torch.evaluation.doppelganger import allowed_pairs
from rsca_torch.evaluation.figure_of_merit import FigureOfMerit
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners.learner import Identity
from rsca_torch.learners.registry import maker
from rsca_torch.survey.store import Store
from rsca_torch.survey.store_sums import digest

__all__ = ["compare_embedding", "judged"]

log = logging.getLogger(__name__)


def judged(
    embedding: Any,  # noqa: ANN401  (a path, or any table)
    store: str | Path | Store,
    learner: MakeLearner = Identity,
    *,
    id: str | None = None,  # noqa: A002  (the option's name)
    columns: Sequence[str] | None = None,
    pairs: Callable[..., Tensor] = allowed_pairs,
    missing: str = "refuse",
    clusters: Sequence[str] | None = None,
    merits: Mapping[str, FigureOfMerit] | None = None,
    seed: int = 0,
) -> LOCOResult:
    """Doppelganger rates of an embedding of any origin, among the pairs of a store; as `rsca evaluate`.

    Args:
        embedding: a file, a table or named columns, as `read_embedding` takes them. A path with ``{cluster}`` in it
            names a file for every cluster, of a model that did not see it: this one says how the cluster is judged.
        store: of the stars, or its folder.
        learner: gives a fresh learner, fitted on the other clusters where one is judged. `Identity`: the Euclidean
            distance as it stands.
        id: as in `read_embedding`.
        columns: likewise.
        pairs: which may be compared. A limit on what the survey does not know is left out, and that is said.
        missing: stars of the store without numbers: "refuse" them, or "leave_out".
        clusters: those that are judged; others have no part. None: all.
        merits: further figures of merit, as in `leave_one_cluster_out`.
        seed: of what a learner draws.

    Returns:
        The rates; `paired_difference` compares it with another result on the same store.

    Raises:
        InputError: as `read_embedding` and `on_stars` do.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from rsca_torch import Spectra
        >>> from rsca_torch.survey.described.arrays import store_of
        >>> random = np.random.default_rng(0)
        >>> family = np.repeat(["", "A", "B"], [40, 5, 5])
        >>> stars, flux = {"group": family, "id": np.arange(50)}, 1 + random.normal(size=(50, 8)) / 999
        >>> spectra = Spectra(flux, sigma=np.full((50, 8), 0.01), stars=stars)
        >>> latents = random.normal(size=(50, 2)) / np.where(family == "", 1, 100)[:, None]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = store_of(spectra, f"{folder}/store")
        ...     judged({"id": np.arange(50), "z": latents}, store)
        LOCOResult(2 clusters, rate 0, 68% interval 0 to 0.004...)
    """
    store = store if isinstance(store, Store) else Store.open(store)
    pairs = possible_pairs(pairs, store.stars)

    def of(given: Any) -> LOCOResult:  # noqa: ANN401
        on = on_stars(read_embedding(given, id, columns, _known(store)), store, missing=missing, clusters=clusters)
        seen = on.seen_by(learner)
        return leave_one_cluster_out(
            seen.make_learner,
            seen.field,
            seen.members,
            on.clusters,
            on.allowed(pairs),
            seed=seed,
            keep_distances=True,
            merits=merits,
            ids=on.member_stars.id,
        )

    if not isinstance(embedding, str | Path) or LEFT_OUT not in str(embedding):
        return of(embedding)
    return result_of_folds({name: of(file_without(str(embedding), name)) for name in judging(store, clusters)})


def compare_embedding(config: DictConfig, folder: Path, progress: Progress) -> tuple[Comparison, dict[str, Any]]:
    """Learners on an embedding, and what results.json says of the embedding.

    Args:
        config: of the command.
        folder: where trainings are logged.
        progress: is told what is done.

    Raises:
        InputError: as `read_embedding`, `on_stars` and `compare` do.
    """
    store, path = Store.open(config.store), str(config.embedding)
    pairs = possible_pairs(hydra.utils.instantiate(config.pairs), store.stars)
    learners = [maker(config.learner), *(maker(each) for each in config.baselines.values())]
    names = [each().name for each in learners]
    learners = [make for place, make in enumerate(learners) if names[place] not in names[:place]]
    merits = Merits.of(config)

    def of(
        file: Path, progress: Progress, merits: Merits, level: int = logging.INFO
    ) -> tuple[Comparison, dict[str, Any]]:
        embedding = read_embedding(file, config.id, config.columns, _known(store))
        log.log(level, "%d numbers a star, of %s", embedding.values.shape[1], shortened(embedding.columns))
        if embedding.unused:
            log.log(level, "not used: %s (columns=[NAME,...] chooses)", shortened(embedding.unused))
        on = on_stars(embedding, store, config.name, config.missing, config.clusters, config.learn_from, level)
        told = _told(file, embedding, on, store)
        training = TrainingOptions.of(config, f"{store.checksum} {_digest_of(on)}", folder)
        comparison = compare([on], learners, pairs, config.seed, progress.step, training, merits)
        training.forget()
        if isinstance(learners[0](), Identity):  # which learns nothing: in-sample it is the same once more
            comparison = Comparison([result for result in comparison.results if result.loco.held_out])
        return comparison, told

    if LEFT_OUT not in path:
        return of(Path(path), progress, merits)
    clusters = judging(store, config.clusters)
    found: dict[str, tuple[Comparison, dict[str, Any]]] = {}
    for done, cluster in enumerate(clusters, start=1):
        level = logging.DEBUG if found else logging.INFO  # the first says it for all
        apart = Path(file_without(path, cluster))
        found[cluster] = of(apart, Silence(), replace(merits, calibrate="none"), level)
        progress.step("a model without each cluster", done, len(clusters))
    told = next(iter(found.values()))[1]
    several = {name: {cluster: each[name] for cluster, (_, each) in found.items()} for name in ("path", "sha256")}
    return of_folds({cluster: comparison for cluster, (comparison, _) in found.items()}), {**told, **several}


def _told(file: Path, embedding: Embedding, on: Representation, store: Store) -> dict[str, Any]:
    """Of one file, for results.json; warns of what is known to be in-sample."""
    seen_all = store.checksum in embedding.fitted_on
    if seen_all:
        log.warning(
            "warning: %s says that its model was fitted on this store, all clusters among it (MODELSTO): its rates "
            "are in-sample, too good to be true",
            file,
        )
    return {
        "path": str(file.resolve()),
        "sha256": digest(file),
        "id": embedding.id,
        "columns": list(embedding.columns),
        "numbers": embedding.values.shape[1],
        "rows": len(embedding.ids),
        "field": len(on.field_stars),
        "members": len(on.member_stars),
        "fitted_on_this_store": seen_all,
    }


def _known(store: Store) -> list[str]:
    """The store's id column, then its others."""
    own = store.stars.roles["id"]
    return [own, *(name for name in store.stars.colnames if name != own)]


def _digest_of(on: Representation) -> str:
    """Of the numbers, for the name under which trained folds are kept."""
    total = hashlib.sha256()
    for values in (on.field, on.members):
        total.update(values.contiguous().numpy().data)
    return total.hexdigest()
