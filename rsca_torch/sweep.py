"""Sweeps: a folder for every run, which runs are finished, and what all of them say together."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rsca_torch.errors import InputError
from rsca_torch.loco import Difference, LOCOResult, paired_difference
from rsca_torch.report import COLOURS, SCHEMA

__all__ = [
    "Gathered",
    "Group",
    "Row",
    "draw_groups",
    "filled_folder",
    "finished_rate",
    "gather",
    "groups_of",
    "job_folder",
    "job_note",
    "job_overrides",
    "jobs_of",
    "markdown",
    "print_groups",
    "print_table",
    "write_rows",
]

NOTE = "job.json"
RESULTS = "results.json"
UNFINISHED = "did not come to its end"
#: Where a run reads and writes, whether it draws and logs, how it is shared out: it is the same run without them.
IDLE = ("out", "figures", "checkpoints", "simulated", "store", "processes", "logger")
LONGEST = 100  # characters of a folder's name before its hash

Setting = str  # as JSON has it; "" where a run has no such option


def job_overrides() -> list[str] | None:
    """The options of this job of a sweep; None outside of one."""
    if not HydraConfig.initialized():  # called from Python
        return None
    hydra = HydraConfig.get()
    # Hydra numbers the jobs of a sweep; hydra.mode is that of a single run in every one of them.
    return None if OmegaConf.is_missing(hydra.job, "num") else list(hydra.overrides.task)


def job_folder(sweep: Path, overrides: Sequence[str]) -> Path:
    """The folder of a job in its sweep's: its options, with a hash of them where they make no name of a file."""
    text = ",".join(sorted(o for o in overrides if o.partition("=")[0].lstrip("+~") not in ("out", "figures")))
    name = re.sub(r"[^\w.=,+-]", "_", text).lstrip(".")[:LONGEST] or "defaults"
    hashed = hashlib.sha256(text.encode()).hexdigest()[:8]
    return sweep / (name if name == text else f"{name}-{hashed}")


def job_note(folder: Path, launch: str, overrides: Sequence[str], problem: str | None = UNFINISHED) -> None:
    """Keep in the folder of a job what became of it: the process that started the sweep may be another one.

    Args:
        folder: of the job; made if it is not there.
        launch: of which start of the sweep it is.
        overrides: its options.
        problem: why there is no result; None: there is one.
    """
    content = {"launch": launch, "overrides": list(overrides), "problem": problem}
    folder.mkdir(parents=True, exist_ok=True)
    with filled_folder(folder) as part:
        (part / NOTE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def jobs_of(sweep: Path, launch: str) -> list[tuple[list[str], str | None]]:
    """The options of every job of one start of the sweep, and why it has no result (None: it has one)."""
    notes = [_note(path) for path in sorted(sweep.glob(f"*/{NOTE}"))]
    return [(note["overrides"], note["problem"]) for note in notes if note.get("launch") == launch]


def _note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return {"overrides": list(note["overrides"]), "problem": note["problem"], "launch": note["launch"]}
    except (OSError, ValueError, KeyError, TypeError):  # somebody else's: no job of ours
        return {}


@contextmanager
def filled_folder(path: Path) -> Iterator[Path]:
    """A new folder in `path`, which is made if it is not there; at the end its files move there, results.json last.

    What else lies in `path` stays. If the end is not reached, nothing moves.
    """
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part.", dir=path) as name:
        part = Path(name)
        yield part
        files = [file for file in part.rglob("*") if not file.is_dir()]
        for file in sorted(files, key=lambda file: file == part / RESULTS):
            target = path / file.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


def finished_rate(folder: Path, config: Mapping[str, Any], checksum: str | None) -> float | None:
    """The judged learner's rate, where `folder` holds the finished run of a configuration; None where it holds none.

    Args:
        folder: of the run.
        config: as the run would write it to results.json; where it reads and writes does not count.
        checksum: of the store that the run would read; None: of one that is told by its configuration.

    Raises:
        InputError: where the run is of another configuration, other data or another schema.
    """
    try:
        content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        schema, given, store = content["schema"], content["config"], content["store"]["checksum"]
        rate = content["results"][0]["doppelganger_rate"]
    except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError):  # not whole: as good as none
        return None
    if schema != SCHEMA:
        raise InputError(f"{folder} holds {_other_schema(content)}: choose another folder with out=DIR, or remove it")
    there, here = (_flat(_without_idle(each)) for each in (given, json.loads(json.dumps(config))))
    other = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    if checksum is not None:  # the store says how its survey was read
        other = [key for key in other if not key.startswith("survey.")]
        other += ["store"] if checksum != store else []
    if other:
        raise InputError(
            f"{folder} holds a run of another configuration ({', '.join(other)}): choose another folder with out=DIR, "
            "or remove it"
        )
    return _number(rate)


