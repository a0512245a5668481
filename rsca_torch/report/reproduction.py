"""The paper item by item: what an experiment gives, what was published, and the table of them all."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.table import Table
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.table import Table as RichTable

from rsca_torch.comparison.assembly import Assembly
from rsca_torch.drawing.style import in_style
from rsca_torch.errors import InputError
from rsca_torch.evaluation.fold_files import code_of
from rsca_torch.files.checked import read_json
from rsca_torch.files.whole import atomic_folder, updated_folder, write_json
from rsca_torch.learners.registry import CONFIG
from rsca_torch.report.figure_files import save_figure
from rsca_torch.report.page.record import run_said
from rsca_torch.report.terminal import plain_table

__all__ = [
    "EXPERIMENTS",
    "Reproduced",
    "Value",
    "items_of",
    "published",
    "reproduce",
    "summary_table",
    "told",
    "write_summary",
]

log = logging.getLogger(__name__)

EXPERIMENTS = CONFIG.parent / "experiments"
NOTE = "item.json"
SIMULATED = "simulated survey"


@dataclass(frozen=True)
class Value:
    """One number of an experiment, to stand beside the published one.

    Attributes:
        item: as in experiments/published.csv; one of the project's own where nothing was published.
        setting: likewise.
        value: what was obtained; rates are shares, 0 to 1.
        low: lower end of its 68 % interval; NaN: none.
        high: upper end.
        cluster: of a number of one cluster.
        why: why it may differ from the published number, where that is known.
    """

    item: str
    setting: str
    value: float
    low: float = math.nan
    high: float = math.nan
    cluster: str = ""
    why: str = ""

    @classmethod
    def of(
        cls, item: str, setting: str, row: Table.Row, names: Sequence[str] = ("doppelganger_rate", "low", "high")
    ) -> Value:
        """A row's number and the ends of its interval, from the columns of those names."""
        value, low, high = (float(row[name]) for name in names)
        return cls(item, setting, value, low, high)


