"""What a run says, in three sentences that are made of its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rsca_torch.report.terminal import percent

__all__ = ["verdict"]

Entry = Mapping[str, Any]  # of results.json, or of its differences


def verdict(
    results: Sequence[Entry], differences: Sequence[Entry], record: Mapping[str, Any], beside: Entry | None = None
) -> list[str]:
    """Three sentences: how good, compared with what, and what to beware of.

    Args:
        results: of results.json; the first is the judged learner's.
        differences: likewise, of rates minus the first one's.
        record: of report.json; may be empty.
        beside: the judged learner of another run, that `differences` are minus. None: they are minus the first one's.

    Example:
        >>> results = [
        ...     {"representation": "spectra", "learner": "rsca", "held_out": True, "doppelganger_rate": 0.002,
        ...      "interval": [0.001, 0.004], "pairs": 500, "clusters": [{"pairs": 500, "members": 9}]},
        ...     {"representation": "spectra", "learner": "raw", "held_out": True, "doppelganger_rate": 0.05,
        ...      "interval": [0.03, 0.07], "pairs": 500, "clusters": [{"pairs": 500, "members": 9}]}]
        >>> minus = [{"representation": "spectra", "learner": "raw", "difference": 0.048, "interval": [0.03, 0.065]}]
        >>> print(verdict(results, minus, {"simulated": True})[1])
        The best of the others is raw on spectra with 5.00 %; the difference is +4.80 (68 %: +3.00 to +6.50), an\
 interval that leaves out zero.
    """  # fmt: skip
    judged = results[0]
    compared = _compared(results, differences) if beside is None else _beside(judged, beside, differences)
    return [_how_good(judged), compared, _beware(judged, record)]


def _name(result: Entry) -> str:
    return f"{result['learner']} on {result['representation'].replace('_', ' ')}"


def _how_good(judged: Entry) -> str:
    rate, (low, high) = judged["doppelganger_rate"], judged["interval"]
    clusters = sum(1 for each in judged["clusters"] if each["pairs"])
    if rate is None:
        return f"{_name(judged)} could not be judged: no cluster has a stranger that may be compared."
    of = f"strangers that may be compared with the members of {clusters} clusters ({judged['pairs']:,} pairs)"
    if not rate:
        allowed = f"the pairs allow a rate up to {percent(high)} %"
        return f"{_name(judged)}: of {of} none is as alike as siblings are; {allowed}."
    return (
        f"{_name(judged)}: of {of} {percent(rate)} % are as alike as siblings are (68 %: {percent(low)} to "
        f"{percent(high)}), which is the doppelganger rate, better the lower it is."
    )


def _compared(results: Sequence[Entry], differences: Sequence[Entry]) -> str:
    judged, names = results[0], {(each["representation"], each["learner"]): each for each in differences}
    others = [
        each
        for each in results[1:]
        if each["held_out"]
        and each["doppelganger_rate"] is not None
        and (each["representation"], each["learner"]) in names
    ]
    if not others or judged["doppelganger_rate"] is None:
        return "Nothing else was judged beside it."
    best = min(others, key=lambda each: each["doppelganger_rate"])
    minus = names[best["representation"], best["learner"]]
    told = f"The best of the others is {_name(best)} with {_rate(best)}"
    return f"{told}; the difference is {_minus(minus)}."


def _beside(judged: Entry, beside: Entry, differences: Sequence[Entry]) -> str:
    of = (judged["representation"], judged["learner"])
    minus = next((each for each in differences if (each["representation"], each["learner"]) == of), None)
    if minus is None or beside["doppelganger_rate"] is None:
        return "Nothing else was judged beside it."
    return f"The run beside it has {_rate(beside)} for {_name(beside)}; minus that it is {_minus(minus)}."


def _rate(result: Entry) -> str:
    if result["doppelganger_rate"]:
        return f"{percent(result['doppelganger_rate'])} %"
    return f"no stranger as alike as siblings (its pairs allow up to {percent(result['interval'][1])} %)"


def _minus(minus: Entry) -> str:
    low, high = minus["interval"]
    zero = "leaves out zero" if low * high > 0 else "includes zero"
    ends = f"{percent(low, '+')} to {percent(high, '+')}"
    return f"{percent(minus['difference'], '+')} (68 %: {ends}), an interval that {zero}"


def _beware(judged: Entry, record: Mapping[str, Any]) -> str:
    without = sum(1 for each in judged["clusters"] if not each["pairs"])
    told = []
    if record.get("simulated"):
        told.append("the stars are simulated, so that the numbers say nothing about the sky")
    if without:
        have = "have" if without > 1 else "has"
        told.append(f"of {len(judged['clusters'])} clusters {without} {have} no pair that may be compared")
    if number := len(record.get("problems", ())):
        told.append(f"{number} warning{'s were' if number > 1 else ' was'} given, listed below")
    if not told:
        return "Beware: the interval is of these clusters; other clusters may behave otherwise."
    return f"Beware: {'; '.join(told)}."
