"""What the page of one run says, from what the run's folder holds."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from astropy.table import Table
from bokeh.core.types import ID
from bokeh.embed import json_item
from matplotlib.figure import Figure

from rsca_torch.comparison.finished_run import RESULTS, SCHEMA, other_schema
from rsca_torch.errors import InputError
from rsca_torch.layers.rsca import RSCA
from rsca_torch.report.page.record import RECORD, STARS
from rsca_torch.report.page.rendering import picture_of, pictures_beside, read_told
from rsca_torch.report.page.star_map import map_of
from rsca_torch.report.page.verdict import verdict
from rsca_torch.report.page.weights import weight_spectra
from rsca_torch.report.pictures import COLOURS
from rsca_torch.survey.fits_files import UnusableFileError, native, open_fits
from rsca_torch.survey.line_list import apogee_lines

__all__ = ["is_simulated", "run_page", "versions_told"]

log = logging.getLogger(__name__)

MODEL, LEARNER = "rsca.safetensors", "learner.pt"  # the frozen layer; what a learner that is none leaves
SECTIONS = {
    "learners": "Learners",
    "map-section": "Map",
    "clusters": "Clusters",
    "weights-section": "Weights",
    "probabilities": "Probabilities",
    "stars": "Stars used",
    "step-1": "Step 1",
    "problems": "Problems",
    "provenance": "Provenance",
}
OF_SPECTRA = ("map-section", "weights-section", "step-1")
#: What each picture shows, in words for those who do not see it; a name may go on, as distances_spectra does.
PICTURES = {
    "rates": "Doppelganger rate of each learner on each representation, with 68 % intervals",
    "distances": "Histograms of the distances of siblings and of strangers, a panel a cluster",
    "reliability": "Share of siblings against the probability that was told",
    "components": "Doppelganger rate against the number of components",
}


def run_page(folder: Path, title: str) -> dict[str, Any]:
    """For run.html.j2.

    Args:
        folder: of a finished run, which results.json says.
        title: the name of the folder where it comes to lie.

    Raises:
        InputError: results.json is not whole, or of another schema.
    """
    results, record = _results(folder), read_told(folder / RECORD)
    judged = results["results"][0]
    of_spectra = judged["compressor"] is not None  # and not of a table of abundances, or of an embedding
    plots, missing = _plots(folder) if of_spectra else ({}, [])
    names = _names(folder, judged)
    numbers = {"results": results, "record": record}
    pictures = pictures_beside([folder / f"{name}.png" for name in names], plots, numbers)
    gone = [name for name, picture in zip(names, pictures, strict=True) if picture is None]
    missing += [f"{name}.png is not in the run's folder, or cannot be read" for name in gone]
    other = results.get("baseline") or {"results": [], "differences": []}  # of rsca evaluate baseline=RUN
    beside = next(iter(other["results"]), None)
    differences = other["differences"] if beside else results["differences"]
    return {
        "simulated": is_simulated(results, record),
        "verdict": verdict(results["results"], differences, record, beside),
        "sections": {key: name for key, name in SECTIONS.items() if of_spectra or key not in OF_SPECTRA},
        "layerless": (folder / LEARNER).exists(),
        "results": results,
        "judged": judged,
        "rows": [*other["results"], *results["results"]],
        "first": beside or judged,
        "differences": {(each["representation"], each["learner"]): each for each in differences},
        "record": record,
        "problems": record.get("problems") if record else None,
        "missing": missing,
        "pictures": dict(zip(names, pictures, strict=True)),
        "told_of": {name: PICTURES[name.split("_")[0]] for name in names},
        "history": _history(record.get("history") or ()),
        "plots": plots,
        "command": record.get("command"),
        "page_command": shlex.join(["rsca", "report", f"run={title}"]),
        "provenance": {
            "started": record.get("started"),
            "store": results["store"]["path"],
            "checksum of the store": results["store"].get("checksum"),
            "seed": results["seed"],
            "versions": versions_told(results["versions"]),
        },
        "options": json.dumps(results["config"], indent=1, ensure_ascii=False),
        "numbers": numbers,
    }


def is_simulated(results: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether the stars are drawn; where report.json is gone, whether the run had to simulate its survey."""
    return bool(record["simulated"] if "simulated" in record else "simulation" in results["config"])


def versions_told(versions: Mapping[str, str]) -> str:
    """In one line.

    >>> versions_told({"torch": "2.13", "python": "3.13"})
    'torch 2.13, python 3.13'
    """
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _results(folder: Path) -> dict[str, Any]:
    content = read_told(folder / RESULTS)
    if not content.get("results"):
        raise InputError(f"no finished run in {folder}: give the DIR that `rsca compare` wrote")
    if content.get("schema") != SCHEMA:
        raise InputError(f"{folder} holds {other_schema(content)}: run rsca compare again")
    return content


def _plots(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The plots that can be zoomed into, and why one is not there."""
    plots: dict[str, Any] = {}
    missing = []
    try:
        with open_fits(folder / STARS) as hdus:
            stars = Table({name: native(hdus[1].data[name]) for name in hdus[1].columns.names})
        plots["map"] = map_of(stars)
    except (UnusableFileError, InputError, KeyError, IndexError, AttributeError) as error:
        log.debug("%s: %s", STARS, error)
        missing.append(f"{STARS} is not in the run's folder, or cannot be read: no map of the stars")
    try:
        model = RSCA.load(folder / MODEL)
    except (InputError, OSError):
        if not (folder / LEARNER).exists():
            missing.append(f"{MODEL} is not in the run's folder, or cannot be read: no spectra of weights")
    else:
        plots["weights"] = {"item": json_item(weight_spectra(model, apogee_lines()), ID("weights"))}
    return plots, missing


def _names(folder: Path, judged: Mapping[str, Any]) -> list[str]:
    names = ["rates", f"distances_{judged['representation']}"]
    names += ["reliability"] if "calibration" in judged else []
    return names + (["components"] if (folder / "components.png").is_file() else [])


def _history(values: Sequence[float]) -> str | None:
    """What step 1 still lacked after each iteration; None: there are too few to draw."""
    lacked = [values[-1] - value for value in values[:-1]]
    if len(lacked) < 2 or min(lacked) <= 0:
        return None
    figure = Figure(figsize=(6, 2.2), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(range(1, len(values)), lacked, "o-", ms=3, color=COLOURS[1])
    axes.set(xlabel="iteration", ylabel="below the last,\nnats a bin")
    return picture_of(figure)