def _other_schema(content: Any) -> str:  # noqa: ANN401  (any JSON)
    schema = content.get("schema") if isinstance(content, dict) else None
    return f"results of schema {schema}, this program reads {SCHEMA}"


def _without_idle(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in config.items() if name not in IDLE}
    if isinstance(kept.get("survey"), dict):
        kept["survey"] = {name: value for name, value in kept["survey"].items() if name != "root"}
    return kept


def _flat(value: Any, above: str = "") -> dict[str, Setting]:  # noqa: ANN401  (any JSON)
    """Nested options by their dotted names."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 5 and 5.0 are one setting
    if not isinstance(value, dict):
        return {above: value if isinstance(value, str) else json.dumps(value)}
    parts = [_flat(inside, f"{above}.{name}" if above else str(name)) for name, inside in value.items()]
    return {name: inside for part in parts for name, inside in part.items()}


@dataclass(frozen=True)
class Row:
    """One learner on one representation in one run.

    Attributes:
        run: its folder, from the sweep's.
        representation: what the learner saw.
        learner: its name.
        held_out: whether it had not seen the clusters that it judged.
        seed: of the run.
        settings: the other options that had a part in it, by their dotted names; those of the learner as `learner.*`.
        store: checksum of the store.
        loco: the rate of every cluster.
        interval: 68 % of the global rate.
        seconds: of its folds.
    """

    run: str
    representation: str
    learner: str
    held_out: bool
    seed: int
    settings: dict[str, Setting]
    store: str
    loco: LOCOResult
    interval: tuple[float, float]
    seconds: float


@dataclass(frozen=True)
class Gathered:
    """Every result below a folder.

    Attributes:
        rows: in order of runs, representations and learners as the runs have them.
        varied: the options that differ between runs, by their dotted names, less the seed.
        unused: (run, why it, or a part of it, cannot be used).
    """

    rows: list[Row]
    varied: list[str]
    unused: list[tuple[str, str]]


N_COMPONENTS, NOISE = "compressor.n_components", "compressor.noise"


def gather(sweep: Path) -> Gathered:
    """Every results.json below a folder, less those in hidden folders.

    Raises:
        InputError: where the folder is not there, or has no result that can be used.
    """
    if not sweep.is_dir():
        raise InputError(f"there is no folder {sweep}: give that of a sweep, sweep=DIR (rsca compare -m ... out=DIR)")
    rows, unused = [], []
    for folder in sorted({path.parent for name in (RESULTS, NOTE) for path in sweep.rglob(name)}):
        place = folder.relative_to(sweep)
        if any(part.startswith(".") for part in place.parts):
            continue
        found, problems = _rows(folder, str(place))
        rows += found
        unused += [(str(place), problem) for problem in problems]
    rows, again = _told_once(rows)
    unused += again
    if not rows:
        reasons = "".join(f"\n  {run}: {problem}" for run, problem in unused)
        raise InputError(f"no results below {sweep}: make some with rsca compare -m ... out={sweep}{reasons}")
    return Gathered(rows, _varied(rows), unused)


def _rows(folder: Path, run: str) -> tuple[list[Row], list[str]]:
    """What a run says, and why some of it cannot be used."""
    try:
        content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        note = _note(folder / NOTE)
        return [], [f"unfinished: {note.get('problem') or f'no {RESULTS}'}"]
    except (OSError, ValueError) as error:
        return [], [f"{RESULTS} cannot be read ({type(error).__name__})"]
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return [], [_other_schema(content)]
    try:
        rows = [_row(run, content, number) for number in range(len(content["results"]))]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [], [f"{RESULTS} is damaged ({type(error).__name__}: {error})"]
    judged = [row for row in rows if math.isfinite(row.loco.rate)]
    blank = [row for row in rows if not math.isfinite(row.loco.rate)]
    problems = [f"{row.learner} on {row.representation}: no rate, no cluster has an allowed pair" for row in blank]
    return judged, problems if rows else ["no rates"]


def _row(run: str, content: Mapping[str, Any], number: int) -> Row:
    result = content["results"][number]
    clusters = {str(entry["cluster"]): entry for entry in result["clusters"]}
    loco = LOCOResult(
        {name: _number(entry["doppelganger_rate"]) for name, entry in clusters.items()},
        {name: int(entry["members"]) for name, entry in clusters.items()},
        {name: int(entry["pairs"]) for name, entry in clusters.items()},
        {name: _number(entry["median_sibling_distance"]) for name, entry in clusters.items()},
        bool(result["held_out"]),
    )
    low, high = (_number(end) for end in result["interval"])
    judged = result["learner"] == content["results"][0]["learner"]
    return Row(
        run,
        str(result["representation"]),
        str(result["learner"]),
        bool(result["held_out"]),
        int(content["seed"]),
        _settings(content["config"], result, judged),
        str(content["store"]["checksum"]),
        loco,
        (low, high),
        float(result["seconds"]),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _settings(config: Mapping[str, Any], result: Mapping[str, Any], judged: bool) -> dict[str, Setting]:
    """The options that had a part in a result: of the learners its own, of the representations that which it saw."""
    name = result["representation"]
    given = {key: value for key, value in _without_idle(config).items() if key not in ("seed", "baselines")}
    given["learner"] = config["learner"] if judged else config["baselines"].get(result["learner"], {})
    given["abundances"] = {key: value for key, value in given.get("abundances", {}).items() if key == name}
    given["engine"] = {key: value for key, value in given.get("engine", {}).items() if key != "trainer"}  # told once
    if config.get("store") is not None:
        given["store"] = config["store"]
    if result["compressor"] is None:
        given = {key: value for key, value in given.items() if key not in ("compressor", "engine")}
    return {key: value for key, value in _flat(given).items() if value != "{}"}


def _told_once(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[str, str]]]:
    """Without what contradicts an earlier run of the same learner, settings and seed; that with the reason."""
    first: dict[tuple[Any, ...], Row] = {}
    kept, unused = [], []
    for row in rows:
        key = (row.representation, row.learner, row.held_out, row.seed, tuple(sorted(row.settings.items())))
        told = first.setdefault(key, row)
        if _equal(told.loco, row.loco):
            kept.append(row)
        else:
            what = f"{row.learner}{'' if row.held_out else ' in-sample'} on {row.representation}"
            unused.append((row.run, f"{what}: settings and seed of {told.run}, but other rates"))
    return kept, unused


def _equal(one: LOCOResult, other: LOCOResult) -> bool:
    """Whether two results are the same, NaN for NaN."""
    return one.members == other.members and np.array_equal(
        list(one.cluster_rates.values()), list(other.cluster_rates.values()), equal_nan=True
    )


def _varied(rows: Sequence[Row]) -> list[str]:
    """The options of which one learner on one representation has several values."""
    names = sorted({name for row in rows for name in row.settings})
    places = {(row.representation, row.learner) for row in rows}
    values = {
        place: [row.settings for row in rows if (row.representation, row.learner) == place] for place in sorted(places)
    }
    return [name for name in names if any(len({each.get(name, "") for each in given}) > 1 for given in values.values())]


def write_rows(path: Path, gathered: Gathered) -> None:
    """CSV, a row for each run, representation, learner and held_out; rates as shares, in-sample ones too."""
    varied = [name for name in gathered.varied if name not in (N_COMPONENTS, NOISE)]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        start = "run representation learner held_out n_components noise seed".split()
        table.writerow([*start, *varied, *"rate low high seconds".split()])
        for row in gathered.rows:
            own = [row.run, row.representation, row.learner, row.held_out]
            own += [row.settings.get(name, "") for name in (N_COMPONENTS, NOISE)]
            end = [row.loco.rate, *row.interval, row.seconds]
            table.writerow([*own, row.seed, *(row.settings.get(name, "") for name in varied), *end])


@dataclass(frozen=True)
class Group:
    """The runs that differ in nothing but their seed.

    Attributes:
        representation: what the learner saw.
        learner: its name.
        held_out: whether it had not seen the clusters that it judged.
        settings: the options that differ between runs, in the order of `Gathered.varied`.
        rows: one a seed.
        difference: to the baseline; None for the baseline itself, and where there is nothing to pair.
        paired: how many seeds are in the difference.
    """

    representation: str
    learner: str
    held_out: bool
    settings: dict[str, Setting]
    rows: list[Row]
    difference: Difference | None = None
    paired: int = 0

    @property
    def rates(self) -> list[float]:
        """Global rates, one a seed."""
        return [row.loco.rate for row in self.rows]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.rates))

    @property
    def spread(self) -> float:
        """Sample standard deviation over seeds; NaN of one."""
        return float(np.std(self.rates, ddof=1)) if len(self.rates) > 1 else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """68 % from a bootstrap over clusters, those of all seeds."""
        return _pooled([(row.store, row.loco) for row in self.rows]).interval()


def groups_of(gathered: Gathered, baseline: str) -> list[Group]:
    """The runs by settings, each compared with the baseline learner of otherwise equal settings.

    The same clusters are paired seed by seed. What the bootstrap draws is a cluster of a store with its rates of all
    seeds: seeds of learners alone see the same stars and are no further evidence of them.

    Raises:
        InputError: where no run has the baseline.
    """
    learners = sorted({row.learner for row in gathered.rows if row.held_out})
    if baseline not in learners:
        raise InputError(f"baseline={baseline} is none of the learners that were judged: {', '.join(learners)}")
    by_key: dict[tuple[str, str, bool, tuple[tuple[str, Setting], ...]], dict[int, Row]] = {}
    for row in gathered.rows:
        settings = tuple((name, row.settings.get(name, "")) for name in gathered.varied)
        key = (row.representation, row.learner, row.held_out, settings)
        by_key.setdefault(key, {}).setdefault(row.seed, row)
    plain = [
        Group(representation, learner, held_out, dict(settings), [rows[seed] for seed in sorted(rows)])
        for (representation, learner, held_out, settings), rows in by_key.items()
    ]
    names = list(dict.fromkeys(group.representation for group in plain))
    order = list(dict.fromkeys([baseline, *(group.learner for group in plain)]))
    plain.sort(key=lambda group: (names.index(group.representation), order.index(group.learner), not group.held_out))
    return [_compared(group, plain, baseline) for group in plain]


def _compared(group: Group, groups: Sequence[Group], baseline: str) -> Group:
    if not group.held_out:
        return group
    like = [
        other
        for other in groups
        if other.learner == baseline
        and other.held_out
        and other.representation == group.representation
        and _shared(other) == _shared(group)
    ]
    if len(like) != 1 or like[0] is group:  # several settings of the baseline: none of them is the one to compare with
        return group
    there = {row.seed: row for row in like[0].rows}
    pairs = [(row, there[row.seed]) for row in group.rows if row.seed in there and row.store == there[row.seed].store]
    try:
        difference = _paired(pairs)
    except InputError:  # no cluster in common
        return group
    return replace(group, difference=difference, paired=len(pairs))


def _shared(group: Group) -> dict[str, Setting]:
    """The settings that are not the learner's own."""
    return {name: value for name, value in group.settings.items() if not name.startswith("learner.")}


