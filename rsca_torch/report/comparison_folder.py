"""What `rsca compare` leaves in its folder: numbers, bins set aside, the judged learner, pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from astropy.io import fits
from astropy.table import Table
from omegaconf import DictConfig

from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.baseline_run import BaselineRun
from rsca_torch.comparison.calibrated_layer import calibrated_layer
from rsca_torch.comparison.comparison import Comparison
from rsca_torch.comparison.embedding_folds import LEFT_OUT
from rsca_torch.comparison.finished_run import settings_of
from rsca_torch.comparison.merits import Merits
from rsca_torch.comparison.pair_rules import possible_pairs
from rsca_torch.comparison.representation import AllowedPairs
from rsca_torch.comparison.suspects import suspects
from rsca_torch.comparison.teachers import MakeLearner, sees_spectra
from rsca_torch.comparison.training_options import learner_name
from rsca_torch.layers.rsca import RSCA
from rsca_torch.learners import Learner
from rsca_torch.learners.floor import Repeats
from rsca_torch.learners.registry import maker
from rsca_torch.report import pictures
from rsca_torch.report.figure_files import save_figure
from rsca_torch.report.page.record import RECORD, STARS, Said, star_features, write_record
from rsca_torch.report.reliability import draw_reliability
from rsca_torch.report.results import (
    differences,
    merits_table,
    summary_table,
    write_csv,
    write_merits,
    write_results,
)
from rsca_torch.report.suspects import NAME, suspects_table
from rsca_torch.report.terminal import print_table
from rsca_torch.survey.fits_files import utf8
from rsca_torch.survey.grouped_stars import counts_of
from rsca_torch.survey.line_list import apogee_lines
from rsca_torch.survey.store import Store

__all__ = [
    "print_comparison",
    "write_comparison",
    "write_embedding_comparison",
    "write_run_record",
    "write_table_comparison",
]

log = logging.getLogger(__name__)


def write_comparison(folder: Path, comparison: Comparison, assembly: Assembly) -> Table | None:
    """results.json, two CSV tables, set_aside.fits where step 1 sets bins aside, the fitted learner, pictures.

    Returns:
        The suspects, which are in suspects.csv too; None: the learner leaves nobody out.
    """
    on = comparison.results[0].representation
    _write_numbers(folder, comparison, assembly)
    if on.aside is not None and any(ppca.clip is not None for ppca in on.ppcas):
        _write_set_aside(folder / "set_aside.fits", on.aside)
    learner = assembly.fitted(on)
    if (floor := comparison.results[0].loco.floor) != "none":
        log.info("siblings scatter at least as much as the floor of %s", _floor_said(floor, on.repeats))
    model = calibrated_layer(on, assembly.make_learner, learner, assembly.pairs, assembly.seed)
    _write_learner(folder, learner, model)
    found = _suspects(folder, comparison, assembly.make_learner, assembly.pairs, assembly.config)
    if assembly.config.figures:
        log.info("drawing")
        _draw(folder, comparison, learner, model, assembly)
    return found


def write_run_record(folder: Path, comparison: Comparison, store: Store | None, said: Said) -> None:
    """report.json, with what report.html says besides the results.

    Args:
        folder: of the run.
        comparison: what was found.
        store: of the spectra. None: there is none.
        said: how the run was asked for, and what it warned of.
    """
    ppca = comparison.results[0].representation.ppca
    write_record(folder / RECORD, said, store, history=[] if ppca is None else [float(each) for each in ppca.history])


def _write_numbers(folder: Path, comparison: Comparison, assembly: Assembly) -> None:
    store, config = assembly.store, assembly.config
    counts = {name: store.manifest["counts"][name] for name in ("field", "members", "clusters")}
    counts |= counts_of(assembly.groups.stars)
    settings = settings_of(config) | {"survey": store.manifest["survey"]}  # as the store was made
    source = _source(store) | counts
    write_results(folder / "results.json", comparison, source, config.seed, settings)
    write_csv(folder / "results.csv", comparison)
    write_merits(folder / "figures_of_merit.csv", comparison)


def _source(store: Store) -> dict[str, Any]:
    """What results.json says of a store besides its counts."""
    return {"path": str(store.path.resolve()), "checksum": store.checksum, "simulated": store.origin["simulated"]}


def write_table_comparison(
    folder: Path, comparison: Comparison, source: Mapping[str, Any], config: DictConfig
) -> Table | None:
    """Of abundances alone: results.json, two CSV tables and pictures of the rates; there is no model of spectra.

    Returns:
        As `write_comparison`.
    """
    write_results(folder / "results.json", comparison, source, config.seed, settings_of(config))
    write_csv(folder / "results.csv", comparison)
    write_merits(folder / "figures_of_merit.csv", comparison)
    if config.figures:
        log.info("drawing")
        _draw_rates(folder, comparison)
        _draw_reliability(folder, comparison, config)
    stars = comparison.results[0].representation.member_stars
    pairs = possible_pairs(hydra.utils.instantiate(config.pairs), stars, said=True)
    return _suspects(folder, comparison, maker(config.learner), pairs, config)


def write_embedding_comparison(
    folder: Path,
    comparison: Comparison,
    embedding: Mapping[str, Any],
    baseline: BaselineRun | None,
    config: DictConfig,
) -> Table | None:
    """Of an embedding: results.json, which says beside its own results what the baseline's are; the tables have both.

    Returns:
        As `write_comparison`.
    """
    store = Store.open(config.store)
    further: dict[str, Any] = {"embedding": dict(embedding)}
    both = comparison if baseline is None else baseline.with_results_of(comparison)
    if baseline is not None:
        own = comparison.results[0].representation.name
        beside = [each for each in differences(both) if each["representation"] == own]
        path = str(baseline.path.resolve())
        further["baseline"] = {"path": path, "results": baseline.entries, "differences": beside}
    counts = {name: store.manifest["counts"][name] for name in ("field", "members", "clusters")}
    source = _source(store) | counts
    settings = settings_of(config) | {"survey": store.manifest["survey"]}  # as the store was made
    write_results(folder / "results.json", comparison, source, config.seed, settings, further)
    write_csv(folder / "results.csv", both)
    write_merits(folder / "figures_of_merit.csv", both)
    if config.figures:
        log.info("drawing")
        simulated = store.origin["simulated"]
        _draw_rates(folder, comparison, simulated)
        save_figure(pictures.draw_rates(both), folder, "rates", simulated)
        _draw_reliability(folder, comparison, config, simulated)
    if LEFT_OUT in config.embedding:  # no one embedding is that of all clusters
        return None
    pairs = possible_pairs(hydra.utils.instantiate(config.pairs), store.stars, said=True)
    return _suspects(folder, comparison, maker(config.learner), pairs, config)


def print_comparison(comparison: Comparison, config: DictConfig, found: Table | None, also: Sequence[str] = ()) -> None:
    """What stands on the terminal: rates, further figures, suspects.

    Args:
        comparison: learners on representations.
        config: of the command.
        found: the suspects. None: there are none.
        also: as in `merits_table`.
    """
    print_table(summary_table(comparison))
    priors = () if config.calibration is None else config.calibration.priors
    told = merits_table(comparison, config.alike, priors, also)
    if told is not None:
        print_table(told)
    if found is not None and (suspected := suspects_table(found)) is not None:
        print_table(suspected)


def _write_set_aside(path: Path, aside: Table) -> None:
    """As FITS: LIST, a row a bin of a star; STARS and BINS, how many of each."""
    counted = {}
    for name, column in (("STARS", aside.colnames[0]), ("BINS", "WAVELENGTH")):
        values, counts = np.unique(np.asarray(aside[column]), return_counts=True)
        order = np.argsort(-counts, kind="stable")
        counted[name] = Table({column: values[order], "SET_ASIDE": counts[order]})
    hdus = [fits.BinTableHDU(utf8(table), name=name) for name, table in {"LIST": aside, **counted}.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    said = "%d bins of %d stars are set aside: step 1 cannot explain them (set_aside.fits)"
    log.info(said, len(aside), len(counted["STARS"]))


def _floor_said(floor: str, repeats: Sequence[Repeats]) -> str:
    """In words, with the numbers of repeats."""
    if floor != "repeats":
        return f"the members' {floor}" if floor == "noise" else f"{floor} values"
    first = repeats[0]
    of = f"repeats: {first.stars} stars, {first.freedom} degrees of freedom"
    return of + (f", {first.weighed_down} stars weigh less" if first.weighed_down else "")


def _suspects(
    folder: Path, comparison: Comparison, make_learner: MakeLearner, pairs: AllowedPairs, config: DictConfig
) -> Table | None:
    """Those of the judged learner as CSV, and in the log how many there are and of which clusters."""
    on, merits = comparison.results[0].representation, Merits.of(config)
    calibrates = merits.calibrates(is_judged=True, is_trained=False)
    found = suspects(on, make_learner, pairs, merits.wrong, calibrates, config.seed)
    if found is None:
        return None
    found.write(folder / NAME, format="ascii.csv")
    if len(found):
        names, counts = np.unique(np.asarray(found[found.colnames[1]]), return_counts=True)
        of = ", ".join(f"{count} of {name}" for name, count in zip(names, counts, strict=True))
        log.info("%d listed members are suspects and left out of the fit: %s (%s)", len(found), of, NAME)
    return found


def _write_learner(folder: Path, learner: Learner, model: RSCA | None) -> None:
    """rsca.safetensors, the frozen layer; of a learner that is none, learner.pt."""
    if model is not None:
        model.save(folder / "rsca.safetensors")
        return
    state = BytesIO()  # torch says no more of a full disk than that it failed
    torch.save(learner.state_dict(), state)  # loads with weights_only=True
    (folder / "learner.pt").write_bytes(state.getvalue())
    seen = "spectra" if sees_spectra(lambda: learner) else "its latents"
    log.info("no rsca.safetensors, but learner.pt: %s on %s", learner_name(learner), seen)


@torch.no_grad()
def _draw(folder: Path, comparison: Comparison, learner: Learner, model: RSCA | None, assembly: Assembly) -> None:
    """Pictures of the comparison and of the judged learner, fitted on all clusters."""
    judged = comparison.results[0]
    on, simulated = judged.representation, assembly.store.origin["simulated"]
    _draw_rates(folder, comparison, simulated)
    _draw_reliability(folder, comparison, assembly.config, simulated)
    if judged.nested is not None:
        save_figure(pictures.draw_components(judged.nested, judged.learner), folder, "components", simulated)
    if model is not None:
        weights = pictures.draw_weights(model.weight, model.wavelength, assembly.store.segments, apogee_lines())
        save_figure(weights, folder, "weights", simulated)
        field, members = model.from_latents(on.field), model.from_latents(on.members)
    else:
        field, members = on.embedded(learner)
    save_figure(pictures.draw_features(on, field, members), folder, "features", simulated)
    utf8(star_features(on, field, members)).write(folder / STARS, format="fits")


def _draw_rates(folder: Path, comparison: Comparison, simulated: bool = False) -> None:
    """The rates, and the distances that those of the judged learner were counted from."""
    save_figure(pictures.draw_rates(comparison), folder, "rates", simulated)
    for result in comparison.results:
        if result.loco.held_out and result.learner == comparison.results[0].learner:
            figure = pictures.draw_histograms([result], list(result.loco.cluster_rates))
            save_figure(figure, folder, f"distances_{result.representation.name}", simulated)


def _draw_reliability(folder: Path, comparison: Comparison, config: DictConfig, simulated: bool = False) -> None:
    """Of the judged learner, where its scores are calibrated."""
    judged, priors = comparison.results[0], () if config.calibration is None else tuple(config.calibration.priors)
    if judged.loco.calibrated is not None and priors:
        figure = draw_reliability({judged.learner: judged.loco.calibrated}, priors)
        save_figure(figure, folder, "reliability", simulated)
