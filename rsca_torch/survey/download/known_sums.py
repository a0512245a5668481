"""The sha1 that a file should have: told with the release, or by the list in the folder of the file."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from rsca_torch.errors import InputError
from rsca_torch.survey.download.archive import AbsentError, Archive, FetchError
from rsca_torch.survey.download.manifest import Manifest

__all__ = ["KnownSums", "read_list"]

LINE = re.compile(r"([0-9a-f]{40}) [ *]?([!-~]+)")


class KnownSums:
    """Path -> sha1, as far as anything tells it.

    Args:
        manifest: remembers the lists that were read.
        checksums: of single files, as sha1sum writes them: "SHA1  NAME".
        lists: telescope, a folder's name -> the name of the list in each folder of its spectra; {FIELD} is the folder.

    Raises:
        InputError: a line of `checksums` is none of sha1sum's.
    """

    def __init__(
        self, manifest: Manifest, checksums: Sequence[str] = (), lists: Mapping[str, str] | None = None
    ) -> None:
        self.manifest, self.lists = manifest, lists or {}
        told = [(line, LINE.fullmatch(line.strip())) for line in checksums]
        if bad := [line for line, match in told if match is None]:
            raise InputError(f"release.checksums has lines like sha1sum's, 40 digits and a name, got {bad[0]}")
        self.names = {match[2]: match[1] for _, match in told if match is not None}
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def list_of(self, path: str) -> str:
        """Where the list is that may name a file; '' where there is none."""
        folder = PurePosixPath(path).parent
        name = self.lists.get(folder.parent.name, "")
        return str(folder / name.format(FIELD=folder.name)) if name else ""

    def known(self, path: str) -> str:
        """The sha1 as far as it is known here, without asking the archive; '' where it is not."""
        sums = self.manifest.sha1
        beside = self.manifest.root / self.list_of(path)
        if path not in sums and beside.is_file():  # somebody fetched the tree with its lists
            sums |= read_list(beside.read_text(encoding="utf-8", errors="replace"), Path(path).parent.as_posix())
        return sums.get(path) or self.names.get(PurePosixPath(path).name, "")

    async def of(self, path: str, archive: Archive, again: bool = False) -> str:
        """The sha1, from the archive's list where it is not known yet; '' where nothing tells it.

        Args:
            path: of the file.
            archive: has the list.
            again: read the list once more, which may have come wrong.

        Raises:
            FetchError: the list does not come.
        """
        place = self.list_of(path)
        if not place or (self.known(path) and not again):
            return self.known(path)
        async with self._reading[place]:
            if again or place not in self.manifest.lists:
                self.manifest.listed(place, await _fetched(archive, place))
        return self.known(path)


async def _fetched(archive: Archive, place: str) -> dict[str, str]:
    for _ in range(archive.manners.wrong):
        try:
            text = await archive.text(place)
        except AbsentError:
            return {}
        except FetchError as error:
            raise FetchError(f"{error} ({PurePosixPath(place).name})") from None
        if sums := read_list(text, str(PurePosixPath(place).parent)):
            return sums
    raise FetchError(f"no list of sha1 in {PurePosixPath(place).name}")


def read_list(text: str, folder: str) -> dict[str, str]:
    """Path -> sha1 of the lines of a list, in any order; empty where one line is none of sha1sum's.

    >>> read_list("da39a3ee5e6b4b0d3255bfef95601890afd80709  a.fits", "dr16/N7789")
    {'dr16/N7789/a.fits': 'da39a3ee5e6b4b0d3255bfef95601890afd80709'}
    >>> read_list("<html>404 Not Found</html>", "dr16/N7789")
    {}
    """
    lines = [LINE.fullmatch(line.strip()) for line in text.splitlines() if line.strip()]
    if not all(lines):
        return {}
    return {f"{folder}/{PurePosixPath(line[2]).name}": line[1] for line in lines if line is not None}
