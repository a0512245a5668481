"""What all pages share: templates in which nothing that was read is a command, and pictures as text."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from bokeh.resources import Resources
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from rsca_torch.report.figure_files import png_of
from rsca_torch.report.terminal import percent
from rsca_torch.spectra.labels import printable

__all__ = ["percent_told", "picture_of", "pictures_beside", "read_told", "rendered"]

HERE = Path(__file__).parent
LARGEST = 3_000_000  # bytes of a page
OWN = 100_000  # bytes of its texts and styles, more or less
#: Colours and points across of pictures, tried one after the other where there is no room for them as they are.
SMALLER = ((128, 1800), (32, 1100), (16, 800), (8, 500))


def rendered(template: str, content: Mapping[str, Any]) -> str:
    """A page as text: HTML in which names are shown as they are, and hidden marks by their codes.

    Args:
        template: a file's name; it extends base.html.j2, which says what every page needs.
        content: for it; `numbers` is what the page has as JSON, `plots` what its script draws.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        finalize=_shown,
    )  # fmt: skip
    environment.filters |= {
        "percent": percent_told,
        "rate": _rate,
        "interval": _interval,
        "figure": _figure,
        "json": _json,
        "spaced": lambda name: str(name).replace("_", " "),
        "counted": "{:,}".format,
    }
    plots = content["plots"]
    return environment.get_template(template).render(
        content,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        library=Markup(_library()) if plots else "",
    )


def read_told(path: Path) -> dict[str, Any]:
    """What a file of JSON says, without numbers that are none; of one that is not there, or not whole, nothing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def pictures_beside(paths: Sequence[Path], plots: Mapping[str, Any], numbers: Any) -> list[str | None]:  # noqa: ANN401
    """PNG files as a page can hold them, with fewer colours and points where it would be too large with them.

    Args:
        paths: of the files.
        plots: that are on the page too.
        numbers: likewise.

    Returns:
        One text a file; None: it cannot be read.
    """
    room = LARGEST - OWN - len(_json(numbers)) - (len(_json(plots)) + len(_library()) if plots else 0)
    pictures = [_picture(path) for path in paths]
    for smaller in SMALLER:
        if sum(len(each or "") for each in pictures) <= room:
            break
        pictures = [_picture(path, *smaller) for path in paths]
    return pictures


def picture_of(figure: Figure) -> str:
    """A figure as a page can hold it."""
    return _as_text(png_of(figure))


def _picture(path: Path, tones: int = 0, width: int = 0) -> str | None:
    """As it is where no tones and width are given."""
    try:
        png = path.read_bytes()
        with Image.open(io.BytesIO(png)) as image:
            image.load()
            return _as_text(_smaller(image, tones, width) if tones else png)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow makes of a damaged file
        return None


def _smaller(image: Image.Image, tones: int, width: int) -> bytes:
    small = image.convert("RGB")
    if small.width > width:
        small = small.resize((width, round(small.height * width / small.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.quantize(tones).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _as_text(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _shown(value: Any) -> Any:  # noqa: ANN401  (whatever a template prints)
    """A text without marks that are not seen, as those that turn the direction of reading."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(printable, value.split("\n")))


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def percent_told(share: float | None, sign: str = "") -> str:
    """As `terminal.percent`; "none" where there is no number."""
    return percent(share, sign) if share is not None and math.isfinite(share) else "none"


def _interval(ends: tuple[float | None, float | None], sign: str = "") -> str:
    """Both ends in %; nothing where there is no interval.

    >>> _interval((0.01, 0.02)), _interval((None, None))
    ('1.00 to 2.00', '')
    """
    return " to ".join(percent_told(end, sign) for end in ends) if all(map(_is_number, ends)) else ""


def _rate(rate: float | None, ends: tuple[float | None, float | None]) -> str:
    """A rate in % with its interval, in words where it is none, or all.

    >>> _rate(0.0625, (0.0, 0.12)), _rate(0.0, (0.0, 0.04)), _rate(1.0, (0.8, 1.0)), _rate(None, (None, None))
    ('6.25 (0.00 to 12.00)', 'none (below 4.00)', 'all (above 80.00)', 'nothing to compare')
    """
    if not _is_number(rate):
        return "nothing to compare"
    low, high = ends
    if rate == 0:
        return f"none (below {percent_told(high)})" if _is_number(high) else "none"
    if rate == 1:
        return f"all (above {percent_told(low)})" if _is_number(low) else "all"
    within = _interval(ends)
    return percent_told(rate) + (f" ({within})" if within else "")


def _figure(value: float | None) -> str:
    return f"{value:.3g}" if value is not None and math.isfinite(value) else "none"


def _json(value: Any) -> Markup:  # noqa: ANN401  (whatever JSON holds)
    """For a script element, which nothing in it can end."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _library() -> str:
    """Bokeh's own program, without what the page does not use."""
    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)
