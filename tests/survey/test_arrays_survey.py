"""Arrays of one's own, in every kind of file, give the same store."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zarr
from astropy.table import Table

from rsca_torch import InputError, Spectra
from rsca_torch.cli.main import main
from rsca_torch.survey.described.arrays import store_of
from rsca_torch.survey.described.row_files import columns_of
from rsca_torch.survey.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:hydra")

NUMBER = 4_611_686_018_427_387_904  # 2^62: a float of it would be another number for most stars
N, P = 300, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("arrays")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        write(path)
        yield path


def write(path):
    rng = np.random.default_rng(0)
    flux = (1 + 0.01 * rng.normal(size=(N, P))).astype(np.float32)
    error = np.full((N, P), 0.01, dtype=np.float32)
    mask = np.zeros((N, P), dtype=np.int32)
    mask[5, 3], mask[280, 4] = 4, 1
    wavelength = np.linspace(500.0, 501.1, P)  # nm
    arrays = {"flux": flux, "error": error, "mask": mask, "wavelength": wavelength}
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    np.savez(path / "all.npz", **arrays)
    np.savez_compressed(path / "packed.npz", **arrays)
    with h5py.File(path / "all.h5", "w") as file:
        for name, array in arrays.items():
            file.create_dataset(f"spectra/{name}", data=array)
    group = zarr.open_group(path / "all.zarr", mode="w")
    for name, array in arrays.items():
        group.create_array(name, data=array)
    columns = {name: pyarrow.array(list(arrays[name])) for name in ("flux", "error", "mask")}
    pyarrow.parquet.write_table(pyarrow.table(columns), path / "all.parquet", row_group_size=110)
    stars = Table({"number": NUMBER + np.arange(N), "family": [""] * (N - 4) + ["A", "A", "B", "B"]})
    stars.write(path / "stars.fits")
    stars.write(path / "stars.ecsv")
    stars.write(path / "stars.csv")
    stars.to_pandas().to_parquet(path / "stars.parquet")


OPTIONS = ["survey=arrays", "survey.wavelength_is.unit=nm", "survey.roles.id=number", "survey.roles.group=family"]
PLACES = {
    "npy": ("flux.npy", "error.npy", "mask.npy", "wavelength.npy", "stars.fits"),
    "npz": ("all.npz:flux", "all.npz:error", "all.npz:mask", "all.npz:wavelength", "stars.ecsv"),
    "packed npz": ("packed.npz:flux", "packed.npz:error", "packed.npz:mask", "packed.npz:wavelength", "stars.csv"),
    "HDF5": (*(f"all.h5:spectra/{name}" for name in ("flux", "error", "mask", "wavelength")), "stars.parquet"),
    "Zarr": ("all.zarr:flux", "all.zarr:error", "all.zarr:mask", "all.zarr:wavelength", "stars.fits"),
    "Parquet": ("all.parquet:flux", "all.parquet:error", "all.parquet:mask", "wavelength.npy", "stars.fits"),
}


def arguments(kind):
    flux, error, mask, wavelength, stars = (f'"{place}"' for place in PLACES[kind])
    return [
        *OPTIONS,
        f"survey.flux={flux}",
        f"survey.error={error}",
        f"survey.mask={mask}",
        f"survey.wavelength={wavelength}",
        f"survey.stars={stars}",
    ]


@pytest.mark.parametrize("kind", PLACES)
def test_every_kind_of_file_gives_the_same_store(folder, kind):
    assert main(["ingest", *arguments(kind), f'store="of {kind}"']) == 0
    store = Store.open(folder / f"of {kind}")
    spectra = store.spectra()
    assert store.stars.id.tolist() == [str(NUMBER + row) for row in range(N)]
    assert store.stars.group.tolist()[-5:] == ["", "A", "A", "B", "B"]
    np.testing.assert_allclose(store.wavelength, np.linspace(5000, 5011, P))
    assert sorted(zip(*np.nonzero(~spectra.valid.numpy()), strict=True)) == [(5, 3), (280, 4)]
    flux = np.load(folder / "flux.npy")
    np.testing.assert_array_equal(spectra.flux[spectra.valid], flux[spectra.valid.numpy()])


def test_an_array_in_a_zip_is_read_in_blocks(folder):
    for name in ("all.npz", "packed.npz"):
        rows = columns_of(folder / name)["flux"]
        np.testing.assert_array_equal(rows[250:260], np.load(folder / "flux.npy")[250:260])
        np.testing.assert_array_equal(rows[3:5], np.load(folder / "flux.npy")[3:5])


def prepared_case(folder, case):
    """Options that put something wrong in the place of what is right."""
    options = arguments("npy")
    flux, error, wavelength = (np.load(folder / f"{name}.npy") for name in ("flux", "error", "wavelength"))
    stars = Table.read(folder / "stars.fits")
    if case == "falls":
        np.save(folder / "falling.npy", wavelength[::-1])
        return [*options, "survey.wavelength=falling.npy"]
    if case == "NaN":
        np.save(folder / "nothing.npy", np.full_like(flux, np.nan))
        return [*options, "survey.flux=nothing.npy"]
    if case == "ivar":
        np.save(folder / "tiny.npy", np.full_like(error, 1e-20))
        return [*options, "survey.error=null", "survey.ivar=tiny.npy"]
    if case == "twice":
        stars["number"][1] = stars["number"][0]
        stars.write(folder / "twice.fits", overwrite=True)
        return [*options, "survey.stars=twice.fits"]
    if case == "floats":
        Table({"number": stars["number"].astype(float), "family": stars["family"]}).write(folder / "floats.ecsv")
        return [*options, "survey.stars=floats.ecsv"]
    if case == "own grids":
        np.save(folder / "grids.npy", wavelength + np.zeros((N, 1)))
        return [*options, "survey.wavelength=grids.npy"]
    return [*options, *{"no array": ['survey.flux="all.npz:flocks"'], "rows": ['survey.flux="wavelength.npy"']}[case]]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("falls", "wavelengths do not rise: pixel 1 at 5010.0000 after 5011.0000 Angstrom"),
        ("NaN", "no pixel with a finite flux, a positive error and a clear mask"),
        ("ivar", "no pixel with a finite flux, a positive error and a clear mask"),
        ("twice", f"1 ids in number come more than once (first: {NUMBER}): keep one row a star"),
        ("floats", "ids in number are floating point"),
        ("own grids", "has a row a star: grids differ; say survey.grid={resample:"),
        ("no array", "there is no array flocks; there are flux, error, mask, wavelength"),
        ("rows", f"has {P} rows, the star table stars.fits {N}"),
    ],
)
def test_bad_input_ends_in_one_sentence(folder, capfd, case, message):
    assert main(["ingest", *prepared_case(folder, case), "store=bad"]) == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not Path("bad").exists()


def test_members_by_a_list_of_gaia_ids(folder, capfd):
    """As docs/lists.md says it of any survey: the kinds of ids, and how the list is written."""
    flux = arguments("npy")
    stars = Table.read(folder / "stars.fits")
    members = Table({"GaiaDR3": stars["number"][:4], "Which": ["A", "A", "B", "B"]})
    members.write(folder / "list.csv")
    given = [*flux, "survey.members=list.csv", "survey.listed.cluster=Which", "survey.roles.group=cluster"]
    assert main(["ingest", *given, "+survey.ids.gaia_dr3=number", "store=listed"]) == 0
    assert Store.open(folder / "listed").stars.group.tolist()[:5] == ["A", "A", "B", "B", ""]
    members.rename_column("GaiaDR3", "GaiaDR2")
    members.write(folder / "list.csv", overwrite=True)
    assert main(["ingest", *given, "+survey.ids.gaia_dr3=number", "store=bad"]) == 2
    assert "has ids of the kind gaia_dr2, and the survey has gaia_dr3 (number)" in " ".join(
        capfd.readouterr().err.split()
    )


def test_columns_of_ids_with_gaps_are_named(folder):
    stars = Table.read(folder / "stars.fits").to_pandas()
    stars["other"] = stars["number"].astype("Int64")
    stars.loc[3, "other"] = None
    stars.to_csv(folder / "gaps.csv", index=False)
    given = [*arguments("npy"), "survey.stars=gaps.csv", "survey.id_columns=[other]"]
    assert main(["ingest", *given, "store=gaps"]) == 0
    assert Store.open(folder / "gaps").stars["other"][2:4].tolist() == [str(NUMBER + 2), ""]


def test_a_store_of_spectra_in_memory(folder):
    flux, wavelength = np.load(folder / "flux.npy"), 10 * np.load(folder / "wavelength.npy")
    stars = Table.read(folder / "stars.fits")
    spectra = Spectra(
        flux, sigma=np.full(flux.shape, 0.01), wavelength=wavelength, stars=stars, id="number", group="family"
    )
    store = store_of(spectra, folder / "memory")
    assert store.stars.id.tolist() == spectra.stars.id.tolist()
    assert store.manifest["counts"]["members"] == 4
    np.testing.assert_array_equal(store.spectra().flux, spectra.flux)
    with pytest.raises(InputError, match="these spectra have none: give sigma"):
        store_of(Spectra(flux), folder / "other")
