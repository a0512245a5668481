"""How a download fares against an archive that misbehaves, and is killed meanwhile.

    python experiments/surveys/download_faults.py [SURVEYS] [SHARE]

Each survey is a miniature archive of 14 spectra, served on loopback. A share of all answers (0.3) is spoilt in one of
twelve ways, drawn anew for each request. A run is killed at five random moments, then made to its end; three at most.
Printed: how many trees are complete after each run, missing files that are named and that are not, files under a final
name that are not the archive's, and the largest number of connections at once.
"""

from __future__ import annotations

import csv
import random
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[2]
sys.path[:0] = [str(HERE / "tests" / "survey"), str(HERE)]

from archive_server import serving, write_lists  # noqa: E402
from astropy.io import fits  # noqa: E402
from mini_archive import BASE, MEMBERS, write_archive  # noqa: E402
from test_download_kills import runs  # noqa: E402

FAULTS = ["reset", "hang", "drip", "long", "short", "corrupt", "404", "429", "503", "redirect", "page", "html"]
KILLS, RUNS = 5, 3


def written(root: Path) -> None:
    """The archive, whose catalogue and list have checksums of their own."""
    write_archive(root)
    for file in [*root.glob(f"{BASE}/*.fits"), root / MEMBERS]:
        with fits.open(file, mode="update") as hdus:
            for hdu in hdus:
                hdu.add_checksum()
    write_lists(root, f"{BASE}/*/*/*.fits", "r12_l33_{TELESCOPE}_{FIELD}.sha1sum")


def named(root: Path) -> set[str]:
    """The missing files that are named."""
    place = root / "download_problems.csv"
    if not place.is_file():
        return set()
    with place.open(newline="") as file:
        return {row["file"] for row in csv.DictReader(file)}


def main(surveys: int = 20, share: float = 0.3) -> None:
    """Print what came of it."""
    complete, kills, wrong, left, unnamed, most, asked = [0] * RUNS, 0, 0, 0, 0, 0, 0
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "sas")
        written(archive)
        with serving(archive) as server, runs(server.address) as run:
            _, lasts = run(Path(folder, "whole"))
            needed = {path.relative_to(Path(folder, "whole")) for path in Path(folder, "whole").rglob("*.fits")}
            for seed in range(surveys):
                drawn, root = random.Random(seed), Path(folder, f"tree {seed}")
                server.faults = lambda *_, drawn=drawn: drawn.choice(FAULTS) if drawn.random() < share else ""
                for number in range(RUNS):
                    for _ in range(KILLS):
                        code, _ = run(root, drawn.uniform(0, lasts))
                        kills += code < 0
                        wrong += sum(is_wrong(path, root, archive) for path in root.rglob("*.fits"))
                    code, _ = run(root)
                    wrong += sum(is_wrong(path, root, archive) for path in root.rglob("*.fits"))
                    missing = {path for path in needed if not (root / path).is_file()}
                    told = named(root)
                    if not missing:
                        complete[number] += 1
                        break
                left += len(missing)
                unnamed += len([path for path in missing if path.as_posix() not in told]) if code == 1 else 0
                print(
                    seed, "run", number + 1, "exit code", code, "missing", len(missing), "named", len(told), flush=True
                )
                most, asked = max(most, server.most), sum(server.asked.values())
    took = time.monotonic() - start
    print(f"{surveys} surveys, {100 * share:.0f} % of {asked} answers spoilt, {kills} kills, {took:.0f} s")
    print(f"complete after run 1, 2, 3: {complete}; missing after three: {left}, of which not named: {unnamed}")
    print(f"wrong files under a final name: {wrong}; most connections at once: {most}")


def is_wrong(path: Path, root: Path, archive: Path) -> bool:
    """Whether a file is not what the archive has."""
    return path.read_bytes() != (archive / path.relative_to(root)).read_bytes()


if __name__ == "__main__":
    main(*(kind(given) for kind, given in zip((int, float), sys.argv[1:], strict=False)))
