"""`rsca download`: a survey's files from the archive."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from shlex import join
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.prompt import Confirm

from rsca_torch.cli.exit_codes import RemarksError
from rsca_torch.errors import InputError
from rsca_torch.files.places import claimed
from rsca_torch.files.whole import named_disk
from rsca_torch.report.download_summary import outcome_lines, received
from rsca_torch.survey.download.archive import Archive
from rsca_torch.survey.download.download import Download
from rsca_torch.survey.download.known_sums import KnownSums
from rsca_torch.survey.download.manifest import Manifest
from rsca_torch.survey.download.outcome import in_bytes
from rsca_torch.survey.download.sdss_tree import tree_root

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Fetch a release of the survey: catalogue, list of members, and the spectra of the stars that pass the cuts."""
    root, told = tree_root(config.root, os.environ)
    if told != "root":
        log.info("the tree is %s, as %s says", root, told)
    config.root = str(root)
    survey = hydra.utils.instantiate(config.survey)
    manners = hydra.utils.instantiate(config.manners)
    only_told = config.dry_run or config.list_urls
    if not only_told:
        root.mkdir(parents=True, exist_ok=True)

    async def work(manifest: Manifest, **told: Any) -> Download:
        sums = KnownSums(manifest, config.release.checksums, config.release.lists)
        received_bytes = told.pop("received", lambda _: None)
        if config.verify_only:
            download = Download(survey, None, sums, **told)
            await download.first()
            await download.spectra()
            return download
        async with Archive(config.base_url, manners, manifest, received_bytes) as archive:
            download = Download(survey, archive, sums, again=config.again, **told)
            if only_told:
                await _tell(download, config.list_urls)
            else:
                await download.first()
                await download.spectra()
            return download

    if only_told:
        asyncio.run(work(Manifest(root, reading=True)))
        return
    with claimed(root), named_disk(root), Manifest(root) as manifest:
        with received() as bars:
            agree = _agree(config, bars.pause)
            download = asyncio.run(work(manifest, received=bars.more, progress=bars.files, agree=agree))
        problems = download.write_problems()
    print("\n".join(outcome_lines(download.outcome, problems)))
    if download.outcome.problems:
        raise RemarksError
    of_survey = [each for each in HydraConfig.get().overrides.task if each.lstrip("+~").startswith("survey.")]
    following = ["rsca", "ingest", f"survey={survey.name}", f"survey.root={root}", *of_survey, "store=DIR"]
    log.info("next: %s", join(following))


def _agree(config: DictConfig, pause: Callable[[], None]) -> Callable[[int, int | None], None]:
    """Asks before much is fetched, or refuses where nobody can be asked."""

    def agree(files: int, size: int | None) -> None:
        about = "of a size that the archive does not say" if size is None else f"about {in_bytes(size)}"
        log.info("to fetch: %s files, %s", f"{files:,}", about)
        if config.yes or (size is not None and size <= config.ask_above * 1e9):
            return
        if not sys.stdin.isatty():
            raise InputError(
                f"{files:,} files, {about}, are more than ask_above={config.ask_above:g} GB, and there is no terminal "
                "to ask on: yes=true fetches them"
            )
        pause()
        if not Confirm.ask("Fetch them?"):
            raise InputError("nothing was fetched, as you said; dry_run=true says what would be")

    return agree


async def _tell(download: Download, urls: bool) -> None:
    """What is missing: addresses, or how much it is."""
    first = download.first_missing()
    paths = [needed.candidates[0] for needed in first] or download.missing_spectra()
    if urls:
        print("".join(f"{download.online.url(path)}\n" for path in paths), end="")
    else:
        sizes = [await download.online.size(path) for path in paths] if first else [await download.size_of_one(paths)]
        each = 1 if first else len(paths)
        known = all(size is not None for size in sizes)
        size = f"about {in_bytes(each * sum(size or 0 for size in sizes))}" if known else "of unknown size"
        print(f"{len(paths):,} files are missing, {size}" if paths else "no file is missing")
    if first:
        log.info("the spectra are known when the %s is there", " and the ".join(needed.what for needed in first))
