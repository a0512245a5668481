"""Where the authors' program departs from the paper's text: what each choice alone, and all of them, do to the rate.

Source: sections 3.2 to 4.2 of the paper beside the program (drd13/RSCA); docs/paper.md lists the choices.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from rsca_torch import InputError, NumericalWarning
from rsca_torch.comparison.abundances import abundances
from rsca_torch.comparison.assembly import Assembly
from rsca_torch.comparison.representation import Representation, represent
from rsca_torch.drawing.style import COLOURS, MARKS, titled
from rsca_torch.evaluation.result import LOCOResult, paired_difference
from rsca_torch.learners import Scaled, ScaledComponents
from rsca_torch.learners.registry import CONFIG
from rsca_torch.ppca.model import MaskedPPCA
from rsca_torch.report.reproduction import Reproduced, Value

TEXT = "as in the text"
PRINTED = {"mad_factor": 1.0, "clamp": None}  # eq. 7 of the paper, and a weight of 0
HEAD = "representation choice text code doppelganger_rate low high difference difference_low difference_high".split()


class Judged(NamedTuple):
    """One way to do it."""

    representation: str
    choice: str
    text: str  # what the text says
    code: str  # what the program does
    result: LOCOResult


def reproduce(
    assembly: Assembly, n_components: int, fitted_components: int | None, tolerance: float, products: str
) -> Reproduced:
    """Rates in the way of the paper's text, with one choice after the other made as in the program, and with all.

    The options of the two are in conf/compressor/isotropic.yaml and paper.yaml and conf/learner/paper.yaml, which say
    what cannot be done. The difference is the paired one (docs/maths.md, section 5).

    Args:
        assembly: the survey.
        n_components: of step 1.
        fitted_components: of which the first n_components are kept. None: that choice is left out.
        tolerance: of the fits that are not stopped as early as the program's, nats.
        products: as in `fit_ppca`.

    Raises:
        InputError: where fewer components are fitted than kept.
    """
    if fitted_components is not None and fitted_components <= n_components:
        raise InputError(f"fitted_components={fitted_components}: more than n_components={n_components} expected")
    how = {"n_components": n_components, "products": products}
    ways = list(of_spectra(assembly, how | {"tolerance": tolerance}, how, fitted_components))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)  # stars that lack an abundance are left out
        ways += of_abundances(assembly)
    rows = []
    for way in ways:
        base = next(other for other in ways if other.representation == way.representation)
        difference = paired_difference(way.result, base.result)
        told = (way.result.rate, *way.result.interval(), difference.value, difference.low, difference.high)
        rows.append((*way[:4], *told))
    table = Table(rows=rows, names=HEAD)
    values = [Value.of(f"choices {row['representation']}", str(row["choice"]), row) for row in table]
    return Reproduced(values, finding(table), {"choices": table}, {"choices": drawing(table)})


def of_spectra(
    assembly: Assembly, exact: dict[str, Any], early: dict[str, Any], fitted_components: int | None
) -> Iterator[Judged]:
    """RSCA on spectra; `exact` and `early` are settings of fits that are not stopped early, and of those that are."""
    code = compressor("paper", **early)
    text = compressed(assembly, compressor("isotropic", **exact))
    printed = partial(ScaledComponents, **PRINTED)
    authors = partial(ScaledComponents, **learner("paper"))

    def judged(choice: str, said: str, done: str, on: Representation, **options: Any) -> Judged:
        make = options.pop("make", printed)
        return Judged("spectra", choice, said, done, assembly.judged(on, make, **options))

    yield judged(TEXT, "", "", text)
    start = {key: code[key] for key in ("random_start", "tolerance")}
    yield judged(
        "random start, stopped early",
        f"gain below {exact['tolerance']:g} nats",
        f"gain below {start['tolerance']:g} nats",
        compressed(assembly, compressor("isotropic", **early) | start),
    )
    both = compressed(assembly, compressor("isotropic", **exact) | {"basis": code["basis"]}, text.ppca)
    yield judged("members take part in step 1", "inductive", str(code["basis"]), both)
    if fitted_components is not None:
        most = compressed(assembly, compressor("isotropic", **exact) | {"fitted_components": fitted_components})
        number = text.field.shape[1]
        yield judged(f"first {number} of {fitted_components} components", str(number), str(fitted_components), most)
    factor, clamp = (learner("paper")[name] for name in PRINTED)
    yield judged("MAD times 1.4826", "1", f"{factor:.4f}", text, make=partial(ScaledComponents, mad_factor=factor))
    clamped = partial(ScaledComponents, **PRINTED | {"clamp": clamp})
    yield judged("spread clamped", "weight 0", f"clamped at {clamp}", text, make=clamped)
    yield judged("< in place of <=", "<=", "<", text, strict=True)
    whole = compressed(assembly, code)  # with no more components than are used, as for Table 1
    yield judged(f"as in the code, {code['n_components']} fitted", "", "", whole, make=authors, strict=True)


def of_abundances(assembly: Assembly) -> Iterator[Judged]:
    """[X/Fe] of the text and [X/H] of the program, for learners with and without a change of basis."""
    elements = assembly.config.abundances.abundance_subset.elements
    for make in (Scaled, ScaledComponents):
        for choice, relative in ((TEXT, True), ("[X/H] in place of [X/Fe]", False)):
            on = abundances("abundance_subset", assembly.field.stars, assembly.members.stars, elements, relative)
            name = f"abundance subset, {make.name}"
            yield Judged(name, choice, "[X/Fe]", "[X/H]", assembly.judged(on, partial(make, **PRINTED)))


def compressor(name: str, **options: Any) -> dict[str, Any]:
    """The settings of conf/compressor, with other options."""
    return _settings("compressor", name) | options


def learner(name: str) -> dict[str, Any]:
    """The options of conf/learner."""
    return {key: value for key, value in _settings("learner", name).items() if not key.startswith("_")}


def _settings(group: str, name: str) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(OmegaConf.load(CONFIG / group / f"{name}.yaml"))
    return dict(settings)


def compressed(assembly: Assembly, settings: dict[str, Any], start: MaskedPPCA | None = None) -> Representation:
    """Spectra in the coordinates of step 1 with those settings, whatever is configured."""
    compression = replace(assembly.compression, options=OmegaConf.create(settings))
    fit = partial(compression.fit, n_components=settings["n_components"], start=start)
    return represent(assembly.field, assembly.members, fit)


def finding(table: Table) -> str:
    """The rate in the way of the text and of the program, and which choices matter."""
    spectra = table[table["representation"] == "spectra"]
    text, code = spectra[0], spectra[-1]
    matters = [row for row in table if row["difference_low"] > 0 or row["difference_high"] < 0]
    single = [row for row in matters if row["choice"] != code["choice"]]
    said = ", ".join(f"{row['choice']} ({row['representation']}: {_points(row)})" for row in single) or "none"
    return (
        f"RSCA on spectra has {100 * text['doppelganger_rate']:.2f} % in the way of the text and "
        f"{100 * code['doppelganger_rate']:.2f} % in that of the code ({_points(code)}). Single choices whose "
        f"difference is not compatible with 0 (68 %): {said}."
    )


def _points(row: Table.Row) -> str:
    low, high = 100 * row["difference_low"], 100 * row["difference_high"]
    return f"{100 * row['difference']:+.2f}, {low:+.2f} to {high:+.2f}"


def drawing(table: Table) -> Figure:
    """Each choice's rate, and how much it differs from the rate in the way of the text."""
    figure, body = titled("The authors' choices, one at a time", 9, 0.32 * len(table) + 1.5)
    panels = body.subplots(1, 2, sharey=True)
    groups = list(dict.fromkeys(table["representation"]))
    place = np.arange(len(table))[::-1]
    numbers = (("doppelganger_rate", "low", "high"), ("difference", "difference_low", "difference_high"))
    for axes, names in zip(panels, numbers, strict=True):
        for number, group in enumerate(groups):
            own = table["representation"] == group
            value, low, high = (100 * np.asarray(table[name][own]) for name in names)
            errors = np.clip([value - low, high - value], 0, None)
            axes.errorbar(value, place[own], xerr=errors, fmt=MARKS[number], color=COLOURS[number], label=group)
    panels[0].set_yticks(place, table["choice"])
    panels[0].set_xlim(left=0)
    panels[0].set_xlabel("global doppelganger rate, % (68 %)")
    panels[1].axvline(0, color="0.4", lw=0.8)
    panels[1].set_xlabel("minus the text's, percentage points")
    body.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure
