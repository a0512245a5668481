"""An archive's files by HTTP, as a polite guest: few connections, that are kept, and waiting where it asks for that."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from rsca_torch.errors import InputError
from rsca_torch.survey.download.manifest import Manifest
from rsca_torch.survey.download.manners import Manners
from rsca_torch.survey.fits_files import UnusableFileError

__all__ = ["AbsentError", "Archive", "FetchError"]

T = TypeVar("T")
#: A try that brought so much does not count as a failed one: a large file over a bad line comes in many pieces.
PROGRESS = 2**20
BUSY = {408, 425, 429, 500, 502, 503, 504}


class AbsentError(Exception):
    """The archive has no such file."""


class FetchError(Exception):
    """A file could not be fetched; the message says why, fit for a table."""


class _FailedTryError(Exception):
    """One try failed, and another may not. `wait`: seconds that the server asked for."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait


class Archive:
    """The files below one address, as a context.

    Args:
        address: of the folder that paths start from.
        manners: how often, how fast and how long.
        manifest: remembers of which version a .part is the beginning.
        received: is told each number of bytes that came.
    """

    def __init__(
        self, address: str, manners: Manners, manifest: Manifest, received: Callable[[int], None] = lambda _: None
    ) -> None:
        if not re.match("https?://.", address):
            raise InputError(f"base_url must begin with https:// or http://, got {address}")
        self.address, self.manners, self.manifest, self.received = address.rstrip("/"), manners, manifest, received
        self._not_before = 0.0  # a server that is busy is so for all

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.manners.connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.manners.stall, sock_read=self.manners.stall),
            # Packed once more on the way, a file would not be what Range counts in.
            headers={"Accept-Encoding": "identity", "User-Agent": f"rsca_torch/{version('rsca_torch')}"},
            auto_decompress=False,
            trust_env=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    def url(self, path: str) -> str:
        """Of a path below the address; a plus sign stays one."""
        return f"{self.address}/{quote(path, safe='/+')}"

    async def size(self, path: str) -> int | None:
        """Bytes of a file; None where the archive does not say.

        Raises:
            AbsentError, FetchError: as in `fetch`.
        """

        async def ask() -> int | None:
            async with self._session.head(URL(self.url(path), encoded=True), allow_redirects=True) as answer:
                if answer.status in (405, 501):  # of a server that knows no HEAD
                    return None
                _require_fit(answer, (200,))
                return answer.content_length

        return await self._tried(ask)

    async def text(self, path: str) -> str:
        """What a small file of text holds.

        Raises:
            AbsentError, FetchError: as in `fetch`.
        """

        async def ask() -> str:
            async with (
                asyncio.timeout(10 * self.manners.stall),
                self._session.get(URL(self.url(path), encoded=True)) as answer,
            ):
                _require_fit(answer, (200,))
                return (await answer.read()).decode("utf-8", "replace")

        return await self._tried(ask)

    async def fetch(self, path: str, check: Callable[[Path], str]) -> str:
        """Fetch a file to its .part, going on where that ends, check it, and give it its name.

        Args:
            path: below the address, and below the manifest's root.
            check: says how the file was found right, or raises UnusableFileError.

        Returns:
            What `check` said.

        Raises:
            AbsentError: there is no such file.
            FetchError: it did not come, or never right, in so many tries.
            OSError: it cannot be written.
        """
        target = self.manifest.root / path
        part = target.with_name(f"{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        wrong: list[str] = []

        async def one() -> str:
            try:
                await self._receive(path, part)
                how = check(part)
            except UnusableFileError as error:
                part.unlink(missing_ok=True)
                wrong.append(str(error))
                if len(wrong) >= self.manners.wrong:
                    raise FetchError(f"wrong {len(wrong)} times: {error}") from None
                raise _FailedTryError(str(error)) from None
            part.replace(target)
            self.manifest.found_right(path, how)
            return how

        return await self._tried(one, lambda: _size(part))

    async def _tried(self, once: Callable[[], Awaitable[T]], grown: Callable[[], int] = lambda: 0) -> T:
        """What a try gives, after as many as are allowed.

        Args:
            once: the try.
            grown: bytes that are there; tries that bring much are not counted.
        """
        failures = 0
        while True:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            before = grown()
            try:
                return await once()
            except _FailedTryError as error:
                reason, asked = str(error), error.wait
            except TimeoutError:  # asyncio's and aiohttp's
                reason, asked = f"no answer in {self.manners.stall:g} s", 0.0
            except (aiohttp.ClientError, ConnectionError) as error:
                reason, asked = f"connection failed ({_told(error)})", 0.0
            failures = 1 if grown() - before >= PROGRESS else failures + 1
            if asked > self.manners.longest_wait:
                raise FetchError(f"{reason}, and asks to be left alone for {asked:.0f} s")
            if failures >= self.manners.tries:
                raise FetchError(f"{reason}, {failures} times")
            wait = self.manners.wait(failures, asked)
            if asked:
                self._not_before = max(self._not_before, time.monotonic() + asked)
            await asyncio.sleep(wait)

    async def _receive(self, path: str, part: Path) -> None:
        """Fill a .part, from where it ends if it is the beginning of the version that the archive has."""
        there, validator = _size(part), self.manifest.parts.get(path, "")
        headers = {"Range": f"bytes={there}-", "If-Range": validator} if there and validator else {}
        async with self._session.get(URL(self.url(path), encoded=True), headers=headers) as answer:
            if answer.status == 416 and headers and answer.headers.get("Content-Range") == f"bytes */{there}":
                return  # all of it had come
            if headers and (answer.status == 416 or (answer.status == 206 and not _goes_on(answer, there, validator))):
                part.unlink()
                raise _FailedTryError("another version than that which had begun to come")
            _require_fit(answer, (200, 206) if headers else (200,))
            if answer.content_type == "text/html":
                raise UnusableFileError("web page in place of the file")
            if answer.status == 200:
                part.unlink(missing_ok=True)  # first, or a kill here leaves one version under the name of the other
                self.manifest.begins(path, _validator(answer))
            with part.open("ab") as file:
                await self._copy(answer, file)
                file.flush()
                os.fsync(file.fileno())

    async def _copy(self, answer: aiohttp.ClientResponse, file: BinaryIO) -> None:
        """The body, as long as it does not come too slowly."""
        since, came = time.monotonic(), 0
        while True:
            async with asyncio.timeout(self.manners.stall):
                content = await answer.content.readany()
            if not content:
                return
            file.write(content)
            self.received(len(content))
            came += len(content)
            if (taken := time.monotonic() - since) > self.manners.stall:
                if came < self.manners.slowest * taken:
                    file.flush()
                    raise _FailedTryError(f"less than {self.manners.slowest:g} bytes/s for {self.manners.stall:g} s")
                since, came = time.monotonic(), 0


def _require_fit(answer: aiohttp.ClientResponse, fit: tuple[int, ...]) -> None:
    """Raises what another status means."""
    if answer.status in fit:
        return
    told = f"HTTP {answer.status} {answer.reason or ''}".rstrip()
    if answer.status in (404, 410):
        raise AbsentError(told)
    if answer.status in BUSY:
        raise _FailedTryError(told, _asked(answer.headers.get("Retry-After", "")))
    raise FetchError(told)


def _goes_on(answer: aiohttp.ClientResponse, there: int, validator: str) -> bool:
    """Whether a part of the file is the one that was asked for."""
    starts = answer.headers.get("Content-Range", "").startswith(f"bytes {there}-")
    return starts and _validator(answer) in ("", validator)


def _validator(answer: aiohttp.ClientResponse) -> str:
    """What tells this version from others to the last byte; a weak ETag does not."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")


def _asked(told: str) -> float:
    """Seconds that a server asks to be left alone for: it says a number or a time."""
    if told.strip().isdigit():
        return float(told)
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
