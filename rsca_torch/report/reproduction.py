"""The paper item by item: what an experiment gives, what was published, and the table of them all."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import math
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from astropy.table import Table
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.table import Table as RichTable

from rsca_torch.comparison.assembly import Study
from rsca_torch.errors import InputError
from rsca_torch.files import filled_folder, whole_folder
from rsca_torch.report.pictures import save_figure

__all__ = [
    "EXPERIMENTS",
    "Reproduced",
    "Value",
    "items_of",
    "published",
    "published_rows",
    "reproduce",
    "summary_table",
    "write_summary",
]

log = logging.getLogger(__name__)

#: Inside an installed package experiments/ lies in it, in a checkout beside it.
EXPERIMENTS = next(
    path
    for path in (Path(__file__).parents[1] / "experiments", Path(__file__).parents[2] / "experiments")
    if path.is_dir()
)
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


def reproduce(
    study: Study, names: Sequence[str], out: Path, progress: Callable[[str, int, int], None] | None = None
) -> list[Outcome]:
    """Every experiment in a folder of its own below `out`; one that is there already is taken as it is.

    One that cannot be done (a column is missing, too few stars) says so, and the others go on.

    Args:
        study: the survey.
        names: of the experiments.
        out: where to.
        progress: called with (name, done, of how many).

    Raises:
        InputError: where `out` holds an experiment of other settings or other data.
    """
    outcomes = []
    for done, name in enumerate(names):
        if progress is not None:
            progress(name, done, len(names))
        outcomes.append(_finished(study, name, out) or _done(study, name, out))
    return outcomes


def _done(study: Study, name: str, out: Path) -> Outcome:
    options = study.config.experiments[name]
    given: Any = OmegaConf.to_container(options, resolve=True)
    title = given.pop("title")
    log.info("%s: %s", name, title)
    try:
        script = runpy.run_path(str(_path(name)))  # it lies beside the package, or in it: no module of either
        reproduced: Reproduced = script["reproduce"](study, **given)
    except InputError as error:
        log.warning("warning: %s is skipped: %s", name, error)
        return Outcome(name, title, [], "", str(error))
    outcome = Outcome(name, title, list(reproduced.values), reproduced.finding)
    with whole_folder(out / name) as folder:
        for file, table in reproduced.tables.items():
            table.write(folder / f"{file}.csv", format="ascii.csv")
        for file, figure in reproduced.figures.items():
            save_figure(figure, folder, file)
        values = [_without_nan(asdict(value)) for value in outcome.values]
        note = {"settings": _settings(study, name), "finding": outcome.finding, "values": values}
        (folder / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    log.info("%s: %s", name, outcome.finding)
    return outcome


def _finished(study: Study, name: str, out: Path) -> Outcome | None:
    """What an earlier run left."""
    try:
        note = json.loads((out / name / NOTE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if note["settings"] != json.loads(json.dumps(_settings(study, name))):
        raise InputError(
            f"{out / name} holds the experiment with other settings, data or code: choose another folder with "
            "out=DIR, or remove it"
        )
    log.info("%s: finished already", name)
    values = [_with_nan(value) for value in note["values"]]
    return Outcome(name, str(study.config.experiments[name].title), values, note["finding"])


def _settings(study: Study, name: str) -> dict[str, Any]:
    """What the experiment depends on."""
    used = ("seed", "compressor", "learner", "pairs", "abundances")
    settings: Any = OmegaConf.to_container(OmegaConf.create({key: study.config[key] for key in used}), resolve=True)
    settings["experiment"] = OmegaConf.to_container(study.config.experiments[name], resolve=True)
    settings["store"] = study.store.checksum
    settings["version"] = version("rsca_torch")
    settings["script"] = hashlib.sha256(_path(name).read_bytes()).hexdigest()
    return dict(settings)


def _path(name: str) -> Path:
    return EXPERIMENTS / "paper" / f"{name}.py"


def published_rows() -> list[dict[str, str]]:
    """What the paper prints: item, setting, cluster, members, value, uncertainty, source."""
    with (EXPERIMENTS / "published.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def published() -> dict[tuple[str, str, str], tuple[float, float]]:
    """(value, uncertainty) by (item, setting, cluster); an uncertainty that is not given is 0."""
    return {
        (row["item"], row["setting"], row["cluster"]): (float(row["value"]), float(row["uncertainty"] or 0))
        for row in published_rows()
    }


HEAD = "experiment item setting cluster published uncertainty obtained low high same why".split()


def write_summary(folder: Path, outcomes: Sequence[Outcome], simulated: bool) -> None:
    """summary.csv and summary.md: published and obtained side by side, what each experiment found, its pictures."""
    rows = [row for outcome in outcomes for row in _rows(outcome, simulated)]
    with filled_folder(folder, "summary.md") as part:
        with (part / "summary.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(HEAD)
            table.writerows(rows)
        lines = ["# The paper, item by item", ""]
        for outcome in outcomes:
            said = f"Skipped: {outcome.skipped}" if outcome.skipped else outcome.finding
            lines += [f"## {outcome.title}", "", said, ""]
            pictures = sorted((folder / outcome.name).glob("*.png"))
            lines += [line for each in pictures for line in (f"![{each.stem}]({outcome.name}/{each.name})", "")]
            own = _rows(outcome, simulated)
            if own:
                lines += [f"| {' | '.join(HEAD[1:])} |", "|" + "---|" * (len(HEAD) - 1)]
                lines += [f"| {' | '.join(_short(cell) for cell in row[1:])} |" for row in own]
                lines.append("")
        (part / "summary.md").write_text("\n".join(lines), encoding="utf-8")


def summary_table(outcomes: Sequence[Outcome], simulated: bool) -> RichTable:
    """What was published beside what was obtained, for the terminal; numbers of single clusters are in the files."""
    table = RichTable(box=None, padding=(0, 2, 0, 0))
    for name in ("experiment", "item", "setting", "published", "obtained", "same"):
        table.add_column(name, no_wrap=True)
    for outcome in outcomes:
        if outcome.skipped:
            table.add_row(outcome.name, "skipped", outcome.skipped)
        for row in _rows(outcome, simulated):
            told = dict(zip(HEAD, row, strict=True))
            if not told["cluster"]:
                spread = f" ({_short(told['low'])}-{_short(told['high'])})" if told["low"] != "" else ""
                obtained = f"{_short(told['obtained'])}{spread}"
                table.add_row(
                    *(str(told[name]) for name in HEAD[:3]), _short(told["published"]), obtained, told["same"]
                )
    return table


def _rows(outcome: Outcome, simulated: bool) -> list[list[Any]]:
    known = published()
    rows = []
    for value in outcome.values:
        there = known.get((value.item, value.setting, value.cluster))
        same = "" if there is None else ("yes" if _same(value, *there) else "no")
        why = value.why or (SIMULATED if simulated and there is not None else "")
        told = [math.nan, math.nan] if there is None else list(there)
        numbers = [*told, value.value, value.low, value.high]
        cells = ["" if math.isnan(number) else number for number in numbers]
        rows.append([outcome.name, value.item, value.setting, value.cluster, *cells, same, why])
    return rows


def _same(value: Value, there: float, uncertainty: float) -> bool:
    """Whether the intervals overlap; a number without one is an interval of no width."""
    low = value.value if math.isnan(value.low) else value.low
    high = value.value if math.isnan(value.high) else value.high
    return low <= there + uncertainty and there - uncertainty <= high


def _short(cell: Any) -> str:  # noqa: ANN401  (a number or a text)
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _without_nan(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in told.items()}


def _with_nan(told: Mapping[str, Any]) -> Value:
    given: dict[str, Any] = {key: math.nan if value is None else value for key, value in told.items()}
    return Value(**given)
