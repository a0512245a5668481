"""Slow plain NumPy, written from the equations of docs/maths.md; imports nothing of the package.

The Gaussians of step 1 are built whole, star by star, N(mu_O, W_O W_O^T + V_O): none of the matrix lemmas that the
package relies on. Steps 2 and 3 are one generalised eigenproblem here. Pairs are double loops.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.stats


def star_gaussian(valid, variance, loadings, mean):
    """Mean and covariance of what star n observes, eq. 1.1 without the latents; valid and variance are (P,)."""
    seen = np.flatnonzero(valid)
    covariance = loadings[seen] @ loadings[seen].T + np.diag(variance[seen])
    return seen, mean[seen], covariance


def ppca_log_likelihood(flux, valid, variance, loadings, mean):
    """Total log-likelihood in nats; variance is (N, P)."""
    total = 0.0
    for n in range(len(flux)):
        seen, centre, covariance = star_gaussian(valid[n], variance[n], loadings, mean)
        if len(seen):
            total += scipy.stats.multivariate_normal(centre, covariance).logpdf(flux[n, seen])
    return total


def ppca_posterior(flux, valid, variance, loadings, mean):
    """((N, K), (N, K, K)): the latents' conditional mean and covariance in the joint Gaussian of (z_n, x_n)."""
    n_stars, n_components = len(flux), loadings.shape[1]
    means = np.zeros((n_stars, n_components))
    covariances = np.zeros((n_stars, n_components, n_components))
    for n in range(n_stars):
        seen, centre, covariance = star_gaussian(valid[n], variance[n], loadings, mean)
        gain = loadings[seen].T @ np.linalg.inv(covariance)
        means[n] = gain @ (flux[n, seen] - centre)
        covariances[n] = np.eye(n_components) - gain @ loadings[seen]
    return means, covariances


def latent_moments(flux, valid, variance, loadings, mean):
    """((N, K) mean, (N, K, K) covariance, (N, K + 1) E[y], (N, K + 1, K + 1) E[y y^T]) with y = (z, 1)."""
    n_stars, n_components = len(flux), loadings.shape[1]
    zbar, covariance = ppca_posterior(flux, valid, variance, loadings, mean)
    second = np.zeros((n_stars, n_components + 1, n_components + 1))
    first = np.ones((n_stars, n_components + 1))
    for n in range(n_stars):
        first[n, :-1] = zbar[n]
        second[n] = np.outer(first[n], first[n])
        second[n, :-1, :-1] += covariance[n]
    return zbar, covariance, first, second


def plane_step(flux, valid, weight, mean, first, second):
    """Eq. 1.6: (loadings, mean); a factor of the weight does not matter."""
    n_stars, n_bins = flux.shape
    size = first.shape[1]
    loadings, new_mean = np.zeros((n_bins, size - 1)), np.zeros(n_bins)
    for p in range(n_bins):
        normal, right = np.zeros((size, size)), np.zeros(size)
        for n in range(n_stars):
            if valid[n, p]:
                normal += weight[n, p] * second[n]
                right += weight[n, p] * (flux[n, p] - mean[p]) * first[n]
        theta = np.linalg.solve(normal, right)
        loadings[p], new_mean[p] = theta[:-1], mean[p] + theta[-1]
    return loadings, new_mean


def expected_square(n, p, flux, loadings, mean, zbar, covariance):
    """E[(x_np - mu_p - w_p z_n)^2] over the latents."""
    return (flux[n, p] - mean[p] - loadings[p] @ zbar[n]) ** 2 + loadings[p] @ covariance[n] @ loadings[p]


def expanded(loadings, mean, zbar, covariance):
    """Eq. 1.8."""
    centre = zbar.mean(0)
    spread = covariance.mean(0) + (zbar - centre).T @ (zbar - centre) / len(zbar)
    return loadings @ np.linalg.cholesky(spread), mean + loadings @ centre


