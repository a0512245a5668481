"""The kinds of files that are fuzzed: a good one of each, how it is changed, and what reads it."""

from __future__ import annotations

import gzip
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fuzz_changes as change
import numpy as np
import torch
import yaml
from astropy.io import fits
from astropy.table import Table
from safetensors.torch import load, save

from rsca_torch import RSCA
from rsca_torch.comparison.baseline_run import read_baseline_run
from rsca_torch.comparison.embedding_file import read_embedding
from rsca_torch.comparison.finished_run import finished_rate, rates_told
from rsca_torch.comparison.star_table import read_stars
from rsca_torch.comparison.sweep import gather, groups_of
from rsca_torch.comparison.sweep_jobs import read_note
from rsca_torch.evaluation.fold_files import Fold, FoldFiles
from rsca_torch.files.checked import json_of, sealed
from rsca_torch.ppca.e_step import Parameters
from rsca_torch.ppca.extrapolation import Ascent
from rsca_torch.ppca.frozen_file import FORMAT, digest
from rsca_torch.ppca.lightning import LightningEM, restore
from rsca_torch.report.citations import of_run
from rsca_torch.report.suspects import read_suspects
from rsca_torch.siblings.asked import ids_in
from rsca_torch.siblings.chance import kept_by_chance
from rsca_torch.siblings.embedded_stars import embedded_stars
from rsca_torch.spectra.blocks import Arrays
from rsca_torch.survey.apogee import N_PIXELS, read_spectrum
from rsca_torch.survey.apogee_catalogue import read_catalogue
from rsca_torch.survey.aspcapstar_folder import read_folder
from rsca_torch.survey.described.description import Description
from rsca_torch.survey.described.parts import Source, StarTable
from rsca_torch.survey.described.star_file import forget, opened
from rsca_torch.survey.described.star_tables import StarColumns
from rsca_torch.survey.download.manifest import MANIFEST, Manifest
from rsca_torch.survey.element_windows import read_windows
from rsca_torch.survey.line_list import read_lines
from rsca_torch.survey.list_formats import read_columns
from rsca_torch.survey.mwm.catalogue import read_labels
from rsca_torch.survey.mwm.spectrum import read_pixels
from rsca_torch.survey.mwm.visits import visits_of_stars
from rsca_torch.survey.store import Store
from rsca_torch.survey.store_writer import Partial

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "survey")]

SUSPECTS = """APOGEE_ID,CLUSTER,DISTANCE,LOG_RATIO,P_WRONG,PRIOR,CALIBRATED_ON,LISTED,SUSPECTS
2M05202880+3030395,Berkeley 17,1.166263485695705,-2.9934438642951857,0.13968332882772377,0.1,12,9,2
2M05201921+3039385,Berkeley 17,1.0557302495323648,-2.7542175938635207,0.1276679893600189,0.1,12,9,2
2M01002380+8511476,NGC 188,1.4132727213402416,-4.101518137694972,0.1324271606850974,0.1,12,14,2
"""
Change = Callable[[Any, bytes], bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        folder: that holds the good one, copied for each case; None: the file alone.
        file: in it.
        change: of (random, content).
        read: what the program does with it; gives what it read, or None where it said that it makes it anew.
        checked: a checksum stands over all that is read, so that other values may not be used.
        often: how often it is taken.
    """

    folder: Path | None
    file: str
    change: Change
    read: Callable[[Path], Any]
    checked: bool = False
    often: int = 3


def kinds_in(folder: Path) -> dict[str, Kind]:
    """Good files of every kind, made in that folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return {**_spectra(folder), **_tables(folder), **_ours(folder), **_results(folder)}


def _spectra(folder: Path) -> dict[str, Kind]:
    mini_archive = importlib.import_module("mini_archive")
    archive = mini_archive.write_archive(folder / "archive")
    star = next(archive.rglob("aspcapStar*.fits"))
    mini_archive.write_spectrum(folder / "with_table.fits", *mini_archive.good_spectrum(1), mini_archive.star(1))
    catalogue = archive / mini_archive.BASE / "allStar-r12-l33.fits"
    columns = ["APOGEE_ID", "TEFF", "X_H", "EXTRATARG", "VISITS", "LOCATION_ID", "ASPCAPFLAG", "FIELD"]
    _write_mwm(folder / "mwm.fits")
    _write_described(folder)
    compressed = fits.CompImageHDU(np.arange(8575.0).reshape(35, 245).astype(np.float32))
    fits.HDUList([fits.PrimaryHDU(), compressed]).writeto(folder / "packed.fits")
    (folder / "star.fits.gz").write_bytes(gzip.compress(star.read_bytes()))
    flux = Source(None, "flux")
    images = {"image": Source(1, None, index=0)}

    def arrays(source: Source, row: int | None, path: Path) -> Any:
        forget()
        with opened(path) as file:
            return file.array(source, row)

    def of_visits(path: Path) -> Any:
        stars = Table({"sdss_id": [7], "telescope": ["apo25m"], "release": ["sdss5"], "VISITS": [""]})
        found = visits_of_stars(path.parent, stars, lambda _: path.name)
        if found.problems:
            raise Listed(found.problems[0][1])
        return found.stars

    def of_folder(path: Path) -> Any:
        return read_folder(path.parent, path.name, "dr16")[0]

    wanted = ("flux", "ivar", "pixel_flags", "continuum")
    return {
        "aspcapStar": Kind(None, str(star), change.of_fits, read_spectrum, often=12),
        "aspcapStar.gz": Kind(None, str(folder / "star.fits.gz"), change.generic, read_spectrum),
        "folder of aspcapStar": Kind(None, str(folder / "with_table.fits"), change.of_fits, of_folder, often=5),
        "allStar": Kind(None, str(catalogue), change.of_fits, lambda p: read_catalogue(p, "dr16", columns), often=8),
        "mwmStar": Kind(
            None,
            str(folder / "mwm.fits"),
            change.of_fits,
            lambda p: read_pixels(p, "apo25m", 7, lambda _: 0, *wanted),
            often=8,
        ),
        "mwmVisit": Kind(None, str(folder / "mwm.fits"), change.of_fits, of_visits),
        "astraAllStar": Kind(
            None, str(folder / "labels.fits"), change.of_fits, lambda p: read_labels(p, ["sdss_id", "X_H"], ["snr"])
        ),
        "described FITS table": Kind(
            None, str(folder / "rows.fits"), change.of_fits, partial(arrays, flux, 3), often=5
        ),
        "described FITS image": Kind(
            None, str(folder / "packed.fits"), change.of_fits, partial(arrays, images["image"], None), often=4
        ),
        "described npz": Kind(None, str(folder / "rows.npz"), change.of_zip, partial(arrays, flux, 3)),
        "described npy": Kind(None, str(folder / "rows.npy"), change.of_npy, partial(arrays, Source(None, ""), 3)),
        "described HDF5": Kind(None, str(folder / "rows.h5"), change.generic, partial(arrays, flux, 3)),
        "described Parquet": Kind(None, str(folder / "rows.parquet"), change.generic, partial(arrays, flux, 3)),
        "described CSV": Kind(None, str(folder / "rows.csv"), change.of_text, partial(arrays, flux, 3)),
        "described Zarr": Kind(
            folder / "zarr", "rows.zarr/flux/zarr.json", change.of_json, lambda p: arrays(flux, 3, p.parents[1])
        ),
    }


class Listed(Exception):  # noqa: N818  (what became of it)
    """A file is not used, and the reason is in a list."""


def _write_mwm(path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = {name: rng.random((2, N_PIXELS)).astype(np.float32) for name in ("flux", "ivar", "continuum")}
    table = Table(
        {
            "sdss_id": np.array([7, 7]),
            "release": ["sdss5", "sdss5"],
            "telescope": ["apo25m"] * 2,
            "snr": [90.0, 80.0],
            "spectrum_flags": np.zeros(2, dtype=np.int64),
            "mjd": [59000, 59001],
            "plate": ["1", "2"],
            "fiber": [3, 4],
            "in_stack": [True, True],
            "apred": ["1.3", "1.3"],
            **pixels,
            "pixel_flags": np.zeros((2, N_PIXELS), dtype=np.float32),
        }
    )
    hdus = [fits.PrimaryHDU(), *(fits.BinTableHDU(Table({"sdss_id": np.array([], dtype=int)})) for _ in range(4))]
    hdus[3] = fits.BinTableHDU(table)
    for hdu, name in zip(hdus[1:], ("BOSS/APO", "BOSS/LCO", "APOGEE/APO", "APOGEE/LCO"), strict=True):
        hdu.name = name
        hdu.header["CRVAL"], hdu.header["CDELT"] = 4.179, 6e-6
    fits.HDUList(hdus).writeto(path)
    labels = Table({"sdss_id": [7, 8], "release": ["sdss5"] * 2, "telescope": ["apo25m"] * 2, "snr": [90.0, 80.0]})
    from rsca_torch.survey.mwm.catalogue import ELEMENTS

    for column in ELEMENTS.values():
        labels[column] = np.array([0.1, np.nan])
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(labels[:0]), fits.BinTableHDU(labels)]).writeto(
        path.with_name("labels.fits")
    )


def _write_described(folder: Path) -> None:
    import h5py
    import pyarrow
    import pyarrow.parquet
    import zarr

    rng = np.random.default_rng(1)
    flux, ids = rng.random((20, 30)), np.arange(20) + 2**60
    Table({"id": ids, "flux": flux}).write(folder / "rows.fits")
    np.savez(folder / "rows.npz", id=ids, flux=flux)
    np.save(folder / "rows.npy", flux)
    with h5py.File(folder / "rows.h5", "w") as file:
        file["id"], file["flux"] = ids, flux
    pyarrow.parquet.write_table(pyarrow.table({"id": ids, "flux": flux.tolist()}), folder / "rows.parquet")
    lines = [f'{star},"[{",".join(map(str, row))}]"' for star, row in zip(ids, flux, strict=True)]
    (folder / "rows.csv").write_text("id,flux\n" + "\n".join(lines) + "\n")
    group = zarr.open_group(folder / "zarr" / "rows.zarr", mode="w")
    group["id"], group["flux"] = ids, flux


def _tables(folder: Path) -> dict[str, Kind]:
    table = Table(
        {
            "APOGEE_ID": [f"2M{n:08d}+0000000" for n in range(12)],
            "CLUSTER": ["NGC 1", "M 67", ""] * 4,
            "source_id": np.arange(12) + 2**61,
            "CG_PROB": np.linspace(0, 1, 12),
            "FE_H": np.linspace(-1, 1, 12),
        }
    )
    table.write(folder / "list.csv")
    table.write(folder / "list.tsv", format="ascii.tab")
    table.write(folder / "list.ecsv")
    table.write(folder / "list.vot", format="votable")
    table.write(folder / "binary.vot", format="votable", tabledata_format="binary")
    table.write(folder / "list.fits")
    table.to_pandas().to_parquet(folder / "list.parquet")
    (folder / "ids.txt").write_text("\n".join(table["APOGEE_ID"]) + "\n")
    stars = SimpleNamespace(roles={"id": "APOGEE_ID"})
    features = Table({"APOGEE_ID": table["APOGEE_ID"], "FEATURES": np.arange(36.0).reshape(12, 3)})
    features.write(folder / "features.fits")
    np.savez(folder / "features.npz", id=np.array(table["APOGEE_ID"]), z=np.arange(36.0).reshape(12, 3))
    flat = Table({"APOGEE_ID": table["APOGEE_ID"], **{f"z{n}": np.arange(12.0) + n for n in range(3)}})
    flat.write(folder / "features.csv")
    flat.to_pandas().to_parquet(folder / "features.parquet")
    Table({"wavelength": [15000.5, 16000.25], "element": ["Fe", "Mg"]}).write(folder / "lines.csv")
    windows = {"Mg": [[15740.0, 15747.0], [15765.0, 15768.0]], "Al": [[16718.0, 16722.5]]}
    (folder / "windows.yaml").write_text(yaml.safe_dump(windows))
    described = Path(__file__).parents[2] / "conf" / "survey"
    text = (described / "galah_dr3.yaml").read_text(encoding="utf-8")
    (folder / "described.yaml").write_text(yaml.safe_dump(yaml.safe_load(text)["description"]))

    def choose(names: Any) -> Any:
        return [name for name in names if name in ("APOGEE_ID", "SOURCE_ID", "CLUSTER")], [
            n for n in names if n == "CG_PROB"
        ]

    def columns(path: Path) -> Any:
        return read_columns(path, "members of clusters", choose)

    def embedding(path: Path) -> Any:
        read = read_embedding(path, known=["APOGEE_ID"])
        return [read.ids, read.values, read.columns]

    made = {
        f"list {end}": Kind(None, str(folder / f"list.{end}"), how, columns)
        for end, how in {
            "csv": change.of_text,
            "tsv": change.of_text,
            "ecsv": change.of_text,
            "vot": change.of_xml,
            "parquet": change.generic,
            "fits": change.of_fits,
        }.items()
    }
    made |= {
        f"embedding {end}": Kind(None, str(folder / f"features.{end}"), how, embedding)
        for end, how in {
            "csv": change.of_text,
            "fits": change.of_fits,
            "npz": change.of_zip,
            "parquet": change.generic,
        }.items()
    }
    made |= {
        f"star table {end}": Kind(
            None, str(folder / f"list.{end}"), how, lambda p: StarColumns(p, StarTable(str(p))).read()
        )
        for end, how in {
            "csv": change.of_text,
            "ecsv": change.of_text,
            "vot": change.of_xml,
            "parquet": change.generic,
            "fits": change.of_fits,
        }.items()
    }
    return made | {
        "binary VOTable": Kind(None, str(folder / "binary.vot"), change.of_xml, columns),
        "stars=": Kind(
            None,
            str(folder / "list.ecsv"),
            change.of_text,
            lambda p: read_stars(p, {"id": "APOGEE_ID", "group": "CLUSTER"}),
        ),
        "ids=": Kind(None, str(folder / "ids.txt"), change.of_text, lambda p: ids_in(p, stars), often=2),
        "lines=": Kind(
            None, str(folder / "lines.csv"), change.of_text, lambda p: list(vars(read_lines(p)).values()), often=2
        ),
        "windows=": Kind(None, str(folder / "windows.yaml"), change.of_yaml, read_windows),
        "description": Kind(
            None, str(folder / "described.yaml"), change.of_yaml, lambda p: repr(Description.of(p)), often=6
        ),
    }


def _model_resealed(content: bytes) -> bytes:
    """With the checksum of what is in it now, as somebody would who wants it to be believed."""
    try:
        size = int.from_bytes(content[:8], "little")
        header, tensors = json.loads(content[8 : 8 + size]), load(content)
        told = json.loads(header["__metadata__"][FORMAT])
        told.pop("sha256", None)
        return save(tensors, metadata={FORMAT: json.dumps({**told, "sha256": digest(told, tensors)})})
    except Exception:  # it is no model any more
        return content


def _ours(folder: Path) -> dict[str, Kind]:
    """What this program wrote."""
    store = importlib.import_module("small_store").small_store(folder / "small" / "store")
    model = RSCA.fit(store.field, store.members, n_components=3, max_iterations=3, tolerance=1.0)
    model.save(folder / "model.safetensors")
    from rsca_torch.export.hub_folder import write

    write(model, folder / "hub")
    kept = folder / "kept"
    stars = embedded_stars(model, store, kept)
    measure = SimpleNamespace(
        own=lambda z: (torch.zeros(len(z)), torch.zeros(len(z))),
        scale=1.0,
        value=lambda apart, *_: apart,
        log_ratio=lambda value: -value,
    )

    def rule() -> None:
        """Of pairs."""

    class Pairs:
        def __init__(self) -> None:
            self.rule = rule

        def __call__(self, some: Any, field: Any) -> Any:
            return torch.ones(len(some), len(field), dtype=torch.bool)

    candidates = stars.is_certain

    def of_chance(path: Path) -> Any:
        from dataclasses import replace

        return kept_by_chance(replace(stars, file=path.with_name("features.npy")), Pairs(), measure, candidates)

    of_chance(stars.file)
    chance = next(kept.rglob("chance-*"))
    folds = FoldFiles(folder / "folds")
    empty = torch.rand(5, dtype=torch.float64)
    folds.put(("A", "B"), Fold(0.25, 5, 40, 0.3, empty, empty + 1, "a note", merits={"overlap": 0.1}))
    fold = next((folder / "folds").iterdir())
    source = Arrays(torch.randn(60, 9, generator=torch.Generator().manual_seed(0)))
    from rsca_torch.ppca.fit import fit_ppca

    fit_ppca(source, n_components=2, max_iterations=2, em_loop=LightningEM(checkpoint=folder / "fit.ckpt"))

    def of_checkpoint(path: Path) -> Any:
        nothing = torch.zeros(9, dtype=torch.float64)
        ascent = Ascent(Parameters(nothing[:, None], nothing, nothing[0]), 1e-4, 9)
        restore(path, ascent)
        return [*ascent.trial, ascent.history, ascent.path]

    partial_store = Partial(folder / "begun" / "store", "print", np.arange(6), np.arange(6.0))
    for _ in range(2):
        block = np.arange(18, dtype=np.float32).reshape(3, 6)
        partial_store.append(block, block + 1, np.ones((3, 6), dtype=bool), {})

    def of_partial(path: Path) -> Any:
        resumed = Partial(path.parent.with_name("store"), "print", np.arange(6), np.arange(6.0))
        return [resumed.done, resumed.n_valid, resumed.seen, resumed.failed] if resumed.done else None

    def of_store(path: Path) -> Any:
        opened_store = Store.open(path.parent)
        opened_store.verify()
        flux, valid, error = opened_store.read(np.arange(0, len(opened_store), 9))
        parts = [opened_store.stars, opened_store.repeats.stars, opened_store.wavelength, opened_store.bins]
        told = [
            repr(opened_store.manifest["counts"]),
            opened_store.selection,
            opened_store.problems,
            opened_store.removed,
        ]
        return [flux, valid, error, *parts, *told, repr(opened_store).partition(", in ")[0]]

    def of_kept(path: Path) -> Any:
        found = embedded_stars(model, store, path.parents[1])
        return [found.features, found.noise, found.valid_bins]

    def of_fold(path: Path) -> Any:
        read = FoldFiles(path.parent).get(("A", "B"))
        return None if read is None else list(vars(read).values())

    def of_model(path: Path) -> Any:
        return list(RSCA.load(path).state_dict().values())

    def files(name: str, how: Change, read: Callable[[Path], Any], often: int = 2) -> Kind:
        return Kind(store.path, name, how, read, checked=True, often=often)

    manifest = "path,whole,10,1700000000,sha1,.\na.fits,part,W/x,,,.\nb.fits,absent,,,,.\nc,sha1,abc,,,.\nl,list,,,,.\n"
    (folder / "tree").mkdir()
    (folder / "tree" / MANIFEST).write_text(manifest)

    def of_manifest(path: Path) -> Any:
        read = Manifest(path.parent, reading=True)
        return [read.whole, read.parts, sorted(read.absent), read.sha1, sorted(read.lists)]

    place = stars.file.parent
    return {
        **{f"store {name}": files(name, change.of_npy, of_store) for name in ("flux.npy", "error.npy", "bins.npy")},
        "store stars.fits": files("stars.fits", change.of_fits, of_store, 4),
        "store manifest.json": files("manifest.json", partial(change.of_json, sealed=None), of_store, 6),
        "store selection.json": files("selection.json", change.of_json, of_store),
        "store removed.csv": files("removed.csv", change.of_text, of_store, 1),
        "store problems.csv": files("problems.csv", change.of_text, of_store, 1),
        "store resealed": Kind(
            store.path,
            "manifest.json",
            partial(change.of_json, sealed=sealed),
            lambda p: repr(Store.open(p.parent)),
            often=4,
        ),
        "partial journal": Kind(
            folder / "begun" / "store.partial", "journal.json", partial(change.of_json, sealed=None), of_partial, True
        ),
        "partial journal resealed": Kind(
            folder / "begun" / "store.partial", "journal.json", partial(change.of_json, sealed=sealed), of_partial
        ),
        "partial arrays": Kind(folder / "begun" / "store.partial", "flux.raw", change.generic, of_partial, True),
        "model": Kind(None, str(folder / "model.safetensors"), change.of_safetensors, of_model, True, 6),
        "model resealed": Kind(
            None,
            str(folder / "model.safetensors"),
            partial(change.of_safetensors, resealed=_model_resealed),
            of_model,
            often=6,
        ),
        **{
            f"hub {name}": Kind(folder / "hub", name, how, lambda p: of_model(p.parent), True, 2)
            for name, how in {
                "model.safetensors": change.of_safetensors,
                "config.json": change.of_json,
                "SHA256SUMS": change.of_text,
            }.items()
        },
        "kept features": Kind(place.parent, f"{place.name}/features.npy", change.of_npy, of_kept, True),
        "kept sums": Kind(place.parent, f"{place.name}/sums.json", change.of_json, of_kept, True, 2),
        "kept chance": Kind(place, chance.name, change.of_zip, of_chance, True),
        "fold": Kind(None, str(fold), change.of_safetensors, of_fold, True, 6),
        "checkpoint": Kind(None, str(folder / "fit.ckpt"), change.of_zip, of_checkpoint, True, 6),
        "download manifest": Kind(folder / "tree", MANIFEST, change.of_text, of_manifest),
    }