def _paired(pairs: Sequence[tuple[Row, Row]]) -> Difference:
    """`paired_difference`, pooled over seeds."""
    sides: tuple[list[tuple[str, LOCOResult]], list[tuple[str, LOCOResult]]] = ([], [])
    for both in pairs:
        one, other = (row.loco for row in both)
        common = [
            cluster
            for cluster, members in one.members.items()
            if members == other.members.get(cluster)
            and math.isfinite(one.cluster_rates[cluster])
            and math.isfinite(other.cluster_rates[cluster])
        ]
        for side, row in zip(sides, both, strict=True):
            side.append((row.store, _only(row.loco, common)))
    return paired_difference(_pooled(sides[0]), _pooled(sides[1]))


def _only(loco: LOCOResult, clusters: Sequence[str]) -> LOCOResult:
    dicts = (loco.cluster_rates, loco.members, loco.pairs, loco.median_sibling_distance)
    rates, members, pairs, medians = ({cluster: each[cluster] for cluster in clusters} for each in dicts)
    return LOCOResult(rates, members, pairs, medians, loco.held_out)  # type: ignore[arg-type]


def _pooled(results: Sequence[tuple[str, LOCOResult]]) -> LOCOResult:
    """One result of several (store, result): every cluster of a store once, with its mean rate.

    Its `members` are weights: the cluster's share of the members that were judged, added up over seeds. So every seed
    counts the same, and the rate is the mean over seeds.
    """
    sums: dict[str, tuple[float, float]] = {}
    for store, loco in results:
        judged = {cluster: rate for cluster, rate in loco.cluster_rates.items() if math.isfinite(rate)}
        total = sum(loco.members[cluster] for cluster in judged)
        for cluster, rate in judged.items():
            unit, share = f"{store} {cluster}", loco.members[cluster] / total
            rates, shares = sums.get(unit, (0.0, 0.0))
            sums[unit] = (rates + rate * share, shares + share)
    weights = {unit: shares for unit, (_, shares) in sums.items()}
    means = {unit: rates / shares for unit, (rates, shares) in sums.items()}
    none = dict.fromkeys(sums, 0)
    return LOCOResult(means, weights, none, dict.fromkeys(sums, math.nan))  # type: ignore[arg-type]