def em_step(flux, valid, weight, loadings, mean, noise, estimate_noise, expand, aside=None):
    """One EM step, eqs. 1.6, 1.7 and (expand) 1.8: (loadings, mean, noise). The variance of a bin is noise / weight.

    aside: (N, P) bins that count in |O| alone.
    """
    used = valid if aside is None else valid & ~aside
    variance = noise / np.where(valid, weight, 1.0)
    zbar, covariance, first, second = latent_moments(flux, used, variance, loadings, mean)
    new_loadings, new_mean = plane_step(flux, used, weight, mean, first, second)
    if estimate_noise:  # (1.7) before its terms cancel: the expected squared misfit of every valid bin
        left = 0.0
        for n, p in np.argwhere(used):
            left += weight[n, p] * expected_square(n, p, flux, new_loadings, new_mean, zbar, covariance)
        noise = left / valid.sum()
    if expand:
        new_loadings, new_mean = expanded(new_loadings, new_mean, zbar, covariance)
    return new_loadings, new_mean, noise


def scatter_step(flux, valid, sigma, loadings, mean, scatter, aside=None):
    """One EM step with a scatter of each bin, eqs. 1.6, 1.8, 1.10 and 1.11: (loadings, mean, fast, slow).

    aside: (N, P) bins that count in the sums of a_np and a_np^2 alone.
    """
    used = valid if aside is None else valid & ~aside
    variance = np.where(valid, sigma, 1.0) ** 2 + scatter
    zbar, covariance, first, second = latent_moments(flux, used, variance, loadings, mean)
    new_loadings, new_mean = plane_step(flux, used, 1 / variance, mean, first, second)
    fast, slow = np.zeros_like(mean), np.zeros_like(mean)
    for p in range(len(mean)):
        misfit, weights, squares = 0.0, 0.0, 0.0
        for n in np.flatnonzero(valid[:, p]):
            weights += 1 / variance[n, p]
            squares += 1 / variance[n, p] ** 2
            if used[n, p]:
                misfit += expected_square(n, p, flux, new_loadings, new_mean, zbar, covariance) / variance[n, p] ** 2
        fast[p] = scatter[p] + (misfit - weights) / squares
        slow[p] = scatter[p] * np.sqrt(misfit / weights)
    floor = 1e-12 * scatter.max()
    new_loadings, new_mean = expanded(new_loadings, new_mean, zbar, covariance)
    return new_loadings, new_mean, np.maximum(fast, floor), np.maximum(slow, floor)


def set_aside(flux, valid, variance, loadings, mean, clip):
    """(N, P) bool, eq. 1.12: star by star from no bin set aside, until nothing changes, ten times at most."""
    aside = np.zeros(flux.shape, dtype=bool)
    for n in range(len(flux)):
        star = slice(n, n + 1)
        for _ in range(10):
            zbar, _ = ppca_posterior(flux[star], valid[star] & ~aside[star], variance[star], loadings, mean)
            far = np.zeros(len(mean), dtype=bool)
            for p in np.flatnonzero(valid[n]):
                far[p] = (flux[n, p] - mean[p] - loadings[p] @ zbar[0]) ** 2 > clip**2 * variance[n, p]
            if (far == aside[n]).all():
                break
            aside[n] = far
    return aside


def clipped_log_likelihood(flux, valid, variance, loadings, mean, clip, aside):
    """Total in nats: the Gaussian of the bins that are not set aside, and of each that is as if at the threshold."""
    total = ppca_log_likelihood(flux, valid & ~aside, variance, loadings, mean)
    for n, p in np.argwhere(valid & aside):
        total -= (np.log(2 * np.pi * variance[n, p]) + clip**2) / 2
    return total


def mad(sample):
    """Median absolute deviation from the median, as a standard deviation."""
    sample = list(sample)
    centre = median(sample)
    return median([abs(value - centre) for value in sample]) / scipy.stats.norm.ppf(0.75)


def median(sample):
    """The middle value; of an even number the mean of the middle two."""
    ordered = sorted(sample)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def standard_deviation(sample):
    """With N - 1 in the denominator."""
    centre = sum(sample) / len(sample)
    return (sum((value - centre) ** 2 for value in sample) / (len(sample) - 1)) ** 0.5


def centred_on_clusters(members, clusters):
    """Every member minus the mean of its cluster."""
    centred = np.array(members, dtype=float)
    for n, label in enumerate(clusters):
        siblings = [m for m, other in enumerate(clusters) if other == label]
        centred[n] -= sum(members[m] for m in siblings) / len(siblings)
    return centred


