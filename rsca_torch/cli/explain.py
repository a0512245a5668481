"""`rsca explain`: which lines carry a feature, a pair's distance or a star's place."""

from __future__ import annotations

import logging
import math
import shlex
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from rsca_torch.cli.inputs import is_default, output_path
from rsca_torch.errors import InputError
from rsca_torch.explanation.explain import Explained, Question
from rsca_torch.explanation.naming import Names
from rsca_torch.files.places import claimed, require_new_file, require_new_folder
from rsca_torch.files.whole import atomic_folder
from rsca_torch.layers.rsca import RSCA
from rsca_torch.learners.registry import CONFIG
from rsca_torch.report.explanation import KINDS, name_of, printable, tables_of, write_explanation, write_one
from rsca_torch.report.terminal import print_table
from rsca_torch.survey.element_windows import Ranges, read_windows
from rsca_torch.survey.line_list import apogee_lines, read_lines
from rsca_torch.survey.store import Store

__all__ = ["run"]

log = logging.getLogger(__name__)

QUESTIONS = ("feature", "pair", "star")


def run(config: DictConfig) -> None:
    """Which lines carry a feature, a pair's distance or a star's place."""
    asked = [name for name in QUESTIONS if config[name] is not None]
    if len(asked) != 1:
        got = ", ".join(f"{name}={config[name]}" for name in asked) or "none"
        raise InputError(f"one of feature=NUMBER, pair=[ID1,ID2] and star=ID expected, got {got}")
    _require_numbers(config)
    out = output_path(config.out)
    one = out.suffix in KINDS
    with claimed(out, or_another=is_default("out")) as out:
        (require_new_file if one else require_new_folder)(out)
        told = _explained(config, asked[0])
        command = shlex.join(["rsca", "explain", *HydraConfig.get().overrides.task])
        if one:
            write_one(out, told, command)
        else:
            with atomic_folder(out) as folder:
                write_explanation(folder, told, command)
    _say(told.title)
    for caption, table in tables_of(told):
        _say(caption)
        print_table(table)
    _say("\n" + "\n".join(told.notes))
    files = f"bins, lines, windows and {name_of('further', told)} as CSV and FITS, explanation.png and .pdf in"
    log.info("%s %s", "written:" if one else files, out)


def _say(text: str) -> None:
    lines = "\n".join(map(printable, text.split("\n")))
    Console().print(lines, markup=False, highlight=False, soft_wrap=True)


def _explained(config: DictConfig, asked: str) -> Explained:
    lines = apogee_lines() if config.lines is None else read_lines(config.lines)
    windows = _windows(config.windows)
    model, store = RSCA.load(config.model), Store.open(config.store)
    store.verify()
    names = Names(model.wavelength.numpy(), lines, windows, float(config.reach))
    question = Question(model, store, names, config.stars)
    if asked == "feature":
        return question.feature(config.feature)
    if asked == "star":
        return question.star(_id(config.star))
    pair = config.pair
    if isinstance(pair, str) or len(pair) != 2:
        raise InputError(f"pair={pair}: two ids expected, pair=[ID1,ID2]")
    return question.pair(*(_id(each) for each in pair))


def _windows(asked: str | None) -> dict[str, Ranges]:
    if asked is None:
        return {}
    known = CONFIG / "element_windows" / f"{asked}.yaml"
    there = sorted(path.stem for path in known.parent.glob("*.yaml"))
    if asked in there:
        return read_windows(known)
    if not Path(asked).is_file():
        raise InputError(f"windows={asked}: a FILE.yaml that is there, or one of {', '.join(there)}, expected")
    return read_windows(Path(asked))


def _id(given: Any) -> str:  # noqa: ANN401  (as it was typed)
    """An id as text, whole numbers too; never by way of a float."""
    if isinstance(given, str) or (isinstance(given, int) and not isinstance(given, bool)):
        return str(given)
    raise InputError(
        f"a star's id expected, got the {type(given).__name__} {given!r:.60}: write it in quotes, star='\"{given}\"'"
    )


def _require_numbers(config: DictConfig) -> None:
    reach, stars = config.reach, config.stars
    if isinstance(reach, bool) or not isinstance(reach, int | float) or not 0 <= reach < math.inf:
        raise InputError(f"reach={reach}: Angstrom, 0 or more, expected")
    if stars is not None and (isinstance(stars, bool) or not isinstance(stars, int) or stars < 2):
        raise InputError(f"stars={stars}: a whole number of at least 2 expected, or null for all field stars")
