"""The commands of a whole chain at its smallest, each with what it needs and what it makes: what faults befall."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import faulty
from small_store import small_store

sys.path.append(str(Path(__file__).parents[1] / "survey"))
from archive_server import serving, write_lists
from mini_archive import BASE, write_archive

SMALL = ["compressor.n_components=4", "compressor.max_iterations=2"]
LESS = ["~baselines.raw", "~baselines.scaled", "alike=null", "figures=false"]
TRAINED = ["learner=nca", "learner.recipe.epochs=2", "learner.recipe.inner=1"]
LITTLE = ["experiments.table1.dimensions=[2,4]"]
#: Said of a command whose result is there: it was killed after that.
IS_THERE = ("holds another run", "exists already", "holds something already")


@dataclass(frozen=True)
class Stage:
    """A command.

    Attributes:
        name: of the stage.
        command: what follows `rsca`.
        needs: what must be in its folder.
        prepare: "folder": an empty one is there where the result goes.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    there: str = ""

    @property
    def makes(self) -> str:
        """The name of the result."""
        given = dict(option.partition("=")[::2] for option in self.command if "=" in option)
        return given.get("out") or given.get("root") or given.get("store", "")


FEW = "simulation.stars.clusters=4"


def stages(archive_address: str = "") -> list[Stage]:
    """All of them, in an order in which each finds what it needs."""
    store = ("store",)
    model = ("store", "rsca.safetensors")
    found = [
        Stage("simulate", ("simulate", "root=archive", "simulation.n_field=20", "simulation.repeats=5", FEW)),
        Stage(
            "simulate into",
            ("simulate", "root=disk", "simulation.n_field=6", "simulation.repeats=0", FEW),
            (),
            "disk",
        ),
        Stage("ingest", ("ingest", "survey.root=sas", "store=stars"), ("sas",)),
        Stage("ingest into", ("ingest", "survey.root=sas", "store=there"), ("sas",), "there"),
        Stage("fit", ("fit", "store=store", *SMALL, "out=rsca.safetensors"), store),
        Stage("compare", ("compare", "store=store", *SMALL, *LESS, "out=run", *TRAINED), store),
        Stage(
            "compare into",
            ("compare", "store=store", *SMALL, *LESS[:3], "out=there", "checkpoints=null"),
            store,
            "there",
        ),
        Stage(
            "compare 2",
            ("compare", "store=store", *SMALL, *LESS, "out=run2", *TRAINED, "processes=2"),
            store,
        ),
        Stage(
            "compare simulated",
            (
                "compare", "simulation.n_field=20", "simulation.repeats=0", FEW, *SMALL, "simulated=sim", "out=run3",
                *LESS, "calibration=null",
            ),
        ),
        Stage(
            "sweep",
            ("compare", "-m", "store=store", *SMALL, *LESS, "seed=0,1", "out=sweep"),
            store,
        ),
        Stage("reproduce", ("reproduce", "table1", "store=store", *SMALL, "out=paper", *LITTLE), store),
        Stage("embed", ("embed", "model=rsca.safetensors", "store=store", "out=features.fits"), model),
        Stage(
            "siblings",
            ("siblings", "model=rsca.safetensors", "store=store", "all=true", "pairs=all", "out=siblings.fits"),
            model,
        ),
        Stage("explain", ("explain", "model=rsca.safetensors", "store=store", "feature=1", "out=lines"), model),
        Stage("export numpy", ("export", "model=rsca.safetensors", "to=numpy", "out=rsca.npz"), model),
        Stage("export torch", ("export", "model=rsca.safetensors", "to=torch", "out=rsca.pt2"), model),
        Stage("export onnx", ("export", "model=rsca.safetensors", "to=onnx", "out=rsca.onnx"), model),
        Stage("export hub", ("export", "model=rsca.safetensors", "to=hub", "out=hub", "store=store"), model),
        Stage(
            "evaluate",
            ("evaluate", "embedding=features.fits", "store=store", "columns=[FEATURES]", "out=judged", "figures=false"),
            ("store", "features.fits"),
        ),
        Stage("report", ("report", "sweep=sweep", "out=report"), ("sweep",)),
    ]  # fmt: skip
    if archive_address:
        options = ("release=dr16", "release.checksums=[]", f"base_url={archive_address}", "root=tree", "yes=true")
        found.append(Stage("download", ("download", *options)))
    return found


class Chain:
    """Stages with their folders before and after.

    Args:
        folder: new, for all of them.
        chosen: the stages.
    """

    def __init__(self, folder: Path, chosen: list[Stage]) -> None:
        self.folder, self.stages = folder, chosen
        self.whole = folder / "whole"
        self.whole.mkdir(parents=True)
        self.wanted: dict[str, dict[str, str]] = {}
        self.ended: dict[str, faulty.Ended] = {}
        small_store(self.whole / "store")
        write_archive(self.whole / "sas")
        for stage in chosen:
            self._made(stage)

    def _made(self, stage: Stage) -> None:
        place = self.before(stage, self.folder / f"{stage.name.replace(' ', '_')}_unharmed")
        ended = faulty.run(place, stage.command)
        assert ended.code == 0, (stage.name, ended, faulty.said(place))
        assert ended.left == ended.memory == faulty.left_temporary(place) == [], (stage.name, ended)
        self.wanted[stage.name], self.ended[stage.name] = faulty.content(place), ended
        result = place / stage.makes
        if result.exists() and not (self.whole / stage.makes).exists():
            (shutil.copytree if result.is_dir() else shutil.copy)(result, self.whole / stage.makes)
        shutil.rmtree(place)

    def before(self, stage: Stage, place: Path) -> Path:
        """A new folder in which a stage finds what it needs."""
        place.mkdir(parents=True)
        for name in stage.needs:
            source = self.whole / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, place / name)
        if stage.there:
            (place / stage.there).mkdir()
        return place

    def harm(self, stage: Stage, place: Path) -> list[str]:
        """What is wrong after the same command was run once more where it was killed: nothing, if all is well."""
        again = faulty.run(place, stage.command)
        text = faulty.said(place)
        wrong = []
        if again.code != 0 and not (again.code == 2 and any(told in text for told in IS_THERE)):
            wrong.append(f"stuck: exit {again.code}: {text[-600:]}")
        if "Traceback" in text:
            wrong.append(f"traceback: {text[-1500:]}")
        other = faulty.differing(self.wanted[stage.name], faulty.content(place))
        if other:
            wrong.append(f"differing: {', '.join(other[:8])}")
        left = [*faulty.left_temporary(place), *again.memory, *again.left]
        if left:
            wrong.append(f"left: {', '.join(left[:8])}")
        return wrong


@contextmanager
def archive(folder: Path) -> Iterator[str]:
    """The address of a miniature archive."""
    write_archive(folder)
    write_lists(folder, f"{BASE}/*/*/*.fits", "r12_l33_{TELESCOPE}_{FIELD}.sha1sum")
    with serving(folder) as server:
        yield server.address
