"""What `rsca ingest` shows beside our numbers: the paper's, and what became of the list of members."""

from __future__ import annotations

from mini_archive import survey
from rich.console import Console

from rsca_torch.report.ingest_summary import cut_flow_table, members_table, surprises
from rsca_torch.survey.ingest import ingest


def printed(table):
    console = Console(width=160)
    with console.capture() as captured:
        console.print(table)
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_the_cut_flow_stands_beside_published_numbers(archive, tmp_path):
    known = {"field": 151145, "members": 185, "why": {"not STAR_BAD": "S/N below 50 too", "no valid bin": "nobody"}}
    store = ingest(survey(archive, published=known), tmp_path / "store")
    lines = printed(cut_flow_table(store))
    assert lines[0].split() == ["cut", "removed", "kept", "published"]
    assert f"field {store.manifest['counts']['field']} 151,145" in lines
    assert f"members {store.manifest['counts']['members']} 185" in lines
    assert surprises(store) == ["not STAR_BAD: S/N below 50 too"]  # of steps that removed somebody


def test_without_published_numbers_there_is_no_such_column(archive, tmp_path):
    store = ingest(survey(archive), tmp_path / "store")
    assert printed(cut_flow_table(store))[0].split() == ["cut", "removed", "kept"]
    told = printed(members_table(store))
    assert "rows 11" in told
    assert "not CG_PROB above 0.8 3" in told
    assert "in two clusters 1" in told
