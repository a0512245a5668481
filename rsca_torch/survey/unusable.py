"""Files that cannot be used, and whose fault that is: their own, or the file server's."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

__all__ = ["OF_THE_FILE", "UnusableFileError", "is_file", "is_of_the_machine"]

#: What the system says of one file alone, and not of the disk, the file server or this process.
OF_THE_FILE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EACCES,
    errno.EPERM,
}


class UnusableFileError(Exception):
    """A file cannot be used; the message is a short reason, fit for a table of problems."""


def is_file(path: Path) -> bool:
    """Whether it is there, and a file: a pipe would be waited for, a device read without end.

    Raises:
        UnusableFileError: it is there and is no file.
        OSError: nobody can tell, as `Path.exists` of some Pythons does not say.
    """
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISREG(kind):
        raise UnusableFileError("a folder, no file" if stat.S_ISDIR(kind) else "no regular file")
    return True


def is_of_the_machine(error: BaseException | None) -> bool:
    """Whether it, or what it was raised for, is of the disk, the file server or this process, and not of one file.

    >>> is_of_the_machine(OSError(errno.EIO, "Input/output error")), is_of_the_machine(OSError("truncated"))
    (True, False)
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None and error.errno not in OF_THE_FILE:
            return True
        error = error.__cause__ or error.__context__
    return False