@dataclass(frozen=True)
class Reproduced:
    """What an experiment gives.

    Attributes:
        values: for the summary.
        finding: what it shows, in one or two sentences with numbers.
        tables: tidy, one row an observation; each is written as NAME.csv.
        figures: each is written as NAME.png and NAME.pdf.
    """

    values: Sequence[Value]
    finding: str
    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of an experiment."""

    name: str
    title: str
    values: list[Value]
    finding: str
    skipped: str = ""  # why
    problems: Sequence[str] = ()  # what it warned of


def items_of(config: DictConfig) -> list[str]:
    """The names of the experiments that are asked for, in the order of the configuration.

    Raises:
        InputError: where one does not exist.
    """
    there = [str(name) for name in config.experiments]
    asked = [config.what] if isinstance(config.what, str) else [str(name) for name in config.what]
    unknown = [name for name in asked if name not in (*there, "all")]
    if unknown:
        raise InputError(f"there is no experiment {', '.join(unknown)}: choose all or some of {', '.join(there)}")
    return there if "all" in asked else [name for name in there if name in asked]


def reproduce(assembly: Assembly, names: Sequence[str], out: Path) -> list[Outcome]:
    """Every experiment in a folder of its own below `out`; one that is there already is taken as it is.

    One that cannot be done (a column is missing, too few stars) says so, and the others go on.

    Args:
        assembly: all that is fitted to the survey.
        names: of the experiments.
        out: where to.

    Raises:
        InputError: where `out` holds an experiment of other settings or other data.
    """
    outcomes = []
    for done, name in enumerate(names):
        assembly.progress.step(name, done, len(names))
        outcomes.append(_finished(assembly, name, out) or _done(assembly, name, out))
    return outcomes


def _done(assembly: Assembly, name: str, out: Path) -> Outcome:
    options = assembly.config.experiments[name]
    given: Any = OmegaConf.to_container(options, resolve=True)
    title = given.pop("title")
    log.info("%s: %s", name, title)
    try:
        script = runpy.run_path(str(_path(name)))  # it lies beside the package, or in it: no module of either
        with run_said(name) as said, in_style():
            reproduced: Reproduced = script["reproduce"](assembly, **given)
    except InputError as error:
        log.warning("warning: %s is skipped: %s", name, error)
        return Outcome(name, title, [], "", str(error))
    outcome = Outcome(name, title, list(reproduced.values), reproduced.finding, problems=said.problems)
    with atomic_folder(out / name) as folder:
        for file, table in reproduced.tables.items():
            table.write(folder / f"{file}.csv", format="ascii.csv")
        for file, figure in reproduced.figures.items():
            save_figure(figure, folder, file, assembly.store.origin["simulated"])
        values = [asdict(value) for value in outcome.values]
        note = {
            "settings": _settings(assembly, name),
            "finding": outcome.finding,
            "values": values,
            "problems": said.problems,
        }
        write_json(folder / NOTE, note)
    log.info("%s: %s", name, outcome.finding)
    return outcome


def _finished(assembly: Assembly, name: str, out: Path) -> Outcome | None:
    """What an earlier run left."""
    try:
        note = read_json(out / name / NOTE)
        values, finding = [_with_nan(value) for value in note["values"]], str(note["finding"])
        settings, problems = note["settings"], [str(each) for each in note.get("problems", ())]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{out / name / NOTE} is damaged ({error}): remove {out / name}, and it is done again"
        ) from error
    if settings != json.loads(json.dumps(_settings(assembly, name))):
        raise InputError(
            f"{out / name} holds the experiment with other settings, data or code: choose another folder with "
            "out=DIR, or remove it"
        )
    log.info("%s: finished already", name)
    return Outcome(name, str(assembly.config.experiments[name].title), values, finding, problems=problems)


def _settings(assembly: Assembly, name: str) -> dict[str, Any]:
    """What the experiment depends on."""
    used = {key: assembly.config[key] for key in ("seed", "compressor", "learner", "pairs", "abundances")}
    settings: Any = OmegaConf.to_container(OmegaConf.create(used), resolve=True)
    experiment = OmegaConf.to_container(assembly.config.experiments[name], resolve=True)
    script = hashlib.sha256(_path(name).read_bytes()).hexdigest()
    code = {"version": version("rsca_torch"), "package": code_of(assembly.make_learner()), "script": script}
    return {**settings, "experiment": experiment, "store": assembly.store.checksum, **code}


def _path(name: str) -> Path:
    return EXPERIMENTS / "paper" / f"{name}.py"


def published() -> pd.DataFrame:
    """What the paper prints: members, value, uncertainty (NaN: not given), source; by item, setting, cluster."""
    texts = dict.fromkeys(("item", "setting", "cluster", "source"), str)
    table = pd.read_csv(EXPERIMENTS / "published.csv", comment="#", dtype=texts)
    table = table.fillna({"cluster": ""})
    return table.set_index(["item", "setting", "cluster"]).sort_index()


def write_summary(folder: Path, outcomes: Sequence[Outcome], simulated: bool) -> None:
    """summary.csv and summary.md: published and obtained side by side, what each experiment found, its pictures."""
    summary = _summary(outcomes, simulated)
    texts = summary.map(_short)
    with updated_folder(folder, "summary.md") as part:
        summary.to_csv(part / "summary.csv", index=False)
        lines = ["# The paper, item by item", ""]
        for outcome in outcomes:
            said = f"Skipped: {outcome.skipped}" if outcome.skipped else outcome.finding
            lines += [f"## {outcome.title}", "", said, ""]
            pictures = sorted((folder / outcome.name).glob("*.png"))
            lines += [line for each in pictures for line in (f"![{each.stem}]({outcome.name}/{each.name})", "")]
            own = texts[texts["experiment"] == outcome.name].drop(columns="experiment")
            if len(own):
                rows = [own.columns, ["---"] * len(own.columns), *own.to_numpy()]
                lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
        (part / "summary.md").write_text("\n".join(lines), encoding="utf-8")


def told(outcomes: Sequence[Outcome], simulated: bool) -> list[dict[str, Any]]:
    """The same for report.json: of every experiment what it is, found or was skipped for, and its rows; NaN as None."""
    summary = _summary(outcomes, simulated)
    return [
        {
            "name": outcome.name,
            "title": outcome.title,
            "finding": outcome.finding,
            "skipped": outcome.skipped,
            "values": [
                {name: None if pd.isna(cell) else cell for name, cell in row.items()}
                for row in summary[summary["experiment"] == outcome.name].to_dict("records")
            ],
        }
        for outcome in outcomes
    ]


def summary_table(outcomes: Sequence[Outcome], simulated: bool) -> RichTable:
    """What was published beside what was obtained, for the terminal; numbers of single clusters are in the files."""
    table = plain_table(("experiment", "item", "setting", "published", "obtained", "same"))
    summary = _summary(outcomes, simulated)
    texts = summary[summary["cluster"] == ""].map(_short)
    for outcome in outcomes:
        if outcome.skipped:
            table.add_row(outcome.name, "skipped", outcome.skipped)
        for row in texts[texts["experiment"] == outcome.name].itertuples():
            interval = f" ({row.low}-{row.high})" if row.low else ""
            table.add_row(row.experiment, row.item, row.setting, row.published, f"{row.obtained}{interval}", row.same)
    return table


def _summary(outcomes: Sequence[Outcome], simulated: bool) -> pd.DataFrame:
    """One row for each number: what was published, what was obtained, and whether that is the same.

    It is where the intervals overlap; an obtained number without one is an interval of no width. Of a number that was
    published without its uncertainty nobody can say.
    """
    names = "experiment item setting obtained low high cluster why".split()
    obtained = [(outcome.name, *astuple(value)) for outcome in outcomes for value in outcome.values]
    there = published()[["value", "uncertainty"]].rename(columns={"value": "published"})
    table = pd.DataFrame(obtained, columns=names).join(there, on=["item", "setting", "cluster"])
    low, high = (table[end].fillna(table["obtained"]) for end in ("low", "high"))
    first, last = table["published"] - table["uncertainty"], table["published"] + table["uncertainty"]
    table["same"] = np.select([table["uncertainty"].isna(), (low <= last) & (first <= high)], ["", "yes"], "no")
    if simulated:
        table["why"] = table["why"].mask(table["published"].notna() & (table["why"] == ""), SIMULATED)
    return table["experiment item setting cluster published uncertainty obtained low high same why".split()]


def _short(cell: Any) -> str:  # noqa: ANN401  (a number or a text)
    return cell if isinstance(cell, str) else "" if math.isnan(cell) else f"{cell:.4g}"


def _with_nan(told: Mapping[str, Any]) -> Value:
    given: dict[str, Any] = {key: math.nan if value is None else value for key, value in told.items()}
    return Value(**given)
