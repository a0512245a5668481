"""What watches the program under load runs, at toy size; the figures of the long runs are in docs/reliability.md."""

from __future__ import annotations

import csv
import re

from astropy.table import Table
from scripts import EXPERIMENTS, printed_alone, printed_by

from rsca_torch.survey.store import Store


def test_a_sweep_of_jobs_is_watched(tmp_path):
    printed = printed_alone("benchmarks/sweep_load.py", tmp_path / "out", "--jobs", 2)
    assert "exit code 0" in printed
    assert re.search(r"left in TMPDIR: \[('torchinductor_\w+')?\]", printed)
    assert (tmp_path / "out" / "sweep.png").stat().st_size > 0
    with (tmp_path / "out" / "held.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert int(rows[-1]["done"]) == 2
    assert all(float(row["memory"]) > 0 and int(row["processes"]) == 1 for row in rows)


def test_the_stars_of_the_soak_are_a_survey_that_the_chain_reads(tmp_path, monkeypatch):
    (tmp_path / "chain").mkdir()
    sizes = ("--stars", 400, "--bins", 60)
    printed_by("benchmarks/soak.py", tmp_path, *sizes, "--draw")
    monkeypatch.syspath_prepend(EXPERIMENTS / "benchmarks")
    import soak

    from rsca_torch.cli.main import main

    monkeypatch.chdir(tmp_path / "chain")
    ingest, *others = soak.commands(6, "NGC 6791")
    assert [command[0] for command in others] == ["fit", "embed", "siblings", "siblings", "compare", "report"]
    assert main(ingest) == 0
    store = Store.open(tmp_path / "chain" / "store")
    assert (store.manifest["counts"]["stars"], store.manifest["counts"]["members"]) == (400, 185)
    asked = (tmp_path / "chain" / "ids.txt").read_text().split()
    assert set(asked) <= set(Table.read(tmp_path / "chain" / "stars.fits")["APOGEE_ID"].tolist())


def test_what_stays_when_a_model_is_made_again():
    printed = printed_alone("benchmarks/determinism.py", "--stars", 80, "--bins", 30, "--components", 3)
    assert re.search(r"another process +│ bits +│ bits +│ bits +│ bits +│ bits", printed)
    assert re.search(r"2 processes +│ bits +│ bits +│ bits +│ bits +│ bits", printed)