def markdown(groups: Sequence[Group], gathered: Gathered, baseline: str, title: str) -> str:
    """The table as Markdown, with what it means and what could not be used."""
    head, *body = _cells(groups, gathered.varied, baseline)
    right = _numbers_from(head)
    rule = ["---:" if number >= right else "---" for number in range(len(head))]
    escaped = [[cell.replace("|", r"\|") for cell in row] for row in (head, rule, *body)]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    told = [f"# {title}", "", *EXPLAINED, "", *lines]
    if gathered.unused:
        told += ["", "## Not used", "", *(f"- `{run}`: {problem}" for run, problem in gathered.unused)]
    return "\n".join(told) + "\n"


EXPLAINED = (
    "Doppelganger rate in %, lower is better: mean and sample standard deviation over seeds.",
    "Differences are of the same clusters, seed by seed; in brackets 68 %: bootstrap over clusters.",
)


def print_groups(groups: Sequence[Group], gathered: Gathered, baseline: str) -> None:
    """The same table on the terminal, and what it means."""
    head, *body = _cells(groups, gathered.varied, baseline)
    table = Table(box=None, padding=(0, 2, 0, 0))
    right = _numbers_from(head)
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number >= right else "left", no_wrap=True)
    for row in body:
        table.add_row(*(Text(cell) for cell in row))
    Console().print("\n".join(EXPLAINED), highlight=False, soft_wrap=True)
    print_table(table)


