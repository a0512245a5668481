"""Prints the lowest versions that pyproject.toml allows, as constraints for pip: `python .ci/lowest.py`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def lowest() -> list[str]:
    """`name==version` of every dependency that has a lower bound, those of the tests too."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    bounds = [re.fullmatch(r"([\w-]+)(?:>=|==)([\w.]+)", each) for each in wanted]
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound is not None]


if __name__ == "__main__":
    print("\n".join(lowest()))
