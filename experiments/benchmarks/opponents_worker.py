"""One program on one problem, in the environment of that program: `python opponents_worker.py PROGRAM FOLDER SETTINGS`.

`opponents.py` starts it and says what it is. It needs NumPy and the program alone, so that each may have an environment
of its own. FOLDER has what is given as .npy, and gets PROGRAM.npz; SETTINGS is JSON.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np


def ppca_rs(given, settings):
    """Isotropic noise, EM for as many iterations as the user says, ten by default."""
    from ppca_rs import Dataset, PPCATrainer

    data = Dataset(gaps(given, np.nan), weights=None)
    model = PPCATrainer(data).train(state_size=settings["components"], quiet=True)
    return lambda: {
        "loadings": model.transform,
        "mean": model.mean,
        "variance": model.isotropic_noise**2,
        "iterations": 10,
    }


def ppca_py(given, settings):
    """Isotropic noise, EM to its own relative tolerance, and a failure where 10,000 iterations do not reach it."""
    from ppca import PPCA

    model = PPCA(settings["components"], random_state=0).fit(gaps(given, np.nan))
    found = model.get_params()
    return lambda: {
        "loadings": np.asarray(found["components"]).T,
        "mean": found["mean"],
        "variance": float(found["noise_variance"]),
    }


def rustypca(given, settings):
    """Isotropic noise, EM to a tolerance; the mean is that of what is there."""
    from rustypca import PPCA

    model = PPCA(settings["components"], random_state=0)
    model.fit(gaps(given, np.nan))
    return lambda: {
        "loadings": model.components_.T,
        "mean": model.mean_,
        "variance": model.noise_variance_,
        "iterations": model.n_iter_,
    }


def robusta_hmf(given, settings):
    """Measured noise, a heavy tail, latents without a prior: read as the normal model that latents and noise imply."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from robusta_hmf import Robusta

    def centred(of, mean):
        there = given[f"{of}valid"]
        weight = np.where(there, 1 / np.where(there, given[f"{of}sigma"], 1).astype(float) ** 2, 0)
        return jax.numpy.asarray(np.where(there, given[f"{of}flux"] - mean, 0)), jax.numpy.asarray(weight)

    mean = np.nanmean(gaps(given, np.nan), axis=0)
    program = Robusta(rank=settings["components"], robust_scale=5.0)
    state, losses = program.fit(*centred("", mean))

    def found():
        members, _ = program.infer(*centred("members_", mean), state=state)
        latents, basis = np.asarray(state.A), np.asarray(state.G)
        root = np.linalg.cholesky(np.cov(latents.T))
        return {
            "loadings": basis @ root,
            "mean": mean + basis @ latents.mean(0),
            "field": latents,
            "members": np.asarray(members.A),
            "iterations": len(losses),
        }

    return found


def ours(given, settings):
    """`fit_ppca`; settings says with which noise."""
    import warnings

    from rsca_torch import NumericalWarning
    from rsca_torch.ppca.fit import fit_ppca

    warnings.simplefilter("ignore", NumericalWarning)  # dimensions that tell nothing
    options = {name: settings[name] for name in ("noise", "clip", "tolerance", "products")}
    model = fit_ppca(
        given["flux"], given["valid"], settings["components"], given["sigma"], max_iterations=500, **options
    )
    return lambda: {
        "loadings": model.loadings.numpy(),
        "mean": model.mean.numpy(),
        "scatter" if model.noise_variance is None else "variance": model.scatter.numpy(),
        "iterations": len(model.history),
    }


def rca(given, _settings):
    """metric-learn's, without each of the clusters in turn."""
    from metric_learn import RCA

    names, number = np.unique(given["clusters"], return_inverse=True)
    maps = []
    for left_out in range(len(names)):
        _, chunks = np.unique(number[number != left_out], return_inverse=True)
        maps.append(RCA().fit(given["latents"][number != left_out], chunks).components_)
    return lambda: {"names": names, "maps": np.stack(maps)}


def gaps(given, value):
    """(N, P) float64 flux of the field, the value where it is not valid."""
    return np.where(given["valid"], given["flux"], value).astype(float)


def peak():
    """GB that this process had in memory at most; getrusage would count what its parent had before."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9


#: program: (its function, the package whose version is told, what is imported before the clock runs)
PROGRAMS = {
    "ppca-rs": (ppca_rs, "ppca-rs", "ppca_rs"),
    "ppca-py": (ppca_py, "ppca-py", "ppca"),
    "rustypca": (rustypca, "rustypca", "rustypca"),
    "robusta-hmf": (robusta_hmf, "robusta-hmf", "robusta_hmf"),
    "ours": (ours, "rsca_torch", "rsca_torch.ppca.fit"),
    "rca": (rca, "metric-learn", "metric_learn"),
}


def main(program, folder, settings):
    """Read, run, write what was found and what it cost."""
    given = {path.stem: np.load(path, mmap_mode="r") for path in Path(folder).glob("*.npy")}
    settings = json.loads(settings)
    run, package, module = PROGRAMS[program]
    sys.path.remove(str(Path(__file__).parent))  # where another ppca.py lies
    import_module(module)
    most, longest = int(settings["memory"] * 1e9), int(settings["limit"])
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))  # it fails, and no other program is killed
    resource.setrlimit(resource.RLIMIT_CPU, (longest, longest + 5))
    wall, processor = time.perf_counter(), time.process_time()
    found = run(given, settings)
    cost = {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor}
    cost["memory"] = peak()
    told = {"version": f"{package} {version(package)}", **cost, **found()}
    np.savez(Path(folder) / f"{program}.npz", **told)


if __name__ == "__main__":
    main(*sys.argv[1:])