def sigma_c(centred, clusters, robust=True, pooled=True):
    """Eq. 4.1, or (not pooled) the spread of all centred members as one sample, from which C means were taken; (D,)."""
    spread = mad if robust else standard_deviation
    result = []
    for values in centred.T:
        if not pooled and robust:
            result.append(mad(values))
            continue
        if not pooled:
            result.append((sum(value**2 for value in values) / (len(values) - len(set(clusters)))) ** 0.5)
            continue
        above = below = 0.0
        for label in sorted(set(clusters)):
            own = [value for value, other in zip(values, clusters, strict=True) if other == label]
            if len(own) > 1:
                above += (len(own) - 1) * spread(own) ** 2
                below += len(own) - 1
        result.append((above / below) ** 0.5)
    return np.array(result)


def reparametrised(field, members, clusters):
    """Steps 2 and 3 at once: rows with field covariance I and diagonal within-cluster scatter, ordered by neither."""
    centred = centred_on_clusters(members, clusters)
    deviation = field - field.mean(0)
    _, vectors = scipy.linalg.eigh(centred.T @ centred, deviation.T @ deviation / (len(field) - 1))
    return vectors.T


def rescaled(basis, members, clusters, robust=True, pooled=True, top=None, ceiling=None):
    """Step 4 along the rows of basis: ((D, K) weight, sigma_r), most important first, largest entry of a row positive.

    ceiling: the authors' way, sigma_c clamped there; None: weight 0 where sigma_c >= 1.
    """
    spread = sigma_c(centred_on_clusters(members @ basis.T, clusters), clusters, robust, pooled)
    if ceiling is not None:
        spread = np.minimum(spread, ceiling)
    inverse = np.array([0.0 if s >= 1 else (1 / s**2 - 1) ** 0.5 for s in spread])
    order = np.argsort(-inverse, kind="stable")[:top]
    weight = inverse[order, None] * basis[order]
    for row in weight:
        row *= -1 if row[np.argmax(np.abs(row))] < 0 else 1
    return weight, np.array([1 / w if w else np.inf for w in inverse[order]])


def scaled_components(field, members, clusters, **options):
    """Steps 2 to 4: (weight, sigma_r)."""
    return rescaled(reparametrised(field, members, clusters), members, clusters, **options)


def scaled(field, members, clusters, **options):
    """Step 4 on dimensions divided by the field's standard deviation: (weight, sigma_r)."""
    return rescaled(np.diag([1 / standard_deviation(list(v)) for v in field.T]), members, clusters, **options)


def distance(a, b):
    return float(np.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True))))


def sibling_median(members):
    """Eq. 5.1."""
    return median([distance(members[i], members[j]) for i in range(len(members)) for j in range(i)])


def doppelganger_rate(members, field, allowed=None):
    """Eq. 5.2; NaN where no pair is allowed."""
    threshold, close, pairs = sibling_median(members), 0, 0
    for i in range(len(members)):
        for f in range(len(field)):
            if allowed is None or allowed[i][f]:
                pairs += 1
                close += distance(members[i], field[f]) <= threshold
    return close / pairs if pairs else float("nan")


def global_rate(rates, sizes):
    """Mean over clusters weighted by members, NaN left out."""
    known = [label for label in rates if not np.isnan(rates[label])]
    return sum(rates[c] * sizes[c] for c in known) / sum(sizes[c] for c in known)


def leave_one_cluster_out(weight_of, field, members, clusters, allowed=None, held_out=True):
    """(rates, sizes, medians) by label; weight_of(field, members, clusters) -> (D, K)."""
    rates, sizes, medians = {}, {}, {}
    clusters = np.asarray(clusters)
    for label in sorted(set(clusters.tolist())):
        inside = clusters == label
        if inside.sum() < 2:
            continue
        others = ~inside if held_out else np.ones_like(inside)
        weight = weight_of(field, members[others], clusters[others].tolist())
        own, strangers = members[inside] @ weight.T, field @ weight.T
        rates[label] = doppelganger_rate(own, strangers, None if allowed is None else allowed[inside])
        sizes[label], medians[label] = int(inside.sum()), sibling_median(own)
    return rates, sizes, medians


def bootstrap(values, sizes, level=0.68, resamples=10_000, seed=0):
    """Percentile interval of the weighted mean over clusters drawn with replacement."""
    draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    means = sorted(sum(values[c] * sizes[c] for c in draw) / sum(sizes[c] for c in draw) for draw in draws.tolist())

    def quantile(q):  # linear between order statistics
        place = q * (resamples - 1)
        low = int(place)
        return means[low] + (place - low) * (means[min(low + 1, resamples - 1)] - means[low])

    return quantile((1 - level) / 2), quantile((1 + level) / 2)
