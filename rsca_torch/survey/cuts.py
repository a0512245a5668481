"""Which stars: cuts as data, the rows they keep, and the account of what each removed (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from rsca_torch.errors import InputError
from rsca_torch.spectra.stars import abundance_column

__all__ = ["Cut", "CutFlow", "cuts_of", "main_rows", "select"]


@dataclass(frozen=True)
class Cut:
    """One named condition on one column; a star is kept where all that is given holds. Missing values never pass.

    Attributes:
        name: what the cut flow calls it; in a survey's YAML its key, as in ``survey.cuts.NAME``.
        column: the catalogue's column.
        above: kept where the value is strictly larger.
        below: kept where the value is strictly smaller.
        without_bit: kept where this bit of an integer flag is not set, or none of these bits.
        defined: kept where the abundances of all these elements are known (column X_H).
        none_of: kept where the text is none of these.
        any_of: kept where the text is one of these.
        is_: kept where a column of true and false has this value; in YAML ``is``.

    Raises:
        InputError: no condition, two of different kinds, or one that is no number, or no list of texts.

    Example:
        >>> Cut("giants", "LOGG", above=1.5, below=3.0).mask(Table({"LOGG": [2.0, 4.4, 1.5]})).tolist()
        [True, False, False]
    """

    name: str
    column: str
    above: float | None = None
    below: float | None = None
    without_bit: int | Sequence[int] | None = None
    defined: Sequence[str] | None = None
    none_of: Sequence[str] | None = None
    any_of: Sequence[str] | None = None
    is_: bool | None = None

    def __post_init__(self) -> None:
        kinds = [self.above is not None or self.below is not None]
        others = (self.without_bit, self.defined, self.none_of, self.any_of, self.is_)
        kinds += [condition is not None for condition in others]
        if sum(kinds) != 1:
            raise InputError(
                f"cut {self.name!r} needs one kind of condition: above/below, without_bit, defined, none_of, any_of "
                "or is"
            )

        for key in ("above", "below"):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, Real) or isinstance(value, bool)):
                raise InputError(f"cut {self.name!r}: {key} must be a number, got {value!r}")
        if any(not isinstance(bit, Integral) or isinstance(bit, bool) for bit in self._bits):
            raise InputError(
                f"cut {self.name!r}: without_bit must be a whole number, or a list of such, got {self.without_bit!r}"
            )
        if self.is_ is not None and not isinstance(self.is_, bool):
            raise InputError(f"cut {self.name!r}: is must be true or false, got {self.is_!r}")
        for key in ("defined", "none_of", "any_of"):
            value = getattr(self, key)
            if value is not None and (isinstance(value, str) or not isinstance(value, Iterable)):
                raise InputError(f"cut {self.name!r}: {key} must be a list like [{value}], got {value!r}")

    @classmethod
    def of(cls, options: Cut | Mapping[str, Any]) -> Cut:
        """A cut from its YAML mapping (a cut is returned as it is).

        Raises:
            InputError: no mapping, or one with an unknown or missing key.
        """
        if isinstance(options, Cut):
            return options
        if not isinstance(options, Mapping):
            raise InputError(f"a cut must be a mapping like {{name: snr, column: SNR, above: 100}}, got {options!r}")
        options = {"is_" if key == "is" else key: value for key, value in options.items()}
        known = cls.__dataclass_fields__
        if unknown := set(options) - set(known):
            keys = ", ".join(known).replace("is_", "is")
            raise InputError(f"a cut has keys {keys}, got {', '.join(sorted(unknown))} in {dict(options)}")
        if missing := {"name", "column"} - set(options):
            raise InputError(f"a cut needs a name and a column; {', '.join(sorted(missing))} not in {dict(options)}")
        return cls(**options)

    def mask(self, stars: Table) -> NDArray[np.bool_]:
        """(N,) True where the star is kept.

        Raises:
            InputError: the table has no such column or element, or the column is of another kind.
        """
        if self.defined is not None:
            abundances = [self._values(stars, abundance_column(element), "f") for element in self.defined]
            return np.asarray(np.isfinite(abundances).all(axis=0))
        if self.none_of is not None:
            return ~np.isin(self._values(stars, self.column, "U"), [str(text) for text in self.none_of])
        if self.any_of is not None:
            return np.isin(self._values(stars, self.column, "U"), [str(text) for text in self.any_of])
        if self.without_bit is not None:
            flags = self._values(stars, self.column, "iu")
            return np.asarray(np.all([self._bit_unset(flags, bit) for bit in self._bits], axis=0))
        if self.is_ is not None:
            return np.asarray(self._values(stars, self.column, "b") == self.is_)
        # A Python number takes the column's own precision: a float32 column of 0.8 is not above 0.8.
        values = self._values(stars, self.column, "fiu")
        kept = np.ones(len(stars), dtype=bool)
        if self.above is not None:
            kept &= values > self.above
        if self.below is not None:
            kept &= values < self.below
        return kept

    def looked_at(self, stars: Table) -> list[str]:
        """N texts: the value that the condition looked at, or the elements without an abundance.

        Args:
            stars: N rows, on which `mask` can be called.
        """
        if self.defined is None:
            return [str(value) for value in np.asarray(stars[self.column])]
        known = np.isfinite([np.asarray(stars[abundance_column(element)]) for element in self.defined])
        return ["no " + " ".join(np.array(self.defined)[~row]) for row in known.T]

    @property
    def _bits(self) -> Sequence[Any]:
        several = isinstance(self.without_bit, Iterable) and not isinstance(self.without_bit, str)
        return list(self.without_bit) if several else [] if self.without_bit is None else [self.without_bit]  # type: ignore[arg-type]

    def _values(self, stars: Table, column: str, kinds: str) -> NDArray[Any]:
        if column not in stars.colnames:
            raise InputError(f"cut {self.name!r}: there is no column {column}; there are {', '.join(stars.colnames)}")
        values = np.asarray(stars[column])
        if values.ndim != 1 or values.dtype.kind not in kinds:
            raise InputError(
                f"cut {self.name!r} cannot be made on {column}: {values.dtype} with {values.ndim - 1} more axes; "
                "above/below need a number a star, without_bit an integer, defined an abundance, none_of/any_of a "
                "text, is a column of true and false"
            )
        return values

    def _bit_unset(self, flags: NDArray[Any], bit: int) -> NDArray[np.bool_]:
        width = 8 * flags.dtype.itemsize
        if not 0 <= bit < width:
            raise InputError(f"cut {self.name!r}: {self.column} has bits 0 to {width - 1}, got without_bit={bit}")
        return np.asarray((flags >> bit) & 1 == 0)  # by bit, never by sign: bit 31 makes an int32 negative


def cuts_of(given: Mapping[str, Any] | Iterable[Cut | Mapping[str, Any]] | None) -> tuple[Cut, ...]:
    """The cuts of a survey, in order.

    Args:
        given: name -> the other keys of the `Cut`, or None for a cut that is left out; or a list of cuts, or of the
            mappings of them with their names. None: no cut.

    Raises:
        InputError: it is neither, two cuts have one name, or a cut cannot be made of what is given.

    Example:
        >>> dwarfs = {"logg": {"column": "LOGG", "above": 3.5}, "snr": None}
        >>> cuts_of(dwarfs) == (Cut("logg", "LOGG", above=3.5),)
        True
    """
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"survey.cuts must be a mapping of names to cuts, or a list of cuts, got {given!r}")
    if not isinstance(given, Mapping):
        cuts = tuple(Cut.of(each) for each in given)
        names = [cut.name for cut in cuts]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"several cuts are called {', '.join(sorted(twice))}: give each a name of its own")
        return cuts
    return tuple(_named(str(name), options) for name, options in given.items() if options is not None)


def _named(name: str, options: Cut | Mapping[str, Any]) -> Cut:
    if isinstance(options, Cut):
        return replace(options, name=name)
    if not isinstance(options, Mapping):
        example = "{column: SNR, above: 100}"
        raise InputError(f"survey.cuts.{name} must be a mapping like {example}, or null for no such cut, got {options}")
    if "name" in options:
        raise InputError(f"survey.cuts.{name} has that name already: leave name={options['name']} out")
    if "column" not in options:
        raise InputError(
            f"there is no cut {name!r} that could be changed, and a new one needs a column: survey.cuts.{name}.column"
        )
    return Cut.of({"name": name, **options})


class CutFlow:
    """What each step removed and kept, in order.

    Attributes:
        steps: what selection.json holds.
        removed: what removed.csv holds: the id of each row that was removed, the first step that it failed, and the
            value that the step looked at.
    """

    def __init__(self, first: str, total: int) -> None:
        self.steps: list[dict[str, Any]] = [{"cut": first, "removed": 0, "kept": total}]
        self.removed: list[tuple[str, str, str]] = []

    def record(
        self, cut: str, kept: int, removed: Iterable[tuple[str, str]] = (), hint: str = "", option: str = ""
    ) -> None:
        """Note a step.

        Args:
            cut: its name.
            kept: how many rows.
            removed: (id, value looked at) of the others.
            hint: what else to say where none is kept.
            option: that can loosen it; '': it is not known.

        Raises:
            InputError: it leaves no star.
        """
        before = self.steps[-1]["kept"]
        self.steps.append({"cut": cut, "removed": before - kept, "kept": kept})
        self.removed += [(star, cut, value) for star, value in removed]
        if kept == 0:
            loosen = f"loosen it ({option})" if option else "loosen it"
            raise InputError(
                f"no star is left after {cut!r}, which removed the last {before}{hint}; {loosen}, or give other data"
            )


def select(
    stars: Table,
    cuts: Iterable[Cut],
    flow: CutFlow,
    id: str | None = None,  # noqa: A002  (the role's name)
    meant_for: str = "",
) -> NDArray[np.intp]:
    """Apply the cuts in order and note each in the flow.

    Args:
        stars: N rows.
        cuts: in order.
        flow: is told of each.
        id: the column of ids, to tell which rows are removed. None: that is not told.
        meant_for: what the cuts are meant for, said where one leaves no star; '': nothing is said.

    Returns:
        The rows that are kept, ascending.

    Raises:
        InputError: a cut cannot be made, or leaves no star.
    """
    kept = np.ones(len(stars), dtype=bool)
    for cut in cuts:
        passed = cut.mask(stars)
        left = stars[kept & ~passed]
        hint = _never_defined(cut, stars[kept])
        hint += f" (the cuts are meant for {meant_for})" if meant_for else ""
        kept &= passed
        names = [] if id is None else [str(star) for star in left[id]]
        removed = list(zip(names, cut.looked_at(left), strict=True)) if names else []
        flow.record(cut.name, int(kept.sum()), removed, hint, "survey.cuts")
    return np.flatnonzero(kept)


def _never_defined(cut: Cut, stars: Table) -> str:
    never = [element for element in cut.defined or () if not np.isfinite(stars[abundance_column(element)]).any()]
    return f": {' '.join(never)} {'is' if len(never) == 1 else 'are'} known of none of them" if never else ""


def main_rows(ids: NDArray[np.str_], snr: NDArray[np.floating], is_repeat: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) True for the one row that stands for its star: not marked a repeat, else the highest S/N, else the first.

    Args:
        ids: (N,) of the stars, several rows of one star alike.
        snr: (N,) signal-to-noise ratio; NaN where it is not known.
        is_repeat: (N,) marked by the survey as not the star's main row.
    """
    order = np.lexsort((-snr, is_repeat, ids))
    first = np.unique(ids[order], return_index=True)[1]
    main = np.zeros(len(ids), dtype=bool)
    main[order[first]] = True
    return main