def _results(folder: Path) -> dict[str, Kind]:
    """Of a finished run, whose results.json stands here cut down to what is read of it."""
    run = folder / "sweep" / "run"
    run.mkdir(parents=True)
    (run / "results.json").write_text(Path(__file__).with_name("results.json").read_text())
    (run / "job.json").write_text(json.dumps({"launch": "a", "overrides": ["seed=1"], "problem": None, "bug": False}))
    (run / "suspects.csv").write_text(SUSPECTS)
    content = json_of((run / "results.json").read_bytes())
    from omegaconf import OmegaConf

    config = OmegaConf.create({name: content["config"].get(name) for name in ("pairs", "alike", "figures_of_merit")})
    checksum = content["store"]["checksum"]

    def sweep(path: Path) -> Any:
        gathered = gather(path.parents[1])
        name = str(gathered.results["learner"].iloc[0])
        return [gathered.results.to_csv(), gathered.unused, groups_of(gathered, name).to_csv()]

    def baseline(path: Path) -> Any:
        read = read_baseline_run(path.parent, checksum, config)
        return [result.loco.cluster_rates for result in read.results]

    def told(path: Path) -> Any:
        return [rates_told(path.parent), finished_rate(path.parent, content["config"], checksum)]

    def suspects(path: Path) -> Any:
        read = read_suspects(path.parent)
        return None if read is None else read.to_csv()

    both = folder / "sweep", "run/results.json"
    return {
        "results.json, report": Kind(*both, change.of_json, sweep, often=5),
        "results.json, baseline": Kind(*both, change.of_json, baseline, often=4),
        "results.json, sweep": Kind(*both, change.of_json, told, often=3),
        "results.json, cite": Kind(*both, change.of_json, lambda p: repr(of_run(p.parent)), often=3),
        "job.json": Kind(folder / "sweep", "run/job.json", change.of_json, lambda p: read_note(p) or None, often=2),
        "suspects.csv": Kind(folder / "sweep", "run/suspects.csv", change.of_text, suspects, often=2),
    }


def fingerprint(value: Any) -> str:
    """The same text for the same values."""
    import hashlib

    total = hashlib.sha256()

    def add(each: Any) -> None:
        if isinstance(each, Table):
            each = {
                name: np.ma.filled(each[name]) if hasattr(each[name], "mask") else each[name] for name in each.colnames
            }
        if isinstance(each, Mapping):
            for name in sorted(map(str, each)):
                total.update(name.encode("utf-8", "surrogatepass"))
            for name in sorted(each, key=str):
                add(each[name])
        elif isinstance(each, torch.Tensor):
            add(each.detach().numpy())
        elif isinstance(each, np.ndarray) and each.dtype.kind != "O":
            total.update(f"{each.dtype}{each.shape}".encode() + np.ascontiguousarray(each).tobytes())
        elif isinstance(each, list | tuple | np.ndarray):
            for one in each:
                add(one)
        else:
            total.update(repr(each).encode("utf-8", "surrogatepass"))

    add(value)
    return total.hexdigest()
