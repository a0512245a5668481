"""A process that makes runs of a download in children of its own, to be killed: ADDRESS, then a line a run, its root.

Python imports the package once; each child is a fork. It says the child's number, and its status when it has ended.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mini_archive import survey

from rsca_torch.files.places import claimed
from rsca_torch.survey.download.archive import Archive
from rsca_torch.survey.download.download import Download
from rsca_torch.survey.download.known_sums import KnownSums
from rsca_torch.survey.download.manifest import Manifest
from rsca_torch.survey.download.manners import Manners

LISTS = {name: f"r12_l33_{name}_{{FIELD}}.sha1sum" for name in ("apo25m", "lco25m")}
QUICK = Manners(first_wait=0.01, longest_wait=0.1, stall=0.5, slowest=5000)


def run(root: Path, address: str) -> int:
    """0 where all is there, 1 where something is missing and named."""

    async def work(manifest: Manifest) -> Download:
        async with Archive(address, QUICK, manifest) as archive:
            download = Download(survey(root), archive, KnownSums(manifest, (), LISTS), again=True)
            await download.first()
            await download.spectra()
            return download

    root.mkdir(exist_ok=True)
    with claimed(root), Manifest(root) as manifest:
        download = asyncio.run(work(manifest))
        download.write_problems()
    return int(bool(download.outcome.missing))


def main() -> None:
    address = sys.argv[1]
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                code = run(Path(line.rstrip()), address)
            except BaseException as error:  # whatever: the child must not go on as its parent
                print(repr(error), file=sys.stderr, flush=True)
                code = 3
            os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
