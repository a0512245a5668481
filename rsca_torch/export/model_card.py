"""What a model card says of a fitted RSCA: what is known, and "not known" of all else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rsca_torch.layers.rsca import RSCA

__all__ = ["model_card"]

UNKNOWN = "not known"


def model_card(
    layer: RSCA,
    cuts: Sequence[Mapping[str, Any]] | None = None,
    rates: Sequence[Mapping[str, Any]] | None = None,
    licence: str | None = None,
) -> str:
    """README.md of a model folder, in Markdown with the Hub's own header; arguments as of `hub_folder.write`.

    >>> print(*model_card(RSCA.blank()).splitlines()[:4], sep=chr(10))
    ---
    library_name: rsca_torch
    license: unknown
    tags:
    """
    wavelength, telling = layer.wavelength, int(layer.sigma_r.isfinite().sum())
    lines = [
        "---",
        "library_name: rsca_torch",
        f"license: {licence or 'unknown'}",
        "tags:",
        "- astronomy",
        "- stellar-spectra",
        "- metric-learning",
        "---",
        "",
        "# RSCA: spectra to features whose distance says how likely two stars were born together",
        "",
        f"{len(layer.sigma_r)} features of {len(wavelength)} bins from {wavelength[0]:.2f} to {wavelength[-1]:.2f} "
        f"Angstrom in vacuum; {telling} of them tell siblings apart. Flux is continuum-normalised, at rest.",
        "",
        "    from rsca_torch import RSCA",
        "    features = RSCA.load(FOLDER)(flux, valid, sigma)",
        "",
        "## Data",
        "",
        *_bullets(_source(one) for one in layer.sources),
        "",
        "## Cuts",
        "",
        *_cuts(cuts),
        "",
        "## Clusters",
        "",
        f"{len(layer.clusters)}: {', '.join(map(_plain, layer.clusters))}" if layer.clusters else UNKNOWN,
        "",
        "## Rates",
        "",
        *_rates(rates),
        "",
        "## Licence",
        "",
        f"Of the model: {_plain(licence) if licence else UNKNOWN}. Of the program that fitted it: MIT.",
        "",
        "## Made by",
        "",
        f"rsca_torch {layer.version}; step 1: {layer.ppca!r}. `SHA256SUMS` has the checksums of the files; `RSCA.load` "
        "refuses the folder where they do not hold.",
        "",
    ]
    return "\n".join(lines)


def _plain(text: Any) -> str:  # noqa: ANN401  (names come from anywhere)
    """A text from a table, in one line of Markdown that shows it and nothing else."""
    return "".join(_letter(letter) for letter in str(text))


def _letter(letter: str) -> str:
    if letter in "<>&":
        return f"&#{ord(letter)};"
    return f"\\{letter}" if letter in "\\`*_[]|#" else letter if letter.isprintable() else " "


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines] or [UNKNOWN]


def _source(source: Mapping[str, Any]) -> str:
    if not source:
        return "spectra in memory, of which nothing is known"
    told = [_plain(source.get("survey", f"survey {UNKNOWN}"))]
    told += [f"{name} {_plain(source[name])}" for name in ("release", "members") if source.get(name)]
    told += ["simulated"] if source.get("simulated") else []
    return f"{', '.join(told)}; checksum of the store: `{source.get('store', UNKNOWN)}`"


def _cuts(cuts: Sequence[Mapping[str, Any]] | None) -> list[str]:
    if cuts is None:
        return [f"{UNKNOWN} (`rsca export store=DIR` tells them)"]
    rows = [f"| {_plain(one['cut'])} | {one['removed']} | {one['kept']} |" for one in cuts]
    return ["| cut | removed | kept |", "|---|---|---|", *rows]


def _rates(rates: Sequence[Mapping[str, Any]] | None) -> list[str]:
    if rates is None:
        return [f"{UNKNOWN} (`rsca export run=DIR` tells them)"]
    rows = [
        f"| {_plain(one['representation'])} | {_plain(one['learner'])} | {_rate(one['doppelganger_rate'])} | "
        f"{' to '.join(map(_rate, one['interval']))} | {one['pairs']} |"
        for one in rates
    ]
    said = (
        "Doppelganger rate: the share of strangers that are as alike as siblings are, each cluster left out in turn, "
        "with its 95 % interval. Lower is better; 50 % is chance."
    )
    return [said, "", "| on | learner | rate | interval | pairs |", "|---|---|---|---|---|", *rows]


def _rate(value: float | None) -> str:
    return UNKNOWN if value is None or not math.isfinite(value) else f"{100 * value:.3g} %"
