"""The pipeline's catalogue: temperatures, gravities and abundances as measured, with their errors, gaps and flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.survey.simulated.chemistry import ELEMENT_INDEX
from rsca_torch.survey.simulated.pointings import visits
from rsca_torch.survey.simulated.release import Release
from rsca_torch.survey.simulated.stars import MUST_PASS
from rsca_torch.survey.simulated.tables import SPECIES

__all__ = ["NOT_IN_LITE", "Pipeline", "all_star", "text"]

Array = NDArray[Any]
Columns = dict[str, Array]

#: What the short catalogue leaves out.
NOT_IN_LITE = set(
    "ALL_VISITS VISITS ALL_VISIT_PK VISIT_PK FPARAM_CLASS CHI2_CLASS FPARAM FELEM FPARAM_COV PARAM PARAM_COV ELEMFLAG "
    "FELEM_ERR APSTAR_ID TARGET_ID ASPCAP_ID FILE LOCATION_ID".split()
)

# Bits of ASPCAPFLAG.
STAR_BAD, CHI2_BAD, SN_BAD, NO_RESULT = 23, 24, 27, 31


@dataclass(frozen=True)
class Pipeline:
    """How well a star is measured; the errors of abundances are in the species table.

    Attributes:
        teff_error: K, at S/N 150.
        log_g_error: dex, at S/N 150.
        trends: how much of the species table's systematic trends with temperature and gravity is left in.
        cerium_velocity: km/s; the cerium line of faster stars falls off the chip.
    """

    teff_error: float = 20.0
    log_g_error: float = 0.03
    trends: float = 1.0
    cerium_velocity: float = 120.0

    def measure(self, stars: Table, release: Release, rng: np.random.Generator) -> Table:
        """Measure every observation.

        Args:
            stars: N observations.
            release: what stands for a missing value.
            rng: source of the errors.

        Returns:
            N rows: TEFF, LOGG, X_H and X_H_ERR (N, species of the release), AK_TARG, ASPCAPFLAG; sentinels put in.
        """
        n, role = len(stars), np.asarray(stars["ROLE"])
        worse = np.sqrt(150 / np.clip(stars["SNR"], 30, 300))
        measured = Table()
        kept, failed = np.isin(role, [*MUST_PASS, "duplicate"]), role == "failed"
        for name, error, low, high in (("TEFF", self.teff_error, 4005, 4995), ("LOGG", self.log_g_error, 1.51, 2.99)):
            measured[name] = stars[name] + error * worse * rng.standard_normal(n)
            measured[name][kept] = np.clip(measured[name][kept], low, high)
            measured[name][failed] = release.missing
        x_h, x_h_error = self._abundances(stars, worse, rng)
        gone = rng.random(x_h.shape) < SPECIES["missing"]
        if release.name != "dr19":
            gone[np.asarray(stars["VHELIO"]) > self.cerium_velocity, ELEMENT_INDEX["Ce"]] = True
        gone[:, [ELEMENT_INDEX[name] for name in release.never]] = True
        unmeasured = np.flatnonzero(role == "unmeasured")
        gone[unmeasured, ELEMENT_INDEX["S"] + np.arange(len(unmeasured)) % 8] = True
        gone[failed] = True
        x_h[gone], x_h_error[gone] = release.missing, release.missing_error
        order = [ELEMENT_INDEX.get(name, len(SPECIES)) for name in release.elements]  # the last: drawn for none
        extra = np.full((n, 1), release.missing)
        measured["X_H"] = np.concatenate([x_h, extra], axis=1)[:, order]
        measured["X_H_ERR"] = np.concatenate([x_h_error, extra], axis=1)[:, order]
        measured["AK_TARG"] = np.where(role == "no_extinction", release.missing, stars["AK"])
        measured["ASPCAPFLAG"] = _flags(stars, release).astype(release.flag)
        return measured

    def _abundances(self, stars: Table, worse: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        error = SPECIES["error"] * worse[:, None]
        trend = np.asarray((stars["TEFF"] - 4600) / 500)[:, None] * SPECIES["trend_teff"]
        trend = trend + np.asarray(stars["LOGG"] - 2.4)[:, None] * SPECIES["trend_logg"]
        measured = np.asarray(stars["PRESENT_X_H"] + self.trends * trend + error * rng.standard_normal(error.shape))
        return measured, error


def _flags(stars: Table, release: Release) -> Array:
    """(N,) ASPCAPFLAG; bit 31 makes it negative where it is an int32."""
    role = np.asarray(stars["ROLE"])
    bits = {"bad": (STAR_BAD, CHI2_BAD, NO_RESULT), "faint": (STAR_BAD, SN_BAD), "failed": (STAR_BAD, NO_RESULT)}
    flags = np.zeros(len(role), dtype=np.int64)
    for name, numbers in bits.items():
        flags[role == name] = sum(1 << number for number in numbers)
    faint = (role == "repeat") & (np.asarray(stars["SNR"]) < 50)
    flags[faint] = sum(1 << number for number in (bits["faint"] if release.name != "dr17" else (SN_BAD,)))
    return flags.astype(np.uint32).astype(np.int64)


def text(values: Any, width: int) -> Array:  # noqa: ANN401  (any sequence of text)
    """Bytes padded with blanks, as IDL pads them."""
    return np.char.ljust(np.asarray(values, dtype=str), width).astype(f"S{width}")


def _constant(n: int, **values: float) -> Columns:
    """Columns that are the same for all."""
    return {name: np.full(n, value, np.float32) for name, value in values.items()}


def all_star(stars: Table, measured: Table, release: Release) -> Columns:
    """The columns of allStar, in order; names and dtypes as the release has them."""
    columns = _identity(stars, measured, release) | _observation(stars)
    columns |= _parameters(stars, measured, release)
    columns |= _elements(measured, release)
    columns |= _visits(stars, release)
    columns["GAIA_SOURCE_ID"] = np.arange(len(stars), dtype=np.int64) + 10**15
    columns["GAIA_PARALLAX"] = np.full(len(stars), -9999.0)
    columns["TEFF_SPEC"], columns["LOGG_SPEC"] = columns["FPARAM"][:, 0], columns["FPARAM"][:, 1]
    return columns


def _identity(stars: Table, measured: Table, release: Release) -> Columns:
    field, star, telescope = (np.asarray(stars[name], dtype=str) for name in ("FIELD", "APOGEE_ID", "TELESCOPE"))
    kind = np.where(telescope == "lco25m", "as", "ap")
    version = "r12" if release.name != "dr17" else "dr17"
    phase = ".s" if release.name != "dr17" else ""  # the survey proper, not its commissioning
    between = [f".{code}." if release.name != "dr17" else "." for code in stars["LOCATION_ID"]]
    full = [f"apogee.{t}{phase}.stars.{f}.{s}" for t, f, s in zip(telescope, field, star, strict=True)]
    target = [f"{t}{b}{f}.{s}" for t, b, f, s in zip(telescope, between, field, star, strict=True)]
    return {
        "APSTAR_ID": text(full, 64),
        "TARGET_ID": text(target, 64),
        "ASPCAP_ID": text([name.replace(".stars.", ".l33.") for name in full], 64),
        "FILE": text([f"{k}Star-{version}-{s}.fits" for k, s in zip(kind, star, strict=True)], 34),
        "APOGEE_ID": text(star, 18),
        "TELESCOPE": text(telescope, 8),
        "LOCATION_ID": np.asarray(stars["LOCATION_ID"], np.int32),
        "FIELD": text(field, 16),
        **_constant(len(stars), J=12.1, H=11.4, K=11.2),
        **{name: np.asarray(stars[name], np.float64) for name in ("RA", "DEC", "GLON", "GLAT")},
        "AK_TARG": np.asarray(measured["AK_TARG"], np.float32),
        "AK_TARG_METHOD": text(np.where(stars["ROLE"] == "no_extinction", "none", "RJCE_WISE_ALLSKY"), 16),
        "AK_WISE": np.asarray(measured["AK_TARG"], np.float32),
        "SFD_EBV": np.asarray(stars["AK"] / 0.3, np.float32),
    }


def _observation(stars: Table) -> Columns:
    n, role = len(stars), np.asarray(stars["ROLE"])
    persists = np.mean(stars["FIBER"], axis=1) > 200
    extra = np.where(np.isin(role, ["duplicate", "repeat"]), 1 << 4, 0) | np.where(role == "one_metre", 1 << 3, 0)
    return {
        "APOGEE_TARGET1": np.full(n, -2147352576, np.int32),  # bit 31 is set in real files too
        "APOGEE_TARGET2": np.zeros(n, np.int32),
        "TARGFLAGS": text(np.full(n, "APOGEE_SHORT,APOGEE_CHECKED"), 132),
        "SURVEY": text(np.full(n, "apogee"), 14),
        "NVISITS": np.asarray(stars["NVISITS"], np.int16),
        "SNR": np.asarray(stars["SNR"], np.float32),
        "SNREV": np.asarray(stars["SNR"], np.float32),
        "STARFLAG": np.where(persists, 1 << 9, 0).astype(np.int32),
        "STARFLAGS": text(np.where(persists, "PERSIST_HIGH", ""), 132),
        "ANDFLAG": np.zeros(n, np.int32),
        "ANDFLAGS": text(np.full(n, ""), 132),
        "VHELIO_AVG": np.asarray(stars["VHELIO"], np.float32),
        **_constant(n, VSCATTER=0.1, VERR=0.02),
        "EXTRATARG": extra.astype(np.int32),
    }


def _parameters(stars: Table, measured: Table, release: Release) -> Columns:
    n = len(stars)
    iron = np.asarray(measured["X_H"])[:, ELEMENT_INDEX["Fe"]]
    alpha = np.where(np.asarray(stars["ROLE"]) == "failed", release.missing, stars["ALPHA_M"])
    short = {"TEFF": measured["TEFF"], "LOGG": measured["LOGG"], "M_H": iron, "ALPHA_M": alpha}
    vector = np.full((n, 9), release.missing, np.float32)
    vector[:, [0, 1, 3, 6]] = np.stack(list(short.values()), axis=1)
    covariance = np.full((n, 9, 9), release.missing_error, np.float32)
    dr16 = release.name != "dr17"
    return {
        "PARAM": vector,
        "FPARAM": vector,
        "PARAM_COV": covariance,
        "FPARAM_COV": covariance,
        **{name: np.asarray(values, np.float32) for name, values in short.items()},
        **_constant(n, **{f"{name}_ERR": release.missing_error for name in short}),
        **_constant(n, VMICRO=1.5, VMACRO=4.0, VSINI=release.missing, ASPCAP_CHI2=2.0),
        "ASPCAP_CLASS" if dr16 else "ASPCAP_GRID": text(np.full(n, "GKg_b"), 8),
        "ASPCAPFLAG": np.asarray(measured["ASPCAPFLAG"]),
        "ASPCAPFLAGS": text(np.where(np.asarray(measured["ASPCAPFLAG"]) != 0, "STAR_BAD", ""), 111),
        "PARAMFLAG": np.zeros((n, 9), release.flag),
        "FPARAM_CLASS" if dr16 else "FPARAM_GRID": np.full((n, 23, 9), release.missing, np.float32),
        "CHI2_CLASS" if dr16 else "CHI2_GRID": np.full((n, 23), release.missing, np.float32),
    }


def _elements(measured: Table, release: Release) -> Columns:
    x_h, error = (np.asarray(measured[name], np.float32) for name in ("X_H", "X_H_ERR"))
    unknown = ~np.isfinite(x_h) | (x_h < -900)
    iron = x_h[:, ELEMENT_INDEX["Fe"], None]
    x_m = np.where(unknown, np.float32(release.missing), x_h - iron)
    columns = {
        "FELEM": x_m,
        "FELEM_ERR": error,
        "X_H": x_h,
        "X_H_ERR": error,
        "X_M": x_m,
        "X_M_ERR": error,
        "ELEM_CHI2": np.ones_like(x_h),
        "ELEMFLAG": np.where(unknown, 1 << 2, 0).astype(release.flag),
    }
    named = [name for name in release.elements if release.name != "dr17" or name not in {"Ge", "Rb", "Nd", "C13"}]
    for name in named:
        of, tag = release.elements.index(name), "FE_H" if name == "Fe" else f"{name.upper()}_FE"
        columns[tag] = (x_h if name == "Fe" else x_m)[:, of]
        columns[f"{tag}_ERR"] = error[:, of]
        columns[f"{tag}_FLAG"] = columns["ELEMFLAG"][:, of]
    return columns


def _visits(stars: Table, release: Release) -> Columns:
    places = 50 if release.name != "dr17" else 100
    # DR17 fills with 2**31 and writes it into an int32: it comes out negative.
    key = np.full((len(stars), places), -1 if release.name != "dr17" else -(2**31), np.int32)
    made = np.arange(places) < np.asarray(stars["NVISITS"])[:, None]
    key[made] = np.arange(made.sum())
    columns = {"ALL_VISIT_PK": key, "VISIT_PK": key}
    if release.name != "dr17":
        names = [visits(star) for star in stars]
        columns = {"ALL_VISITS": text(names, 400), "VISITS": text(names, 400)} | columns
    return columns
