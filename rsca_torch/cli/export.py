"""`rsca export`: a fitted model in a file that other programs read."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from rsca_torch.cli.inputs import is_default, output_path
from rsca_torch.comparison.finished_run import rates_told
from rsca_torch.errors import InputError
from rsca_torch.files.places import claimed, require_new_file, require_new_folder
from rsca_torch.layers.rsca import RSCA
from rsca_torch.survey.store import Store

__all__ = ["run"]

log = logging.getLogger(__name__)

#: Imported where they are asked for: ONNX and the Hub need packages of an extra.
MODULES = {
    "onnx": "rsca_torch.export.onnx_file",
    "torch": "rsca_torch.export.torch_file",
    "numpy": "rsca_torch.export.numpy_file",
    "hub": "rsca_torch.export.hub_folder",
}
OF_PROGRAMS, OF_HUB = ("inputs", "dtype"), ("store", "run", "licence")
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def run(config: DictConfig) -> None:
    """Write a fitted model for other programs: ONNX, torch, NumPy, or a folder for the Hugging Face Hub."""
    if config.to not in MODULES:
        raise InputError(f"to={config.to}: {', '.join(MODULES)} expected")
    options = _options(config)
    out = output_path(config.out)
    require_new = require_new_folder if config.to == "hub" else require_new_file
    require_new(out)
    try:
        module: Any = importlib.import_module(MODULES[config.to])
    except ImportError as error:
        raise InputError(f"to={config.to} needs {error.name}: pip install 'rsca_torch[export]'") from error
    model = RSCA.load(config.model)
    if config.to == "hub":
        options |= _of_the_fit(config, model)
    with claimed(out):
        require_new(out)  # now that nobody else makes it
        module.write(model, out, **options)
    said = f"RSCA of {len(model.sigma_r)} features and {len(model.wavelength)} bins in {out}"
    log.info(said if config.to == "hub" else f"{said}, its checksum in {out.name}.sha256")


def _options(config: DictConfig) -> dict[str, Any]:
    """Of the format that is asked for.

    Raises:
        InputError: where one was typed that is another format's, or there is no such dtype.
    """
    known = {"hub": OF_HUB, "numpy": ()}.get(config.to, OF_PROGRAMS)
    idle = [name for name in (*OF_PROGRAMS, *OF_HUB) if name not in known and not is_default(name)]
    if idle:
        raise InputError(f"{', '.join(idle)}: no effect with to={config.to}; leave it out")
    if config.to == "hub":
        return {"licence": config.licence}
    if config.to == "numpy":
        return {}
    if config.dtype not in DTYPES:
        raise InputError(f"dtype={config.dtype}: float64 or float32 expected")
    return {"inputs": None if config.inputs is None else list(config.inputs), "dtype": DTYPES[config.dtype]}


def _of_the_fit(config: DictConfig, model: RSCA) -> dict[str, Any]:
    """Cuts and rates of the very data that the model was fitted on.

    Raises:
        InputError: where the store or the run is of other data.
    """
    fitted_on = {source.get("store") for source in model.sources}
    told: dict[str, Any] = {}
    if config.store is not None:
        store = Store.open(config.store)
        _require_same(f"store={config.store}", store.checksum, fitted_on)
        told["cuts"] = store.selection
    if config.run is not None:
        checksum, told["rates"] = rates_told(Path(config.run))
        _require_same(f"run={config.run}", checksum, fitted_on)
    return told


def _require_same(what: str, checksum: str | None, fitted_on: set[Any]) -> None:
    if checksum not in fitted_on:
        stores = ", ".join(str(store)[:16] for store in fitted_on if store) or "spectra in memory"
        raise InputError(
            f"{what} is of the store {str(checksum)[:16]}, the model was fitted on {stores}: give that one"
        )
