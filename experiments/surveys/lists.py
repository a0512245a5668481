"""Time and memory of reading a list of members as long as Hunt & Reffert's, in every format.

    python experiments/surveys/lists.py FOLDER [--rows 1291929] [--formats fits parquet csv cds votable ecsv]

Drawn rows with 25 columns, some 300 bytes each, are written below FOLDER, and read by `read_memberships` in a process
of its own: seconds of it, without the start, and the peak of its memory beyond what the program takes before.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from astropy.io.votable import from_table, writeto
from astropy.table import Table
from rich.console import Console
from rich.table import Table as Grid

from rsca_torch.survey.cuts import Cut
from rsca_torch.survey.members import ListedAs, read_memberships

ENDINGS = {"fits": "fits", "parquet": "parquet", "csv": "csv", "cds": "dat", "votable": "vot", "ecsv": "ecsv"}
NUMBERS = [f"col{number}" for number in range(20)]


def drawn(rows: int) -> Table:
    """A list with ids of 19 digits, clusters of 180 stars, and numbers that nobody asks for."""
    random = np.random.default_rng(0)
    table = Table({"Name": np.char.add("HSC_", (np.arange(rows) // 180).astype(str)), "ID": np.arange(rows) // 180})
    table["GaiaDR3"] = 3_000_000_000_000_000_001 + 1009 * np.arange(rows)
    table["inrt"] = (random.random(rows) < 0.5).astype(np.int16)
    table["Prob"] = random.random(rows).round(4)
    for name in NUMBERS:
        table[name] = random.normal(size=rows).round(7)
    return table


def write(table: Table, kind: str, path: Path) -> None:
    """The list in one format; of CDS also its ReadMe."""
    if kind == "votable":
        writeto(from_table(table), str(path))
    elif kind == "parquet":
        table.to_pandas().to_parquet(path)
    elif kind == "csv":
        table.to_pandas().to_csv(path, index=False)
    elif kind == "cds":
        lines, start = [], 1
        for name in table.colnames:
            width, form = (
                (20, "A20") if name == "Name" else (20, "I20") if name in ("ID", "GaiaDR3", "inrt") else (12, "F12.7")
            )
            lines.append(f"{start:4d}-{start + width - 1:4d} {form:7s} ---     {name:8s} of no meaning")
            start += width + 1
        rule = "-" * 80
        head = f"\n Bytes Format Units   Label    Explanations\n{rule}\n"
        told = f"Byte-by-byte Description of file: {path.name}\n{rule}{head}" + "\n".join(lines) + f"\n{rule}\n"
        path.with_name("ReadMe").write_text(told)
        columns = [
            np.asarray(table[name]).astype(str) if table[name].dtype.kind != "f" else np.char.mod("%.7f", table[name])
            for name in table.colnames
        ]
        widths = [12 if table[name].dtype.kind == "f" else 20 for name in table.colnames]
        with path.open("w") as file:
            for row in zip(*columns, strict=True):
                file.write(" ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + "\n")
    else:
        table.write(path, format={"ecsv": "ascii.ecsv"}.get(kind, kind), overwrite=True)


def peak() -> int:
    """Of this process's memory so far [kB]."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def read(path: Path) -> None:
    """Read it, and print seconds, MB and how many members there are."""
    before, begin = peak(), time.perf_counter()
    members = read_memberships(path, Cut.of({"name": "membership", "column": "Prob", "above": 0.7}), "id",
                               listed=ListedAs(id="GaiaDR3", kind="gaia_dr3", cluster="Name"))  # fmt: skip
    seconds = time.perf_counter() - begin
    print(seconds, (peak() - before) / 1e3, len(members.cluster))


def main() -> None:
    """Write, read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_291_929)
    parser.add_argument("--formats", nargs="+", default=[*ENDINGS], choices=[*ENDINGS])
    parser.add_argument("--read", action="store_true", help="the folder is a file: read it")
    given = parser.parse_args()
    if given.read:
        read(given.folder)
        return
    table, grid = drawn(given.rows), Grid("format", "MB", "seconds", "memory, MB", "members")
    for kind in given.formats:
        path = given.folder / f"members.{ENDINGS[kind]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write(table, kind, path)
        told = subprocess.run(
            [sys.executable, __file__, str(path), "--read"], capture_output=True, text=True, check=True
        ).stdout.split()
        grid.add_row(
            kind, f"{path.stat().st_size / 1e6:.0f}", f"{float(told[0]):.1f}", f"{float(told[1]):.0f}", told[2]
        )
    Console(width=100).print(grid)


if __name__ == "__main__":
    main()
