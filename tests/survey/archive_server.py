"""An archive on loopback that misbehaves on demand, and counts who is connected."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

PAGE = b"<!DOCTYPE html><html><body>Welcome to our network, please log in</body></html>"


class ArchiveServer:
    """Serves the files below a folder.

    Attributes:
        faults: path -> what happens to its requests, one after the other; then all goes well. A callable (path, number
            of the request for it) -> fault may stand in its place.
        asked: path -> requests of it (GET).
        most: connections that there were at once.
        delay: seconds before each answer.
        piece: seconds after each 16 kB of one.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.delay, self.piece = root, 0.0, 0.0
        self.faults: dict[str, list[str]] | object = {}
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.agents: set[str] = set()
        self.most = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        archive = self

        class Handler(_Handler):
            server_of = archive

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
            self.most = max(self.most, sum(map(_is_held, self._open)))

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def fault(self, path: str) -> str:
        with self._lock:
            number = self.asked[path]
            self.asked[path] += 1
            if callable(self.faults):
                return self.faults(path, number)
            waiting = self.faults.get(path, [])
            return waiting.pop(0) if waiting else ""


def _is_held(connection: socket.socket) -> bool:
    """Whether the other side holds it still: a thread of this server learns of its end as late as it is given time."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextmanager
def serving(root: Path):
    archive = ArchiveServer(root)
    threading.Thread(target=archive.server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield archive
    finally:
        archive.server.shutdown()
        archive.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: ArchiveServer

    def setup(self):
        super().setup()
        self.server_of.opened(self.connection)

    def finish(self):
        with suppress(OSError):
            super().finish()
        self.server_of.closed(self.connection)

    def handle(self):
        with suppress(OSError):
            super().handle()

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        archive, path = self.server_of, unquote(self.path).lstrip("/")
        archive.agents.add(self.headers.get("User-Agent", ""))
        fault = archive.fault(path) if body else ""
        if self.headers.get("Range"):
            archive.ranges.append(path)
        time.sleep(archive.delay)
        file = archive.root / path
        if fault == "404" or not file.is_file():
            return self._said(404, PAGE if body else b"")
        if fault in ("429", "503", "500"):
            return self._said(int(fault), b"", {"Retry-After": "0"} if fault != "500" else {})
        if fault == "gone":
            self.close_connection = True
            return self.connection.close()
        if fault == "later":
            return self._said(503, b"", {"Retry-After": "3600"})
        if fault == "page":
            return self._said(200, PAGE, {"Content-Type": "text/plain"})
        if fault == "html":
            return self._said(200, PAGE, {"Content-Type": "text/html"})
        if fault == "redirect":
            return self._said(302, b"", {"Location": f"/{self.path.lstrip('/')}"})
        if fault == "login":
            return self._said(302, b"", {"Location": "/login"})
        content = file.read_bytes()
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and self.headers.get("If-Range") in (etag, None):
            start, status = int(wanted[1]), 206
            if start >= len(content):
                return self._said(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        sent = content[start:]
        if fault == "corrupt":
            middle = len(sent) // 2
            sent = sent[:middle] + bytes([sent[middle] ^ 255]) + sent[middle + 1 :]
        headers = {"ETag": etag, "Content-Type": "application/fits", "Content-Length": str(len(sent))}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if fault == "long":
            headers["Content-Length"] = str(len(sent) + 1000)
        if fault == "short":
            headers["Content-Length"] = str(max(0, len(sent) - 5760))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return None
        if fault in ("reset", "hang"):
            self.wfile.write(sent[: len(sent) // 2])
            self.wfile.flush()
            if fault == "hang":
                self.connection.settimeout(5)
                with suppress(OSError):
                    self.connection.recv(1)  # till the other side goes away
            else:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR) if fault == "hang" else self.connection.close()
            return None
        if fault == "drip":
            for number in range(len(sent)):
                self.wfile.write(sent[number : number + 1])
                time.sleep(0.02)
            return None
        if fault == "short":
            sent = sent[: int(headers["Content-Length"])]
        for begin in range(0, len(sent), 2**14):
            self.wfile.write(sent[begin : begin + 2**14])
            time.sleep(archive.piece)
        if fault == "long":
            self.close_connection = True
        return None

    def _said(self, status, content, headers=None):
        self.send_response(status)
        for name, value in {
            "Content-Type": "text/html",
            "Content-Length": str(len(content)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def write_lists(root: Path, spectra: str, name: str, lacking=()) -> None:
    """A sha1 list in each folder of spectra, as the archive has them.

    Args:
        root: of the tree.
        spectra: pattern of the files.
        name: of a list, with {TELESCOPE} and {FIELD}.
        lacking: names of files that their list does not name.
    """
    folders = defaultdict(list)
    for file in sorted(root.glob(spectra)):
        if file.name not in lacking:
            folders[file.parent].append(f"{hashlib.sha1(file.read_bytes()).hexdigest()}  {file.name}\n")
    for folder, lines in folders.items():
        (folder / name.format(TELESCOPE=folder.parent.name, FIELD=folder.name)).write_text("".join(lines))
