"""A survey's files, from the archive to a tree: catalogue and list of members, then the spectra that they ask for."""

from __future__ import annotations

import asyncio
import csv
import errno
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rsca_torch.errors import InputError
from rsca_torch.files.whole import atomic_file, remove_abandoned
from rsca_torch.survey.download.archive import AbsentError, Archive, FetchError
from rsca_torch.survey.download.known_sums import KnownSums
from rsca_torch.survey.download.needed import Needed, first_needed, spectra_needed
from rsca_torch.survey.download.outcome import Outcome, in_bytes
from rsca_torch.survey.download.right_files import STRUCTURE, require_right
from rsca_torch.survey.fits_files import COMPRESSED, UnusableFileError
from rsca_torch.survey.survey import Survey

__all__ = ["PROBLEMS", "Download"]

log = logging.getLogger(__name__)

PROBLEMS = "download_problems.csv"
#: Asked for their size where it is to be said how much all are.
SAMPLED = 5
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Download:
    """A survey's files and where they come from.

    Args:
        survey: whose root is the tree.
        archive: an open one; None: nothing is asked for, what is there is examined.
        sums: the sha1 that are known.
        again: ask also for what the archive said it has not.
        agree: is asked before much is fetched: how many files, about how many bytes (None: not known).
        progress: is told how many of how many files are done.
    """

    def __init__(
        self,
        survey: Survey,
        archive: Archive | None,
        sums: KnownSums,
        *,
        again: bool = False,
        agree: Callable[[int, int | None], None] = lambda *_: None,
        progress: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        self.survey, self.archive, self.sums, self.again = survey, archive, sums, again
        self.manifest, self.root = sums.manifest, sums.manifest.root
        self.agree, self.progress = agree, progress
        self.outcome = Outcome()

    @property
    def online(self) -> Archive:
        """The archive.

        Raises:
            InputError: nothing may be asked for.
        """
        if self.archive is None:
            raise InputError("verify_only asks the archive for nothing, and something is missing")
        return self.archive

    def exists(self, path: str) -> str:
        """The path as it is there, perhaps compressed; '' where it is not."""
        return next((f"{path}{end}" for end in ("", *COMPRESSED) if (self.root / f"{path}{end}").is_file()), "")

    def first_missing(self) -> list[Needed]:
        """The catalogue and the list of members, if they are not there."""
        return [needed for needed in first_needed(self.survey) if not any(map(self.exists, needed.candidates))]

    async def first(self) -> None:
        """Fetch the catalogue and the list of members, or check those that are there.

        Raises:
            InputError: one cannot be had.
        """
        for needed in first_needed(self.survey):
            there = next(filter(None, map(self.exists, needed.candidates)), "")
            path = there or await self._offered(needed)
            await self._each([path])
            if told := dict(self.outcome.missing).get(path):
                raise InputError(
                    f"the {needed.what} {path} cannot be fetched: {told}; without it nobody knows which spectra are "
                    "needed. The same command tries again"
                )

    async def _offered(self, needed: Needed) -> str:
        """The first of the candidates that the archive has."""
        for path in needed.candidates:
            try:
                size = await self.online.size(path)
            except (AbsentError, FetchError) as error:
                log.info("%s: %s", self.online.url(path), error)
                if isinstance(error, AbsentError):
                    continue
                raise InputError(f"the {needed.what} cannot be fetched: {path}: {error}; try again later") from error
            self._require_room(size or 0)
            self.agree(1, size)
            return path
        raise InputError(
            f"the archive has no {needed.what}: none of {', '.join(needed.candidates)} is below {self.online.address}; "
            "base_url names another archive"
        )

    async def spectra(self) -> None:
        """Fetch the spectra of all stars that pass the survey's cuts, or check those that are there.

        Raises:
            InputError: there is no room for them, or nobody agrees.
        """
        paths = self.wanted()
        missing = self.missing_of(paths)
        if missing and self.archive is not None:
            each = await self.size_of_one(missing)
            needs = each * len(missing) if each else None
            self._require_room(needs or 0)
            self.agree(len(missing), needs)
        await self._each(paths)

    def wanted(self) -> list[str]:
        """The spectra that are needed; those that lie out of root are noted as problems."""
        paths, elsewhere = spectra_needed(self.survey)
        self.outcome.problems += elsewhere
        self.outcome.needed += len(elsewhere)
        return paths

    def missing_spectra(self) -> list[str]:
        """Those that are not there, and that the archive did not say it has not."""
        return self.missing_of(self.wanted())

    def missing_of(self, paths: Sequence[str]) -> list[str]:
        """Those of them that would be asked for."""
        asked = [path for path in paths if self.again or path not in self.manifest.absent]
        return [path for path in asked if not self.exists(path)]

    async def size_of_one(self, paths: Sequence[str]) -> int | None:
        """Bytes of a file, the mean of some that the archive has; None where it says none."""
        sizes = []
        for path in paths[:: max(1, len(paths) // SAMPLED)][:SAMPLED]:
            try:
                sizes.append(await self.online.size(path))
            except (AbsentError, FetchError) as error:
                log.debug("%s: %s", path, error)
        told = [size for size in sizes if size]
        return sum(told) // len(told) if told else None

    def _require_room(self, needs: int) -> None:
        if (free := shutil.disk_usage(self.root).free) < needs:
            raise InputError(
                f"no room in {self.root}: about {in_bytes(needs)} are needed, {in_bytes(free)} are free; make room, or "
                "choose another root"
            )

    async def _each(self, paths: Iterable[str]) -> None:
        """Every file, as many at once as there may be connections."""
        waiting = list(reversed(list(paths)))
        total, done = len(waiting), 0
        self.outcome.needed += total

        async def work() -> None:
            nonlocal done
            while waiting:
                path = waiting.pop()
                await self._one(path)
                done += 1
                self.progress(done, total)

        workers = self.archive.manners.connections if self.archive else 1
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(work())
        except ExceptionGroup as several:
            error = several.exceptions[0]
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise self._full(total - done) from error
            raise error from None

    def _full(self, left: int) -> InputError:
        sizes = [known.size for path, known in self.manifest.whole.items() if path not in self._firsts()]
        more = f"about {in_bytes(left * sum(sizes) // len(sizes))} more" if sizes else f"room for {left} files"
        return InputError(
            f"no space left in {self.root}: {more} are needed for {left:,} files, "
            f"{in_bytes(shutil.disk_usage(self.root).free)} are free; make room, and the same command goes on"
        )

    def _firsts(self) -> set[str]:
        return {path for needed in first_needed(self.survey) for path in needed.candidates}

    async def _one(self, path: str) -> None:
        """One file: there and right, or fetched, or a problem."""
        try:
            if there := await self._is_there(path):
                self.outcome.there += 1
                self.outcome.unsure += there == STRUCTURE
            elif self.archive is None:
                self.outcome.problems.append((path, "missing file"))
            elif path in self.manifest.absent and not self.again:
                raise AbsentError("HTTP 404 in an earlier run")
            else:
                how = await self._fetched(path)
                self.outcome.fetched += 1
                self.outcome.unsure += how == STRUCTURE
        except AbsentError as error:
            self.manifest.is_absent(path)
            self.outcome.absent.append((path, f"not in the archive ({error})"))
        except (FetchError, UnusableFileError) as error:
            self.outcome.problems.append((path, str(error)))

    async def _is_there(self, path: str) -> str:
        """How the file that is there was found right; '' where there is none, or it was wrong and was put aside."""
        if self.archive is not None and self.manifest.is_whole(path):
            return self.manifest.whole[path].how
        if not (name := self.exists(path)):
            return ""
        sha1 = ""
        if name == path:
            sha1 = await self.sums.of(path, self.archive) if self.archive else self.sums.known(path)
        try:
            how = require_right(self.root / name, sha1)
        except UnusableFileError as error:
            if self.archive is None:
                raise
            aside = (self.root / name).replace(self.root / f"{name}.wrong")
            log.warning("%s was there and is not right (%s): it is %s now", name, error, aside.name)
            return ""
        self.manifest.found_right(name, how)
        return how

    async def _fetched(self, path: str) -> str:
        sha1 = await self.sums.of(path, self.online)
        if not sha1:  # a Content-Length that is short by a whole HDU would leave nothing to see
            size = await self.online.size(path)
            return await self.online.fetch(path, lambda part: _of_size(part, size))
        try:
            return await self.online.fetch(path, lambda part: require_right(part, sha1))
        except FetchError:
            if not self.sums.list_of(path):
                raise
            other = await self.sums.of(path, self.online, again=True)
            if other == sha1:
                raise
            return await self.online.fetch(path, lambda part: require_right(part, other))  # the list had come wrong

    def write_problems(self) -> Path | None:
        """Write ``download_problems.csv``, every missing file and why; where none is missing, leave none."""
        place = self.root / PROBLEMS
        if not self.outcome.missing:
            place.unlink(missing_ok=True)
            remove_abandoned(place.parent, f".{place.name}.")
            return None
        with (
            atomic_file(place) as part,
            part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            csv.writer(file).writerows([("file", "problem"), *self.outcome.missing])
        return place


def _of_size(part: Path, size: int | None) -> str:
    """How a file without sha1 was found right, which must be as long as the archive says when it is asked once more."""
    if size is not None and part.stat().st_size != size:
        raise UnusableFileError(f"truncated file ({part.stat().st_size} bytes, {size} when the archive was asked)")
    return require_right(part)