def print_table(table: Table) -> None:
    """Print a table whole: wider than the terminal, rather than with the ends of its cells left out."""
    console = Console()
    wide = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    Console(width=max(console.width, wide)).print(table)


def _numbers_from(head: Sequence[str]) -> int:
    return list(head).index("seeds")


def _cells(groups: Sequence[Group], varied: Sequence[str], baseline: str) -> list[list[str]]:
    """Head and rows."""
    names = [name.removeprefix("compressor.") if name in (N_COMPONENTS, NOISE) else name for name in varied]
    rows = [["representation", "learner", *names, "seeds", "mean", "spread", f"less {baseline} (68 %)"]]
    for group in groups:
        learner = group.learner if group.held_out else f"{group.learner} in-sample"
        spread = "" if math.isnan(group.spread) else f"{100 * group.spread:.2f}"
        less = ""
        if (d := group.difference) is not None:
            less = f"{100 * d.value:+.2f} ({100 * d.low:+.2f},{100 * d.high:+.2f})"
            less += f" of {group.paired} seeds" if group.paired < len(group.rows) else ""
        own = [group.representation.replace("_", " "), learner, *group.settings.values()]
        rows.append([*own, str(len(group.rows)), f"{100 * group.mean:.2f}", spread, less])
    return rows


def draw_groups(groups: Sequence[Group]) -> Figure:
    """Mean rates of every learner with 68 % intervals and the rate of each seed, a panel a representation."""
    held_out = [group for group in groups if group.held_out]
    names = list(dict.fromkeys(group.representation for group in held_out))
    learners = list(dict.fromkeys(group.learner for group in held_out))
    labels = list(dict.fromkeys(_label(group) for group in held_out))
    figure = Figure(figsize=(max(6.0, (1.2 + 0.7 * len(learners)) * len(names)), 4.2), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        shown = [group for group in held_out if group.representation == name]
        for number, label in enumerate(labels):
            here = [group for group in shown if _label(group) == label]
            if not here:
                continue
            place = np.array([learners.index(group.learner) for group in here], dtype=float)
            place += (number - (len(labels) - 1) / 2) * 0.8 / len(labels)
            means = np.array([group.mean for group in here])
            low, high = np.array([group.interval for group in here]).T
            errors = np.clip([means - low, high - means], 0, None)
            colour = COLOURS[number % len(COLOURS)]
            panel.errorbar(place, means, errors, fmt="o", color=colour, capsize=3, label=label)
            seeds = np.repeat(place, [len(group.rows) for group in here])
            panel.plot(seeds, [rate for group in here for rate in group.rates], "_", color=colour, alpha=0.6, ms=9)
        panel.set_title(name.replace("_", " "), fontsize=10)
        panel.set_xticks(range(len(learners)), learners, rotation=45, ha="right", fontsize=8)
        panel.set_xlim(-0.6, len(learners) - 0.4)
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel("global doppelganger rate")
    if len(labels) > 1:
        figure.legend(*_handles(panels), loc="outside lower center", frameon=False, fontsize=8, ncols=2)
    return figure


def _label(group: Group) -> str:
    return ", ".join(f"{name.removeprefix('compressor.')}={value}" for name, value in group.settings.items() if value)


def _handles(panels: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """One entry for each setting, whichever panels show it."""
    found: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)
