"""What likelihood ratios are worth: `python experiments/repeats/calibration.py [--seeds 4] [--picture FILE.png]`.

Judges RSCA with the floor of repeats and 60 components on simulated surveys, by distance and by likelihood, leaving one
cluster out, each calibrated without the judged cluster (docs/maths.md, 15). Prints, as Markdown, Cllr before and after
calibration, that of the best monotone map, and the expected calibration error at two priors: means over surveys, and in
brackets each. Surveys and step 1 are kept in the folder.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from rsca_torch.drawing.style import in_style, stamp, titled
from rsca_torch.errors import NumericalWarning
from rsca_torch.evaluation.leave_one_out import leave_one_cluster_out
from rsca_torch.evaluation.result import LOCOResult
from rsca_torch.learners.scaled_components import ScaledComponents
from rsca_torch.report.figure_files import write_figure
from rsca_torch.report.reliability import plot_reliability

Survey = runpy.run_path(str(Path(__file__).with_name("rates.py")))["Survey"]

KINDS = {
    "giants": ["simulation.repeats=250"],
    "hard": ["simulation=hard", "simulation.stars.interlopers=0"],  # 600 repeats
}
SCORES = ("distance", "likelihood")
PRIORS = (0.5, 0.01)


def judged(survey: Survey, number: int, score: str) -> LOCOResult:
    """With likelihood ratios that are calibrated without the judged cluster."""
    on = survey.on[number]
    seen = on.seen_by(partial(ScaledComponents, floor="auto", trim=2.0, robust=False, score=score))
    return leave_one_cluster_out(
        seen.make_learner, seen.field, seen.members, on.clusters, survey.allowed, noise=seen.noise, calibrate=True
    )


def figures(result: LOCOResult) -> dict[str, float]:
    """By name; of a distance, which is no ratio, there is no Cllr before."""
    told = result.calibrated
    assert told is not None
    after = result.merit("cllr")
    before = result.merit("cllr_uncalibrated") if "cllr_uncalibrated" in result.merits else np.nan
    found = {
        "rate, %": 100 * result.rate,
        "Cllr before, bits": before,
        "Cllr, bits": after,
        "Cllr of the best monotone map": told.minimum(),
        "Cllr minus that": after - told.minimum(),
    }
    found |= {f"expected calibration error at {prior:g}": told.expected_error(prior) for prior in PRIORS}
    return found | {"slope": told.of_all.slope, "offset, nats": told.of_all.offset}


def table(kind: str, surveys: list[dict[str, LOCOResult]]) -> None:
    """As Markdown, a row a figure."""
    print(f"\n| {kind} | {' | '.join(f'`score={score}`' for score in SCORES)} |")
    print(f"|---|{'---|' * len(SCORES)}")
    of = {score: [figures(survey[score]) for survey in surveys] for score in SCORES}
    for name in of[SCORES[0]][0]:
        each = {score: [found[name] for found in of[score]] for score in SCORES}
        cells = [
            "" if np.isnan(values).any() else f"{np.mean(values):.3f} ({', '.join(f'{v:.3f}' for v in values)})"
            for values in each.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


@in_style()
def picture(file: Path, kinds: dict[str, list[dict[str, LOCOResult]]]) -> None:
    """Reliability at even odds, a panel for each kind of survey."""
    figure, body = titled("Do probabilities come true? Held-out clusters, prior 1/2", 5.0 * len(kinds), 5.4)
    panels = body.subplots(1, len(kinds), squeeze=False)[0]
    for panel, (kind, surveys) in zip(panels, kinds.items(), strict=True):
        told = {f"by {score}": [survey[score].calibrated for survey in surveys] for score in SCORES}
        plot_reliability(panel, told, 0.5)
        panel.set_title(f"{kind}: {len(surveys)} simulated surveys")
        panel.set_ylabel("share that are siblings (bars: 68 %)")
        panel.legend(loc="upper left")
    stamp(figure)
    write_figure(figure, file, metadata={"Software": None})


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--components", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--picture", type=Path, help="FILE.png of the reliability at even odds")
    parser.add_argument("overrides", nargs="*", help="of the surveys and step 1, e.g. simulation.n_field=400")
    given = parser.parse_intermixed_args()
    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    kinds: dict[str, list[dict[str, LOCOResult]]] = {}
    for kind in given.kinds:
        surveys = kinds[kind] = []
        for seed in range(given.seeds):
            survey = Survey(seed, given.folder / kind, [given.components], [*KINDS[kind], *given.overrides])
            surveys.append({score: judged(survey, given.components, score) for score in SCORES})
            told = {score: figures(result) for score, result in surveys[-1].items()}
            print(f"{kind}, seed {seed}: {told}", file=sys.stderr, flush=True)
        table(kind, surveys)
    if given.picture is not None:
        picture(given.picture, kinds)


if __name__ == "__main__":
    main()
