"""What a layer does, as a program of torch for any number of stars, and what every export tells of it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from rsca_torch.errors import InputError
from rsca_torch.files.whole import atomic_file
from rsca_torch.layers.encoder import Encoder
from rsca_torch.layers.rsca import RSCA

__all__ = ["EXPORT_SCHEMA", "INPUTS", "Layer", "as_json", "inputs_of", "program_of", "told_of", "write_summed"]

EXPORT_SCHEMA = 1  # of what the files tell and, in NumPy's, hold
INPUTS = ("flux", "valid", "sigma")
TRACES = (
    "stack_trace",
    "nn_module_stack",
    "source_fn_stack",
    "torch_fn",
    "from_node",
)  # paths of this machine, in large part
STARS = 3  # of the spectra that the program is followed with: no 0 and no 1, which torch takes for special


Layer = RSCA | Encoder


def inputs_of(layer: Layer, given: Sequence[str] | None) -> tuple[str, ...]:
    """What the program is given; None: all that matters to the layer.

    Raises:
        InputError: for other names than flux, valid and sigma, no flux, and errors that the model has no use for.

    Example:
        >>> from rsca_torch import RSCA
        >>> inputs_of(RSCA._blank(), None), inputs_of(RSCA._blank(), ["sigma", "flux"])
        (('flux', 'valid', 'sigma'), ('flux', 'sigma'))
    """
    if given is None:
        return INPUTS if layer.uses_sigma else INPUTS[:2]
    unknown = [name for name in given if name not in INPUTS]
    if unknown or "flux" not in given:
        raise InputError(f"inputs: flux and maybe valid and sigma expected, got {', '.join(map(str, given)) or 'none'}")
    if "sigma" in given and not layer.uses_sigma:
        raise InputError(
            "inputs: the model was fitted with isotropic noise, to which sigma does not matter: leave it out"
        )
    return tuple(name for name in INPUTS if name in given)


def program_of(layer: Layer, inputs: Sequence[str], dtype: torch.dtype = torch.float64) -> ExportedProgram:
    """The layer as a graph that takes (N, P) inputs by these names for any N, and gives (N, D) `features`.

    Args:
        layer: it computes in float64 whatever the dtype.
        inputs: as `inputs_of` gives them.
        dtype: of flux and sigma, and of the features.
    """
    flux = torch.ones(STARS, len(layer.wavelength), dtype=dtype)
    spectra = {"flux": flux, "valid": torch.ones_like(flux, dtype=torch.bool), "sigma": torch.full_like(flux, 0.01)}
    given, stars = {name: spectra[name] for name in inputs}, Dim("stars")
    own = copy.deepcopy(layer).cpu().eval()  # else a learner's dropout would be in the program
    for part in own.modules():
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, buffer.clone())  # none a part of another, which the file would hold whole
    shapes = {name: {0: stars} for name in inputs}
    with torch.no_grad():
        program = torch.export.export(own, (), given, dynamic_shapes=shapes, strict=False)
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:
            for name in TRACES:
                node.meta.pop(name, None)
    return program


def told_of(layer: Layer, inputs: Sequence[str] | None = None, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """What every export says, as JSON: what it is, the bins' wavelengths, sigma_r, clusters and where it is from.

    `sigma_r` is null where a dimension tells nothing about siblings (JSON has no infinity).

    Example:
        >>> from rsca_torch import RSCA
        >>> told_of(RSCA._blank())["wavelength_unit"]
        'Angstrom, in vacuum'
    """
    sigma_r = getattr(layer, "sigma_r", None)
    told = {
        "format": "rsca_torch export",
        "schema": EXPORT_SCHEMA,
        "kind": type(layer).__name__,
        "rsca_torch": layer.version,
        "n_bins": len(layer.wavelength),
        "inputs": None if inputs is None else list(inputs),
        "dtype": str(dtype).removeprefix("torch."),
        "wavelength_unit": "Angstrom, in vacuum",
        "clusters": list(layer.clusters),
        "fitted_on": [dict(source) or {"store": None} for source in layer.sources],
        "wavelength": layer.wavelength.tolist(),
    }
    if sigma_r is not None:
        told["sigma_r"] = [value if value < float("inf") else None for value in sigma_r.tolist()]
    return told


def write_summed(path: Path, content: bytes) -> None:
    """A file, and beside it PATH.sha256, which `sha256sum --check` reads."""
    digest = hashlib.sha256(content).hexdigest()
    with atomic_file(path.with_name(f"{path.name}.sha256")) as part:  # first: where the file is, all is there
        part.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    with atomic_file(path) as part:
        part.write_bytes(content)


def as_json(told: dict[str, Any]) -> str:
    """One line."""
    return json.dumps(told, allow_nan=False)
