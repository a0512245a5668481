"""Fields of the sky, the nights on which they were observed, and the fibres that the stars were given."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from numpy.typing import NDArray

__all__ = ["MAX_VISITS", "OF_FIELD", "draw_pointings", "place", "star_ids", "visits"]

MAX_VISITS = 3

#: What comes with the field of the sky in which a star is observed.
OF_FIELD = ("FIELD", "TELESCOPE", "LOCATION_ID", "NVISITS", "PLATE", "MJD", "BC", "NIGHT")

#: Degrees; a plate's field of view is 3 degrees wide.
_FIELD_RADIUS = 1.4

#: South of this declination (degrees) the northern telescope does not point.
_SOUTHERN = -25.0


def draw_pointings(n: int, rng: np.random.Generator, clusters: NDArray[Any], cluster_plates: int = 1) -> Table:
    """Draw where the telescopes point and when: ``n`` fields, one for each cluster, one of the 1 m telescope.

    Args:
        n: fields that hold no cluster.
        rng: source of the draws. However many plates a cluster has, all else that it gives is the same.
        clusters: as `tables.clusters`.
        cluster_plates: with which a cluster is observed, each on nights of its own.

    Returns:
        One row a plate: NAME, LOCATION_ID, TELESCOPE, CLUSTER, GLON, GLAT, RADIUS (deg), NVISITS and per visit PLATE,
        MJD, BC (barycentric correction, km/s) and NIGHT (number of the night, shared by all stars of the plate).
    """
    anywhere = np.stack([rng.uniform(0, 360, n + 1), rng.normal(0, 18, n + 1)], axis=1)
    where = np.vstack([anywhere, np.stack([clusters["glon"], clusters["glat"]], axis=1)])
    dec = SkyCoord(where[:, 0], where[:, 1], unit="deg", frame="galactic").icrs.dec.deg
    names = [f"{round(lon) % 360:03d}{round(lat):+03d}" for lon, lat in anywhere]
    names += ["N" + str(c)[4:] if str(c).startswith("NGC ") else str(c).replace(" ", "_") for c in clusters["cluster"]]
    total = len(where)
    pointings = Table(
        {
            "NAME": [f"{name}_{number}" if name in names[:number] else name for number, name in enumerate(names)],
            "LOCATION_ID": 4100 + np.arange(total, dtype=np.int32),
            "TELESCOPE": np.where(dec < _SOUTHERN, "lco25m", "apo25m"),
            "CLUSTER": np.array([""] * (n + 1) + [str(c) for c in clusters["cluster"]], dtype="U20"),
            "GLON": where[:, 0],
            "GLAT": where[:, 1],
            "RADIUS": np.append(np.full(n + 1, _FIELD_RADIUS), clusters["radius"] / 60),
            "NVISITS": rng.integers(2, MAX_VISITS + 1, total),
            **_nights(np.arange(total), rng),
        }
    )
    for column, value in {"NAME": "hip", "TELESCOPE": "apo1m", "LOCATION_ID": 1}.items():
        pointings[column][n] = value
    further = vstack([pointings[pointings["CLUSTER"] != ""]] * (cluster_plates - 1) or pointings[:0])
    for column, values in _nights(total + np.arange(len(further)), rng.spawn(1)[0]).items():
        further[column] = values
    return vstack([pointings, further])


def _nights(number: NDArray[np.int64], rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Of the plates of those numbers, (plates, visits) each."""
    shape = (len(number), MAX_VISITS)
    return {
        "PLATE": np.repeat(5000 + number[:, None], MAX_VISITS, axis=1),
        "MJD": np.sort(rng.integers(55_800, 58_300, (len(number), 1)) + rng.integers(0, 40, shape), axis=1),
        "BC": rng.normal(0, 10, (len(number), 1)) + rng.normal(0, 5, shape),
        "NIGHT": number[:, None] * MAX_VISITS + np.arange(MAX_VISITS),
    }


