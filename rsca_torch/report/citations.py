"""What to cite, as BibTeX: the method, the software, and the data and learners that a run, a store or a model used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rsca_torch.comparison.finished_run import RESULTS
from rsca_torch.errors import InputError
from rsca_torch.files.checked import read_json
from rsca_torch.layers.rsca import RSCA
from rsca_torch.learners.registry import learner_class
from rsca_torch.learners.trust import is_trusted
from rsca_torch.spectra.labels import printable
from rsca_torch.survey.store import Store

__all__ = ["Entry", "Used", "bibtex", "entries", "of_installation", "of_model", "of_run", "of_store"]

FILE = Path(__file__).with_name("references.bib")
UNPUBLISHED = (
    "aiohttp",
    "bokeh",
    "cloudpickle",
    "filelock",
    "jinja2",
    "joblib",
    "lazy-loader",
    "pillow",
    "rich",
    "safetensors",
    "yarl",
)  # packages of which no paper is known


@dataclass(frozen=True)
class Entry:
    """One reference.

    Attributes:
        key: to cite it by.
        text: the whole entry.
        used_for: what it stands for, as references.bib says.
    """

    key: str
    text: str
    used_for: tuple[str, ...]


@dataclass
class Used:
    """What is to be cited.

    Attributes:
        what: as in `Entry.used_for`.
        versions: of packages, as far as they are known.
        remarks: what there is no entry for, said as comments.
    """

    what: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def entries() -> list[Entry]:
    """All references, in the order of references.bib.

    >>> entries()[0].key
    'deMijolla2022'
    """
    texts = re.findall(r"^@\w+\{.*?^\}", FILE.read_text(encoding="ascii"), re.DOTALL | re.MULTILINE)
    return [_entry(text) for text in texts]


def _entry(text: str) -> Entry:
    used = re.search(r"^  usedfor = \{(.*)\}$", text, re.MULTILINE)
    assert used is not None, "each entry of references.bib says what it is used for"
    plain = text.replace(f",\n{used[0]}", "")
    return Entry(plain.partition("{")[2].partition(",")[0], plain, tuple(used[1].split("; ")))


def bibtex(used: Used) -> str:
    """The entries with the versions of packages as notes, and the remarks as comments before them."""
    parts = ["".join(f"% {printable(remark)}\n" for remark in used.remarks)]
    for entry in entries():
        if {*entry.used_for} & {*used.what}:
            known = [told for name, told in used.versions.items() if f"package {name}" in entry.used_for]
            notes = "".join(f",\n  note = {{Version {told}}}" for told in known)
            parts.append(entry.text.removesuffix("\n}") + notes + "\n}\n")
    return "\n".join(part for part in parts if part)


def packages() -> list[str]:
    """What this program needs and has an entry, by the names of packages; itself first."""
    used = dict.fromkeys(one for entry in entries() for one in entry.used_for if one.startswith("package "))
    return [one.removeprefix("package ") for one in used]


def of_installation() -> Used:
    """The method and the software that is installed."""
    names = packages()
    used = Used(["method", "step 1", *(f"package {name}" for name in names)], {name: version(name) for name in names})
    told = ", ".join(f"{name} {version(name)}" for name in UNPUBLISHED)
    used.remarks.append(f"Software without a paper that is known: {told}")
    return used


def of_run(folder: Path, trust: str | None = None) -> Used:
    """What a finished run of `rsca compare` used, with the versions that it wrote down.

    Args:
        folder: of the run.
        trust: "any" imports whatever class the run names as a learner. None: those that are trusted.

    Raises:
        InputError: where no finished run is there.
    """
    try:
        content = read_json(folder / RESULTS)
        config, versions, store = content["config"], content["versions"], content["store"]
        judged = {"the judged learner": config["learner"], **config["baselines"]}
        targets = {name: str(options["_target_"]) for name, options in judged.items()}
        versions, place, survey = dict(versions), Path(store["path"]), dict(config.get("survey", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"run={folder} holds no finished run of rsca compare: its {RESULTS} is expected") from error
    used = _software(versions)
    if not config.get("compressor"):
        used.what.remove("step 1")
        used.remarks.append(f"Stars and abundances are those of {place.name}: cite where they are from")
    _add_learners(used, targets, trust == "any")
    if survey:
        note = place.parent / "simulation.json"
        _add_survey(used, survey, "simulation" in config or note.is_file())
    return used


def of_store(path: Path) -> Used:
    """What a store holds, and this program.

    Raises:
        InputError: as `Store.open`.
    """
    used, origin = of_installation(), Store.open(path).origin
    _add_survey(used, origin, origin["simulated"])
    return used


def of_model(path: Path) -> Used:
    """What a fitted model says that it was fitted on, by the version that fitted it.

    Raises:
        InputError: as `RSCA.load`.
    """
    model = RSCA.load(path)
    used = _software({"rsca_torch": model.version})
    for origin in model.sources:
        if origin:
            _add_survey(used, origin, origin["simulated"])
    if {} in model.sources or not model.sources:
        used.remarks.append("Fitted on spectra in memory: cite where they are from")
    return used


def _software(versions: Mapping[str, str]) -> Used:
    """As it is installed, of versions only those that are told."""
    used = of_installation()
    used.versions = {name: told for name, told in versions.items() if name in used.versions}
    used.remarks = [f"Software without a paper that is known: {', '.join(UNPUBLISHED)}"]
    return used


def _add_survey(used: Used, survey: Mapping[str, Any], simulated: bool) -> None:
    """Its release and its list of members.

    Args:
        used: what is to be cited; is added to.
        survey: with `release` and `members`.
        simulated: whether its stars are drawn, so that there are no data to cite.
    """
    if simulated:
        used.remarks.append("The survey is simulated by rsca_torch: there are no data to cite")
        return
    name = survey.get("name") or survey.get("survey")
    used.remarks.append(f"Data of {name}: its collaboration may ask for an acknowledgement too")
    members = [Path(one).stem for one in _listed(survey.get("members"))]
    for kind, told in (("release", _listed(survey.get("release"))), ("members", members)):
        for one in told:
            if any(f"{kind} {one}" in entry.used_for for entry in entries()):
                used.what.append(f"{kind} {one}")
            else:
                used.remarks.append(f"No entry for the {kind} {one}: cite where they are from")


def _listed(value: Any) -> list[str]:  # noqa: ANN401  (a text, a list of them or nothing)
    if not isinstance(value, str | list | None):
        raise InputError(f"release and lists of members are texts, got {value!r:.60}: what says so is damaged")
    return [value] if isinstance(value, str) else [str(one) for one in value or ()]


def _add_learners(used: Used, learners: Mapping[str, str], any_class: bool) -> None:
    """The papers of learners, by the dotted names of their classes."""
    for name, target in learners.items():
        if not (any_class or is_trusted(target)):
            used.remarks.append(
                f"Learner {target}: of no package that is trusted; trust=any imports it to ask its paper"
            )
            continue
        try:
            paper = learner_class(target).paper
        except InputError:  # of a package that is not installed any more
            used.remarks.append(f"Learner {target}: it cannot be imported, so its paper is not known")
            continue
        found = list(cited_in(paper))
        used.what += found
        if not found:
            used.remarks.append(f"No entry for {name}, {target}: {paper or 'it names no paper'}")


def cited_in(paper: str) -> Iterator[str]:
    """Which of the entries' papers the text names.

    >>> list(cited_in("Fisher 1936; Rao 1948"))
    ['paper Fisher 1936', 'paper Rao 1948']
    """
    named: Iterable[str] = (one for entry in entries() for one in entry.used_for if one.startswith("paper "))
    return (one for one in named if one.removeprefix("paper ") in paper)
