"""Where somebody has SDSS's tree already, as sdss_access, jobovy/apogee and astroNN are told it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from rsca_torch.errors import InputError

__all__ = ["tree_root"]

#: Variables that name the tree itself: those of sdss_access, and of jobovy/apogee and astroNN.
TREES = ("SAS_BASE_DIR", "SDSS_LOCAL_SAS_MIRROR")
#: Variables of sdss_access that name a folder in it, and how such a folder ends below the tree.
INSIDE = {
    "MWM_ASTRA": r"/dr\d+/spectro/astra",
    "APOGEE_REDUX": r"/dr\d+/(apogee/spectro|spectro/apogee)/redux",
    "APOGEE_ASPCAP": r"/dr\d+/apogee/spectro/aspcap",
}


def tree_root(root: str | None, environment: Mapping[str, str]) -> tuple[Path, str]:
    """The folder of the tree, and what told it: "root", or the name of a variable.

    Args:
        root: as given; None: the first variable that is set tells it.
        environment: the variables.

    Raises:
        InputError: nothing tells it, or what does is a folder inside a tree.

    Example:
        >>> tree_root(None, {"MWM_ASTRA": "/data/sas/dr19/spectro/astra"})[1]
        'MWM_ASTRA'
    """
    if root is None:
        for name in (*TREES, *INSIDE):
            if place := environment.get(name, "").rstrip("/"):
                return _above(name, place), name
        raise InputError(f"root=DIR must say where to, since none of {', '.join((*TREES, *INSIDE))} is set")
    if re.fullmatch(r"dr\d+", Path(root).name):
        raise InputError(f"root={root} looks like a release inside a tree: give the folder above, {Path(root).parent}")
    return Path(root), "root"


def _above(name: str, place: str) -> Path:
    if name in TREES:
        return Path(place)
    found = re.fullmatch(f"(.+){INSIDE[name]}", place)
    if found is None:
        raise InputError(
            f"{name}={place} is not in a tree of SDSS's layout (TREE{INSIDE[name]}); root=DIR says where the tree is"
        )
    return Path(found[1])
