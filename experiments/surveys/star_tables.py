"""Time and memory of choosing the stars of a described survey whose star table has a million rows.

    python experiments/surveys/star_tables.py FOLDER [--rows 1000000] [--columns 200] [--formats fits parquet hdf5 csv]

A table like GALAH DR4's is drawn and written below FOLDER. `choose_stars` reads it in a process of its own, once with a
cut that a third of the stars pass and all their columns, once with all stars and few columns (`stars.keep`): seconds,
and the peak of memory in all. No spectrum is looked at. CSV has a quarter of the columns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
from astropy.io import fits
from rich.console import Console
from rich.table import Table as Grid

from rsca_torch.survey.chosen_stars import choose_stars
from rsca_torch.survey.described.reader import DescribedReader
from rsca_torch.survey.survey import Survey

ENDINGS = {"fits": "fits", "parquet": "parquet", "hdf5": "h5", "csv": "csv"}
FIRST = 3_000_000_000_000_000_001


def drawn(rows: int, columns: int) -> dict[str, np.ndarray]:
    """Ids of 16 and 19 digits, a flag that a third has not, a velocity, and numbers that nobody asks for."""
    random = np.random.default_rng(0)
    table = {"sobject_id": 131_116_000_501_000 + np.arange(rows), "gaiadr3_source_id": FIRST + 1009 * np.arange(rows)}
    table |= {"flag_sp": (np.arange(rows) % 3).astype(np.int32), "family": (np.arange(rows) // 500 * 4).astype(str)}
    numbers = {f"col{number}": random.normal(size=rows).astype(np.float32) for number in range(columns - 5)}
    return table | {"rv": random.normal(size=rows).astype(np.float32)} | numbers


def write(table: dict[str, np.ndarray], kind: str, path: Path) -> None:
    """The table in one format."""
    if kind == "fits":
        fits.BinTableHDU(np.rec.fromarrays([*table.values()], names=[*table])).writeto(path)
    elif kind == "hdf5":
        with h5py.File(path, "w") as file:
            for name, values in table.items():
                file[name] = values.astype("S") if values.dtype.kind == "U" else values
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(table), path, row_group_size=100_000)
    else:
        pyarrow.table({name: table[name] for name in [*table][: len(table) // 4]}).to_pandas().to_csv(path, index=False)


def choose(path: Path, few: bool) -> None:
    """Choose the stars, and print seconds, MB and how many there are."""
    kept = {"keep": ["col0", "col1", "col2"]} if few else {}
    description = {
        "layout": "file_per_star",
        "spectrum": "{sobject_id}.fits",
        "stars": {"path": path.name, "ids": ["sobject_id", "gaiadr3_source_id"], **kept},
        "arms": {"all": {"flux": "flux", "wavelength": "wave", "error": "error"}},
        "grid": {"resample": {"start": 5000, "step": 1e-5, "n": 100}},
    }
    cuts = {} if few else {"flag": {"column": "flag_sp", "below": 1}}
    roles = {"id": "gaiadr3_source_id", "group": "family", "velocity": "rv"}
    survey = Survey(path.parent, DescribedReader, description=description, cuts=cuts, roles=roles)
    survey.reader._looked = True  # type: ignore[attr-defined]
    begin = time.perf_counter()
    chosen = choose_stars(survey)
    seconds = time.perf_counter() - begin
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(seconds, peak / 1e3, len(chosen.stars))


def main() -> None:
    """Write, read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=200)
    parser.add_argument("--formats", nargs="+", default=[*ENDINGS], choices=[*ENDINGS])
    parser.add_argument("--choose", choices=["few", "all"], help="the folder is a file: choose its stars")
    given = parser.parse_args()
    if given.choose:
        choose(given.folder, given.choose == "few")
        return
    grid = Grid("format", "MB", "columns", "stars", "seconds", "memory, MB")
    table = None
    for kind in given.formats:
        path = given.folder / f"stars.{ENDINGS[kind]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            table = drawn(given.rows, given.columns) if table is None else table
            write(table, kind, path)
        for which in ("all", "few"):
            command = [sys.executable, __file__, str(path), "--choose", which]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            size = f"{path.stat().st_size / 1e6:.0f}"
            grid.add_row(kind, size, which, told[2], f"{float(told[0]):.1f}", f"{float(told[1]):.0f}")
    Console(width=100).print(grid)


if __name__ == "__main__":
    main()
