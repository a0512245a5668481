r"""The table of `rsca report` as LaTeX, to paste into a paper; needs \\usepackage{booktabs}."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from rsca_torch.comparison.sweep import Gathered
from rsca_torch.evaluation.result import upper_limit

__all__ = ["escaped", "label_of", "latex", "measured", "tabular"]

LIMIT = (
    r"Where no pair is as close as siblings, the upper limit that the number of pairs allows is given (one-sided, "
    r"84\,\%)."
)
SPECIAL = {each: f"\\{each}" for each in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': r"\textquotedbl{}",
}


def escaped(text: str) -> str:
    r"""A text with what LaTeX would take for a command made plain, on one line.

    >>> print(escaped("NGC_188 & 5%"))
    NGC\_188 \& 5\%
    """
    return "".join(SPECIAL.get(each, each) for each in " ".join(text.split()))


def measured(share: float, low: float, high: float, sign: str = "") -> str:
    """A share in %, with the digits that its interval supports: two of half its width.

    Args:
        share: 0 to 1; a rate of 0 is its upper limit, of as many digits.
        low: lower end of its interval.
        high: upper end.
        sign: "+" for a difference, which always has a sign and is never a limit.

    >>> measured(0.1071, 0.0848, 0.137), measured(0.0, 0.0, 0.000593), measured(0.0104, 0.0059, 0.0145, "+")
    ('$10.7^{+3.0}_{-2.2}$', '$<0.059$', '$+1.04^{+0.41}_{-0.45}$')
    """
    if share == 0 and not sign:
        return f"$<{_rounded(100 * high, _decimals(100 * high))}$"
    decimals = _decimals(50 * (high - low))
    value, up, down = (_rounded(100 * one, decimals) for one in (share, max(0, high - share), max(0, share - low)))
    return f"${sign if share >= 0 else ''}{value}^{{+{up}}}_{{-{down}}}$"


def _decimals(width: float) -> int:
    """So many that two digits are left of a width."""
    return 2 if not width > 0 else max(0, 1 - math.floor(math.log10(width)))


def _rounded(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}"


def latex(groups: pd.DataFrame, gathered: Gathered, baseline: str, name: str) -> str:
    """A table of all groups, and of a single run one of its clusters.

    Args:
        groups: as `groups_of` gives them.
        gathered: the runs.
        baseline: the learner that the others are compared with.
        name: of the sweep or run, for the labels.
    """
    label = label_of(name)
    tables = [_of_groups(groups, gathered.varied, baseline, label)]
    if gathered.results["run"].nunique() == 1:
        tables.append(_of_clusters(gathered.results, label))
    return "% \\usepackage{booktabs} in the preamble\n" + "\n".join(tables)


def label_of(name: str) -> str:
    """The middle of the labels of a run's or sweep's tables.

    >>> label_of("2026-07-01 M_67")
    '2026-07-01-M-67'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "run"


def _of_groups(groups: pd.DataFrame, varied: Sequence[str], baseline: str, label: str) -> str:
    several = groups["rates"].map(len).max() > 1
    texts = ["Representation", "Learner", *(escaped(option.removeprefix("compressor.")) for option in varied)]
    numbers = [*(["Seeds", r"Spread (\%)"] if several else []), r"Rate (\%)", rf"Minus {escaped(baseline)} (\%)"]
    rows = []
    for each in groups.to_dict("records"):
        learner = str(each["learner"]) + ("" if each["held_out"] else " (in-sample)")
        row = [escaped(str(one)) for one in (each["representation"].replace("_", " "), learner)]
        row += [escaped(str(each[option])) for option in varied]
        if several:
            spread = 100 * each["spread"]
            row += [str(len(each["rates"])), "" if np.isnan(spread) else _rounded(spread, _decimals(spread))]
        row.append(measured(each["mean"], each["low"], each["high"]))
        ends = each["difference"], each["difference_low"], each["difference_high"]
        rows.append([*row, "" if np.isnan(ends[0]) else measured(*ends, "+")])
    over = "means over seeds with their sample standard deviation, " if several else ""
    caption = (
        rf"Doppelganger rates (lower is better): {over}68\,\% intervals of a bootstrap over clusters. {LIMIT} "
        rf"Differences to {escaped(baseline)} are of the same clusters."
    )
    return tabular([*texts], numbers, rows, caption, f"tab:{label}")


def _of_clusters(results: pd.DataFrame, label: str) -> str:
    """Rates of each cluster on the first representation, of every learner that was held out."""
    held_out = results[results["held_out"]]
    held_out = held_out[held_out["representation"] == held_out["representation"].iloc[0]]
    rates = [{cluster: rest for cluster, *rest in one} for one in held_out["clusters"]]
    rows = [
        [escaped(cluster), str(members), f"{pairs:,}", *(_of_pairs(*of[cluster][1:3]) for of in rates)]
        for cluster, (members, _, pairs, *_) in rates[0].items()
    ]
    learners = [rf"{escaped(name)} (\%)" for name in held_out["learner"]]
    seen = escaped(held_out["representation"].iloc[0].replace("_", " "))
    caption = (
        rf"Doppelganger rates of the clusters on {seen}, each by a learner that did not see it. {LIMIT} "
        r"The last digit of a rate is about what one pair is worth."
    )
    return tabular(["Cluster"], ["Members", "Pairs", *learners], rows, caption, f"tab:{label}-clusters")


def _of_pairs(rate: float | None, pairs: int) -> str:
    """A cluster's rate in steps of what one pair is worth; nothing without pairs."""
    if rate is None or not pairs:
        return "--"
    return measured(0, 0, upper_limit(pairs)) if rate == 0 else f"${_rounded(100 * rate, _steps(pairs))}$"


def _steps(pairs: int) -> int:
    """Decimals of a share in % of so many pairs."""
    return max(0, math.ceil(math.log10(pairs / 100)))


def tabular(
    texts: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]], caption: str, label: str
) -> str:
    """A table whose first columns are texts, with rules above, below and under the heads."""
    lines = [[*texts, *numbers], *rows]
    head, *body = (" & ".join(line) + r" \\" for line in lines)
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption}}}",
            rf"  \label{{{label}}}",
            rf"  \begin{{tabular}}{{{'l' * len(texts)}{'r' * len(numbers)}}}",
            r"    \toprule",
            f"    {head}",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )
