"""The page of a run: everything in one file, from what the run's folder holds."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from astropy.table import Table
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.resources import Resources
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from rsca_torch.comparison.finished_run import RESULTS, SCHEMA, other_schema
from rsca_torch.errors import InputError
from rsca_torch.files.whole import atomic_file
from rsca_torch.layers.rsca import RSCA
from rsca_torch.report.page.record import RECORD, STARS
from rsca_torch.report.page.star_map import BINNED_ABOVE, colours_of, features_of, star_map
from rsca_torch.report.page.verdict import verdict
from rsca_torch.report.page.weights import weight_spectra
from rsca_torch.report.pictures import COLOURS
from rsca_torch.report.terminal import percent
from rsca_torch.survey.fits_files import UnusableFileError, native, open_fits
from rsca_torch.survey.line_list import apogee_lines

__all__ = ["PAGE", "write_page"]

PAGE = "report.html"
HERE = Path(__file__).parent
#: What each picture shows, in words for those who do not see it; a name may go on, as distances_spectra does.
PICTURES = {
    "rates": "Doppelganger rate of each learner on each representation, with 68 % intervals",
    "distances": "Histograms of the distances of siblings and of strangers, a panel a cluster",
    "reliability": "Share of siblings against the probability that was told",
    "components": "Doppelganger rate against the number of components",
}
TONES = 128  # of a picture


def write_page(folder: Path, title: str | None = None) -> Path:
    """report.html beside a run's results.

    Args:
        folder: of a finished run.
        title: None: the folder's name.

    Returns:
        The page's path.

    Raises:
        InputError: no finished run is there, or one of another schema, or what it says of itself is damaged.
    """
    results, record = _results(folder), _read(folder / RECORD)
    path = folder / PAGE
    try:
        text = _rendered(folder, title or folder.resolve().name, results, record)
    except (KeyError, TypeError, ValueError, AttributeError, LookupError, jinja2.TemplateError) as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(f"{folder}: {RESULTS} or {RECORD} is damaged ({said:.200}): run rsca compare again") from error
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")
    return path


def _results(folder: Path) -> dict[str, Any]:
    content = _read(folder / RESULTS)
    if not content.get("results"):
        raise InputError(f"no finished run in {folder}: give the DIR that `rsca compare` wrote")
    if content.get("schema") != SCHEMA:
        raise InputError(f"{folder} holds {other_schema(content)}: run rsca compare again")
    return content


def _read(path: Path) -> dict[str, Any]:
    """JSON; of a file that is not there, or not whole, nothing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _rendered(folder: Path, title: str, results: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": _percent,
        "figure": _figure,
        "json": _json,
        "spaced": lambda name: str(name).replace("_", " "),
    }
    plots, missing = _plots(folder)
    pictures = {name: _picture(folder, name) for name in _names(folder, results["results"][0])}
    missing += [f"{name}.png is not in the folder" for name, picture in pictures.items() if picture is None]
    return environment.get_template("page.html.j2").render(
        title=title,
        verdict=verdict(results["results"], results["differences"], record),
        results=results,
        judged=results["results"][0],
        differences={(each["representation"], each["learner"]): each for each in results["differences"]},
        record=record,
        options=json.dumps(results["config"], indent=1, ensure_ascii=False),
        history=_history(record.get("history") or ()),
        version=results["versions"].get("rsca_torch", ""),
        pictures={name: picture for name, picture in pictures.items() if picture is not None},
        told_of=PICTURES,
        plots=plots,
        missing=missing,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        library=Markup(_library()) if plots else "",
    )


def _percent(share: float | None, sign: str = "") -> str:
    return "none to compare" if share is None else percent(share, sign)


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _json(value: Any) -> Markup:  # noqa: ANN401  (whatever JSON holds)
    """For a script element, which nothing in it can end."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _library() -> str:
    """Bokeh's own program, without what the page does not use."""
    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def _plots(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The plots that can be zoomed into, and why one is not there."""
    plots: dict[str, Any] = {}
    missing = []
    try:
        with open_fits(folder / STARS) as hdus:
            stars = Table({name: native(hdus[1].data[name]) for name in hdus[1].columns.names})
        binned = int((stars["GROUP"] == "").sum()) > BINNED_ABOVE
        plots["map"] = {
            "item": json_item(star_map(stars), ID("map")),
            "axes": [] if binned else features_of(stars),
            "shown": dict(zip("xy", features_of(stars), strict=False)),
            "colours": colours_of(stars),
        }
    except (UnusableFileError, InputError):
        missing.append(f"{STARS} is not in the folder: no map of the stars")
    try:
        model = RSCA.load(folder / "rsca.safetensors")
    except (InputError, OSError):
        missing.append("rsca.safetensors is not in the folder: no spectra of weights")
    else:
        plots["weights"] = {"item": json_item(weight_spectra(model, apogee_lines()), ID("weights"))}
    return plots, missing


def _names(folder: Path, judged: Mapping[str, Any]) -> list[str]:
    names = ["rates", f"distances_{judged['representation']}"]
    names += ["reliability"] if "calibration" in judged else []
    return names + (["components"] if (folder / "components.png").is_file() else [])


def _picture(folder: Path, name: str) -> str | None:
    """A picture of the run; None: it cannot be read."""
    try:
        return _as_text(folder / f"{name}.png")
    except OSError:
        return None


def _history(values: Sequence[float]) -> str | None:
    """What step 1 still lacked after each iteration; None: there are too few to draw."""
    lacked = [values[-1] - value for value in values[:-1]]
    if len(lacked) < 2 or min(lacked) <= 0:
        return None
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(range(1, len(values)), lacked, "o-", ms=3, color=COLOURS[1])
    axes.set(xlabel="iteration", ylabel="below the last,\nnats a bin")
    figure.savefig(buffer := io.BytesIO(), dpi=110, metadata={"Software": None})
    return _as_text(buffer)


def _as_text(png: Path | io.BytesIO) -> str:
    """A PNG as a page can hold it, with few colours."""
    with Image.open(png) as image:
        small, buffer = image.convert("RGB").quantize(TONES), io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