def place(stars: Table, pointings: Table, rng: np.random.Generator, move: bool = True) -> None:
    """Give each star a field of the sky, a place in it, fibres and an id, as new columns of ``stars``.

    Args:
        stars: with ROLE and CLUSTER; members go to a plate of their cluster's field.
        pointings: the result of `draw_pointings`.
        rng: source of the draws.
        move: False for further observations, which keep position and id.
    """
    row = _pointing_of(stars, pointings, rng, move)
    if move:
        radius = pointings["RADIUS"][row] * np.sqrt(rng.random(len(stars)))
        angle = rng.uniform(0, 2 * np.pi, len(stars))
        lat = np.clip(pointings["GLAT"][row] + radius * np.sin(angle), -89.0, 89.0)
        lon = (pointings["GLON"][row] + radius * np.cos(angle) / np.cos(np.radians(lat))) % 360
        sky = SkyCoord(lon, lat, unit="deg", frame="galactic")
        stars["GLON"], stars["GLAT"] = lon, lat
        stars["RA"], stars["DEC"] = sky.icrs.ra.deg, sky.icrs.dec.deg
        stars["APOGEE_ID"] = star_ids(sky)
    for column in ("TELESCOPE", "LOCATION_ID", "NVISITS", "PLATE", "MJD", "BC", "NIGHT"):
        stars[column] = pointings[column][row]
    stars["FIELD"] = pointings["NAME"][row]
    stars["FIBER"] = rng.integers(1, 301, (len(stars), MAX_VISITS))


def _pointing_of(stars: Table, pointings: Table, rng: np.random.Generator, move: bool) -> NDArray[np.int64]:
    one_metre = int(np.flatnonzero(pointings["TELESCOPE"] == "apo1m")[0])
    row = rng.integers(0, one_metre, len(stars))
    if not move:
        # A second observation is another field's: the next one, where the draw hits the star's own.
        same = pointings["NAME"][row] == stars["FIELD"]
        return np.where(same, (row + 1) % one_metre, row)
    plates = {str(name): np.flatnonzero(pointings["CLUSTER"] == name) for name in set(pointings["CLUSTER"]) - {""}}
    which = rng.spawn(1)[0].random(len(stars))
    for i, (role, cluster) in enumerate(zip(stars["ROLE"], stars["CLUSTER"], strict=True)):
        if role == "one_metre":
            row[i] = one_metre
        elif cluster in plates:
            row[i] = plates[cluster][int(which[i] * len(plates[cluster]))]
    return row


def star_ids(sky: Any) -> NDArray[np.str_]:  # noqa: ANN401  (astropy's coordinates are untyped)
    """2MASS names: hours, minutes, seconds to 0.01 s and degrees, minutes, seconds to 0.1 arcsec, digits only."""
    ra = np.floor(sky.icrs.ra.deg / 15 * 360_000).astype(np.int64) % (24 * 360_000)
    dec = np.floor(np.abs(sky.icrs.dec.deg) * 36_000).astype(np.int64)
    right = [f"{r // 360_000:02d}{r // 6_000 % 60:02d}{r % 6_000:04d}" for r in ra]
    up = [f"{d // 36_000:02d}{d // 600 % 60:02d}{d % 600:03d}" for d in dec]
    sign = np.where(sky.icrs.dec.deg < 0, "-", "+")
    return np.array([f"2M{r}{s}{d}" for r, s, d in zip(right, sign, up, strict=True)])


def visits(star: Any) -> str:  # noqa: ANN401  (a row of an untyped table)
    """The VISITS string of DR16: plate, night and fibre of each visit; the 1 m telescope has night and reduction."""
    n = int(star["NVISITS"])
    if star["TELESCOPE"] == "apo1m":
        return ",".join(f"r12-{mjd}-{star['APOGEE_ID']}" for mjd in star["MJD"][:n])
    numbers = zip(star["PLATE"][:n], star["MJD"][:n], star["FIBER"][:n], strict=True)
    return ",".join(f"r12-{plate}-{mjd}-{fiber:03d}" for plate, mjd, fiber in numbers)
