"""What the page of `rsca reproduce` says: the paper item by item, published and obtained side by side."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rsca_torch.report.page.record import RECORD
from rsca_torch.report.page.rendering import pictures_beside, read_told
from rsca_torch.report.page.run_page import versions_told

__all__ = ["reproduction_page", "reproduction_verdict"]

NAMED = 5  # numbers that are not the published ones

Entry = Mapping[str, Any]  # an experiment of report.json


def reproduction_page(folder: Path, title: str) -> dict[str, Any]:
    """For reproduction.html.j2.

    Args:
        folder: what `rsca reproduce` wrote, with report.json.
        title: the folder's name.
    """
    record = read_told(folder / RECORD)
    there = [sorted((folder / each["name"]).glob("*.png")) for each in record["experiments"]]
    shown = iter(pictures_beside([path for paths in there for path in paths], {}, record))
    command = record["command"]
    experiments = [
        {
            **each,
            "id": f"item-{number}",
            "pictures": [(next(shown), f"{each['name']}/{path.name}") for path in paths],
            "command": record["commands"][each["name"]],
        }
        for number, (each, paths) in enumerate(zip(record["experiments"], there, strict=True))
    ]
    missing = [
        f"{each['name']} has no picture in the folder: it has none, or it is gone"
        for each in experiments
        if not each["pictures"] and not each["skipped"]
    ]
    return {
        "simulated": record["simulated"],
        "verdict": reproduction_verdict(record),
        "sections": {
            **{each["id"]: each["name"] for each in experiments},
            "problems": "Problems",
            "provenance": "Provenance",
        },
        "experiments": experiments,
        "problems": record["problems"],
        "missing": missing,
        "plots": {},
        "command": command,
        "page_command": shlex.join(["rsca", "report", f"run={title}"]),
        "provenance": {
            "started": record["started"],
            "survey": record["survey"],
            "checksum of the store": record["checksum"],
            "versions": versions_told(record["versions"]),
        },
        "options": "",
        "numbers": record,
    }


def reproduction_verdict(record: Mapping[str, Any]) -> list[str]:
    """Three sentences: how much was done, how much of it is as published, and what to beware of.

    Args:
        record: of report.json.

    Example:
        >>> def number(same, published=0.1):
        ...     return {"item": "table1", "setting": "rsca", "cluster": "M 67", "published": published, "same": same}
        >>> done = {"name": "table1", "skipped": "", "values": [number("yes"), number("no"), number("", None)]}
        >>> record = {"experiments": [done], "simulated": False, "problems": []}
        >>> for sentence in reproduction_verdict(record):
        ...     print(sentence)
        1 of 1 experiments were done; of their 3 numbers the paper prints 2, 2 of them with an uncertainty.
        1 of these 2 are as published within both intervals; not table1 (rsca, M 67).
        Beware: every interval is of the clusters that were judged; others may behave otherwise.
    """
    experiments = record["experiments"]
    done = [each for each in experiments if not each["skipped"]]
    numbers = [number for each in done for number in each["values"]]
    printed = [number for number in numbers if number["published"] is not None]
    known = [number for number in printed if number["same"]]
    first = (
        f"{len(done)} of {len(experiments)} experiments were done; of their {len(numbers)} numbers the paper prints "
        f"{len(printed)}, {len(known)} of them with an uncertainty."
    )
    return [first, _same(known), _beware(record, [each["name"] for each in experiments if each["skipped"]])]


def _same(known: Sequence[Entry]) -> str:
    if not known:
        return "No published number has an uncertainty by which it could be compared."
    other = [_name(each) for each in known if each["same"] == "no"]
    told = f"{len(known) - len(other)} of these {len(known)} are as published within both intervals"
    if not other:
        return f"{told}."
    more = f" and {len(other) - NAMED} more" if len(other) > NAMED else ""
    return f"{told}; not {', '.join(other[:NAMED])}{more}."


def _name(number: Entry) -> str:
    within = ", ".join(number[name] for name in ("setting", "cluster") if number[name])
    return f"{number['item']} ({within})" if within else str(number["item"])


def _beware(record: Mapping[str, Any], skipped: Sequence[str]) -> str:
    told = []
    if record["simulated"]:
        told.append("the stars are simulated, so that the numbers need not be those of the sky")
    if skipped:
        told.append(f"skipped: {', '.join(skipped)}")
    if number := len(record["problems"]):
        told.append(f"{number} warning{'s were' if number > 1 else ' was'} given, listed below")
    alone = "every interval is of the clusters that were judged; others may behave otherwise"
    return f"Beware: {'; '.join(told) or alone}."
