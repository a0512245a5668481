"""Whether constraints.txt has every package that the project's commands install: `python .ci/pinned.py [REPORT]`.

Without REPORT by the metadata of what is installed here, extra by extra, as pip resolves it; nothing is downloaded.
REPORT is what `pip install --dry-run --ignore-installed --report REPORT -c constraints.txt '.[EXTRAS]'` says that it
would install.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections import deque
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
NOT_PINNED = {"ray"}  # extras whose packages are not among the tested versions


def pins() -> dict[str, str]:
    """Name -> version."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version.strip() for name, version in pairs}


def needed() -> Iterator[tuple[str, str, str]]:
    """(name, version, who needs it) of all that is needed and installed, here and now."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {extra: wanted for extra, wanted in project["optional-dependencies"].items() if extra not in NOT_PINNED}
    first = [("rsca_torch", Requirement(each)) for each in project["dependencies"]]
    first += [(f"rsca_torch[{extra}]", Requirement(each)) for extra, wanted in extras.items() for each in wanted]
    waiting, seen = deque((by, each, frozenset[str]()) for by, each in first), set[tuple[str, frozenset[str]]]()
    while waiting:
        by, each, of_parent = waiting.popleft()
        applies = each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in {"", *of_parent})
        key = canonicalize_name(each.name), frozenset(each.extras)
        if not applies or key in seen:
            continue
        seen.add(key)
        try:
            found = distribution(each.name)
        except PackageNotFoundError:
            continue  # an extra that is not installed here
        yield key[0], found.version, by
        waiting += [(key[0], Requirement(further), key[1]) for further in found.requires or []]


def problems(wanted: Iterator[tuple[str, str, str]]) -> list[str]:
    """What constraints.txt lacks or has otherwise, a sentence each."""
    known, said = pins(), []
    for name, version, by in wanted:
        if name not in known:
            said.append(f"{by} needs {name} {version}, which constraints.txt lacks")
        elif known[name] != version.partition("+")[0]:  # +cpu: a build, no version
            said.append(f"{name} is {version} here, constraints.txt says {known[name]}")
    return said


def of_report(path: Path) -> Iterator[tuple[str, str, str]]:
    """What pip would install, but for this project itself."""
    for each in json.loads(path.read_text(encoding="utf-8"))["install"]:
        name = canonicalize_name(each["metadata"]["name"])
        if name != "rsca-torch":
            yield name, each["metadata"]["version"], "pip's resolution"


if __name__ == "__main__":
    found = problems(needed() if len(sys.argv) < 2 else of_report(Path(sys.argv[1])))
    print("\n".join(found) or "constraints.txt has every package")
    sys.exit(bool(found))
