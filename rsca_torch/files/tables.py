"""Tables of any format that astropy reads, as data alone: nothing that a file says is fetched from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from astropy.io.votable import is_votable
from astropy.table import Table
from astropy.utils.xml.iterparser import get_xml_iterator

from rsca_torch.files.fits_headers import GZIP, require_headers

__all__ = ["read_table", "require_own_data"]

#: Of astropy's formats those that are files of data.
ASTROPY = ("ascii", "fits", "hdf5", "mrt", "parquet", "votable")


def read_table(path: Path, **options: Any) -> Table:
    """`Table.read` of a file that is there.

    Args:
        path: the file.
        options: as `Table.read` has them.

    Raises:
        ValueError: it is no regular file, its format is no kind of file, it is shorter than it says, or its data are
            to be fetched from elsewhere.
        Exception: whatever a reader of a format raises.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    kind = options.get("format")
    if kind is not None and str(kind).partition(".")[0] not in ASTROPY:
        raise ValueError(f"format {kind!r}: one of {', '.join(ASTROPY)} expected, or ascii.ecsv and the like")
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith((b"SIMPLE", GZIP)):
        require_headers(path, whole=True)
    if kind == "votable" or (kind is None and is_votable(str(path))):
        require_own_data(path)
    return Table.read(path, **options)


def require_own_data(path: Path) -> None:
    """Refuse a VOTable whose data lie elsewhere: astropy would open any address that it names.

    Raises:
        ValueError: it names one.
    """
    with get_xml_iterator(str(path)) as elements:
        for begins, name, attributes, _ in elements:
            if begins and name == "STREAM" and "href" in attributes:
                raise ValueError(f"its data are in {attributes['href']!r:.80}, which is not looked at: give one file")
