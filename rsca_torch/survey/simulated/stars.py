"""The stars of the simulated survey: field giants, cluster members and the cases that a reader must get right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.survey.simulated.chemistry import ELEMENT_INDEX, ELEMENT_OF, birth, present
from rsca_torch.survey.simulated.pointings import draw_pointings, place
from rsca_torch.survey.simulated.tables import MOST_CLUSTERS, SPECIES, clusters

__all__ = ["MUST_PASS", "Population"]

Array = NDArray[np.float64]

#: Roles whose catalogue entry must pass the paper's cuts; every other role is there to be dealt with by a reader.
MUST_PASS = (
    *("field", "member", "one_metre", "lone_member", "unlikely_member", "two_clusters", "anomalous_member"),
    *("wide_binary", "moving_group"),
)

#: Field stars with something a cut or a reader must see; `Population.traps` of each.
_TRAPS = (
    "hot cool dwarf luminous bad faint failed unmeasured no_extinction one_metre lone_member unlikely_member "
    "two_clusters".split()
)

#: A cluster with one star only, and the star of NGC 6791 that the authors took out for its odd metallicity.
LONE_CLUSTER = "IC 166"
ANOMALOUS = ("2M19203303+3755558", "NGC 6791", -0.75)


@dataclass(frozen=True)
class Population:
    """Who is observed; every method draws from the generator it is given.

    Attributes:
        high_alpha: share of field stars on the high-alpha sequence.
        fe_h: mean and spread of [Fe/H] of the low-alpha and the high-alpha sequence, dex.
        intra_cluster: spread of each abundance inside a cluster, dex.
        red_clump: share of stars in the red clump.
        log_g: range of the giant branch, dex; stars whose role is to fail the cuts lie outside.
        velocity: mean and spread of the field's radial velocity, km/s, low-alpha and high-alpha.
        cluster_velocity: spread of the radial velocity inside a cluster, km/s.
        extinction: median (mag) and logarithmic spread of the field's A_K.
        cluster_extinction: spread of A_K inside a cluster, mag.
        signal_to_noise: median and logarithmic spread of S/N per pixel in the field.
        cluster_signal_to_noise: the same of cluster members.
        clusters: how many open clusters: the first of clusters.csv, which has 22, and beyond them made-up ones.
        traps: how many stars of each kind that a reader must deal with.
        cluster_plates: plates with which each cluster is observed; stars of one plate share its nights.
        interlopers: share of the listed members that are field stars in truth, of like velocity and extinction; the
            column INTERLOPER says which.

    Raises:
        InputError: for no plate, clusters that are not 1 to 198, or a share that is not 0 to 1.
    """

    high_alpha: float = 0.25
    fe_h: tuple[tuple[float, float], tuple[float, float]] = ((-0.08, 0.22), (-0.40, 0.24))
    intra_cluster: float = 0.018
    red_clump: float = 0.42
    log_g: tuple[float, float] = (1.56, 2.94)
    velocity: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 48.0), (-5.0, 62.0))
    cluster_velocity: float = 1.0
    extinction: tuple[float, float] = (0.11, 0.85)
    cluster_extinction: float = 0.008
    signal_to_noise: tuple[float, float] = (152.0, 0.78)
    cluster_signal_to_noise: tuple[float, float] = (188.0, 0.80)
    clusters: int = 22
    traps: int = 4
    cluster_plates: int = 1
    interlopers: float = 0.0

    def __post_init__(self) -> None:
        if self.cluster_plates < 1:
            raise InputError(f"cluster_plates must be at least 1, got {self.cluster_plates}")
        if not 1 <= self.clusters <= MOST_CLUSTERS:
            raise InputError(f"clusters must be 1 to {MOST_CLUSTERS}, got {self.clusters}")
        if not 0 <= self.interlopers <= 1:
            raise InputError(f"interlopers must be a share, 0 to 1, got {self.interlopers}")

    def draw(self, n_field: int, rng: np.random.Generator) -> Table:
        """Draw the survey's observations.

        Args:
            n_field: field stars without any special role.
            rng: source of every draw.

        Returns:
            One row an observation (a star observed twice has two), sorted by right ascension.
        """
        field = self._field(n_field, rng)
        traps = self._field(self.traps * len(_TRAPS), rng)
        traps["ROLE"] = np.repeat(_TRAPS, self.traps).astype("U20")
        members = self._members(rng)
        if self.interlopers:
            for part in (field, traps):
                part["INTERLOPER"] = np.zeros(len(part), dtype=bool)
            self._replace(members, rng)
        stars = vstack([field, traps, members], metadata_conflicts="silent")
        self._set_traps(stars, rng)
        pointings = draw_pointings(max(6, n_field // 40), rng, clusters(self.clusters), self.cluster_plates)
        place(stars, pointings, rng)
        stars["APOGEE_ID"][stars["ROLE"] == "anomalous_member"] = ANOMALOUS[0]
        stars = vstack([stars, self._observed_again(stars, pointings, rng)], metadata_conflicts="silent")
        stars["PRESENT_X_H"] = present(stars["BIRTH_X_H"], stars["LOGG"], stars["MASS"], stars["RED_CLUMP"])
        return stars[np.argsort(stars["RA"], kind="stable")]

    def _field(self, n: int, rng: np.random.Generator) -> Table:
        high = rng.random(n) < self.high_alpha
        sequence = high.astype(int)
        mean, spread = np.array(self.fe_h)[sequence].T
        fe_h = np.clip(rng.normal(mean, spread), -0.95, 0.45)
        alpha_m = np.where(high, 0.17 - 0.10 * (fe_h + 0.4), 0.02 - 0.10 * fe_h) + rng.normal(0, 0.025, n)
        age = np.where(high, rng.uniform(7, 12, n), np.clip(rng.lognormal(np.log(3.5), 0.6, n), 0.8, 11))
        a_k = np.clip(self.extinction[0] * np.exp(self.extinction[1] * rng.standard_normal(n)), 0.002, 1.5)
        stars = self._stars(birth(fe_h, alpha_m, age, rng), alpha_m, age, rng)
        stars["ROLE"] = np.full(n, "field", dtype="U20")
        stars["HIGH_ALPHA"] = high
        stars["VHELIO"] = rng.normal(*np.array(self.velocity)[sequence].T)
        stars["AK"] = a_k
        stars["SNR"] = _signal_to_noise(self.signal_to_noise, n, rng)
        # Gas shares the disc's rotation and little of the star's own motion.
        stars["V_GAS"] = 0.35 * stars["VHELIO"] + rng.normal(0, 12, n)
        return stars

    def _members(self, rng: np.random.Generator) -> Table:
        listed = clusters(self.clusters)
        fe_h, age = listed["fe_h"], listed["age"]
        alpha_m = 0.02 - 0.10 * fe_h + rng.normal(0, 0.015, len(fe_h))
        composition = birth(fe_h, alpha_m, age, rng)
        odd = {"anomalous_member": ANOMALOUS[1], "dwarf_member": "NGC 2682"}
        odd = {role: row[0] for role, name in odd.items() if len(row := np.flatnonzero(listed["cluster"] == name))}
        of = np.concatenate(
            [np.repeat(np.arange(len(listed)), listed["members"]), np.array([*odd.values()], dtype=int)]
        )
        n = len(of)
        at_birth = composition[of] + rng.normal(0, self.intra_cluster, (n, len(SPECIES)))[:, ELEMENT_OF]
        stars = self._stars(at_birth, alpha_m[of], age[of], rng)
        stars["ROLE"] = np.array(["member"] * (n - len(odd)) + [*odd], dtype="U20")
        stars["CLUSTER"] = listed["cluster"][of].astype("U20")
        stars["HIGH_ALPHA"] = np.zeros(n, dtype=bool)
        stars["VHELIO"] = rng.normal(listed["v_helio"][of], self.cluster_velocity)
        stars["AK"] = np.clip(rng.normal(listed["a_k"][of], self.cluster_extinction), 0.002, None)
        stars["SNR"] = _signal_to_noise(self.cluster_signal_to_noise, n, rng)
        stars["V_GAS"] = (0.35 * listed["v_helio"] + rng.normal(0, 12, len(listed)))[of]
        return stars

    def siblings(
        self, of: NDArray[np.int64], velocity: Array, together: NDArray[np.bool_], rng: np.random.Generator
    ) -> Table:
        """Draw stars that were born together, as members of a cluster are, without any place in the sky.

        Args:
            of: (n,) numbers, the same for stars of one birth.
            velocity: (n,) spread of the radial velocity about that of the others, km/s.
            together: (n,) True for stars behind the same dust and gas as their siblings.
            rng: source of every draw.
        """
        births, n = self._field(int(of.max()) + 1, rng)[of], len(of)
        at_birth = births["BIRTH_X_H"] + rng.normal(0, self.intra_cluster, (n, len(SPECIES)))[:, ELEMENT_OF]
        stars = self._stars(np.asarray(at_birth), np.asarray(births["ALPHA_M"]), np.asarray(births["AGE"]), rng)
        own = self._field(n, rng)  # of what is no star's birth
        stars["HIGH_ALPHA"] = births["HIGH_ALPHA"]
        stars["VHELIO"] = births["VHELIO"] + rng.normal(0, velocity)
        near = np.clip(births["AK"] + rng.normal(0, self.cluster_extinction, n), 0.002, None)
        stars["AK"], stars["SNR"] = np.where(together, near, own["AK"]), own["SNR"]
        stars["V_GAS"] = np.where(together, births["V_GAS"], own["V_GAS"])
        stars["PRESENT_X_H"] = present(stars["BIRTH_X_H"], stars["LOGG"], stars["MASS"], stars["RED_CLUMP"])
        return stars

    def _replace(self, members: Table, rng: np.random.Generator) -> None:
        """Put field stars into some members' places: only what made the list take them for members stays."""
        listed = np.flatnonzero(members["ROLE"] == "member")
        wrong = rng.choice(listed, round(self.interlopers * len(listed)), replace=False)
        strangers = self._field(len(wrong), rng)
        for column in set(members.colnames) - {"CLUSTER", "ROLE", "VHELIO", "AK", "SNR", "V_GAS"}:
            members[column][wrong] = strangers[column]
        members["INTERLOPER"] = np.isin(np.arange(len(members)), wrong)

    def _stars(self, at_birth: Array, alpha_m: Array, age: Array, rng: np.random.Generator) -> Table:
        n = len(at_birth)
        fe_h = at_birth[:, ELEMENT_INDEX["Fe"]]
        mass = np.clip((11.0 / age) ** 0.3 + rng.normal(0, 0.05, n), 0.85, 3.0)
        clump = rng.random(n) < self.red_clump
        teff, log_g = self._giant_branch(fe_h, alpha_m, mass, clump, rng)
        return Table(
            {
                "CLUSTER": np.full(n, "", dtype="U20"),
                "BIRTH_X_H": at_birth,
                "FE_H": fe_h,
                "ALPHA_M": alpha_m,
                "AGE": age,
                "MASS": mass,
                "RED_CLUMP": clump,
                "TEFF": teff,
                "LOGG": log_g,
            }
        )

    def _giant_branch(
        self, fe_h: Array, alpha_m: Array, mass: Array, clump: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Temperature and gravity: a straight branch, redder where metal-rich, and a clump on its hot side."""
        low, high = self.log_g
        metals = fe_h + 0.6 * alpha_m
        climbing = low + (high - low) * np.sqrt(rng.random(len(fe_h)))  # more stars at the foot of the branch
        log_g = np.where(clump, rng.normal(2.45 + 0.08 * (mass - 1.2), 0.05), climbing)
        branch = 4640 + 440 * (log_g - 2.5) - 330 * metals + 90 * (mass - 1.2)
        teff = np.where(clump, 4790 - 260 * metals + 30 * (mass - 1.2), branch)
        return np.clip(teff + rng.normal(0, 15, len(fe_h)), 4060, 4940), np.clip(log_g, low, high)

    def _set_traps(self, stars: Table, rng: np.random.Generator) -> None:
        """Move the stars whose role says so out of the paper's cuts."""
        outside: dict[str, tuple[str, float, float]] = {
            "hot": ("TEFF", 5060, 5400),
            "cool": ("TEFF", 3700, 3930),
            "dwarf": ("LOGG", 3.1, 3.6),
            "luminous": ("LOGG", 1.0, 1.4),
            "dwarf_member": ("LOGG", 4.2, 4.5),
            "faint": ("SNR", 12, 48),
        }
        for role, (column, low, high) in outside.items():
            rows = stars["ROLE"] == role
            stars[column][rows] = rng.uniform(low, high, rows.sum())
        lone = np.flatnonzero(stars["ROLE"] == "lone_member")
        stars["CLUSTER"][lone[:1]] = LONE_CLUSTER
        stars["ROLE"][lone[1:]] = "field"
        odd = stars["ROLE"] == "anomalous_member"
        stars["BIRTH_X_H"][odd] += ANOMALOUS[2]
        stars["FE_H"][odd] += ANOMALOUS[2]

    def _observed_again(self, stars: Table, pointings: Table, rng: np.random.Generator) -> Table:
        """Second, fainter observations of some field stars and members, in other fields of the sky."""
        rows: list[Any] = [np.flatnonzero(stars["ROLE"] == role)[: self.traps] for role in ("field", "member")]
        again = stars[np.concatenate(rows)]
        again["ROLE"] = "duplicate"
        again["SNR"] = np.maximum(51.0, again["SNR"] * rng.uniform(0.4, 0.8, len(again)))
        place(again, pointings, rng, move=False)
        return again


def _signal_to_noise(median_spread: tuple[float, float], n: int, rng: np.random.Generator) -> Array:
    """Log-normal above 51: STAR_BAD stands for every star of DR16 below 50."""
    median, spread = median_spread
    lowest = np.log(51 / median) / spread
    deviates = rng.standard_normal(n)
    while (low := deviates < lowest).any():
        deviates[low] = rng.standard_normal(low.sum())
    return np.asarray(np.minimum(median * np.exp(spread * deviates), 1500.0))
