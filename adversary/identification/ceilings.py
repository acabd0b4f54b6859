r"""What no attacker can beat under differential privacy, and what an attack proves of it.

A mechanism's trade-off function f(a) is the least rate of misses that any test of one patient's
membership has at a rate a of false alarms (Dong, Roth and Su, "Gaussian differential privacy",
2022). A test that does better proves that the mechanism is not what it is said to be.
"""

from __future__ import annotations

import math

import scipy

from adversary.identification.figures import interval


def gaussian_power(mu: float, false_alarms: float) -> float:
    r"""Return the largest true positive rate against one Gaussian mechanism, Phi(Phi^-1(a) + mu).

    Parameters
    ----------
    mu : float
        L2 distance of neighbours over the noise's standard deviation, >= 0.
    false_alarms : float
        a, in (0, 1).
    """
    return float(scipy.stats.norm.cdf(scipy.stats.norm.ppf(false_alarms) + mu))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the mu of the Gaussian mechanism that is exactly (epsilon, delta)-private.

    Balle and Wang, "Improving the Gaussian mechanism for differential privacy", ICML 2018.
    """
    return float(scipy.optimize.brentq(lambda mu: gaussian_delta(mu, epsilon) - delta, 1e-6, 100.0))


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return the least delta at ``epsilon`` of a Gaussian mechanism (Balle and Wang 2018)."""
    if mu <= 0:
        return 0.0
    first = scipy.stats.norm.cdf(mu / 2 - epsilon / mu)
    # exp(epsilon) times a tail, in logarithms: both may overflow on their own.
    second = math.exp(epsilon + scipy.stats.norm.logcdf(-mu / 2 - epsilon / mu))
    return float(max(0.0, first - second))


def private_power(epsilon: float, delta: float, false_alarms: float) -> float:
    """Return the largest true positive rate against any (epsilon, delta)-private mechanism.

    The smaller of e^epsilon a + delta and 1 - e^-epsilon (1 - delta - a) (Kairouz, Oh and
    Viswanath, "The composition theorem for differential privacy", ICML 2015).
    """
    first = math.exp(min(epsilon, 700.0)) * false_alarms + delta
    second = 1 - math.exp(-epsilon) * (1 - delta - false_alarms)
    return min(1.0, first, second)


def identification(mu: float, among: int) -> float:
    """Return the largest chance of naming the member among equal candidates.

    1 - f(1 / N) for one Gaussian mechanism (Hayes, Mahloujifar and Balle, "Bounding training data
    reconstruction in DP-SGD", NeurIPS 2023).
    """
    return gaussian_power(mu, 1 / among)


def epsilon_lower(
    hits: int, members: int, false: int, others: int, delta: float, level: float = 0.95
) -> float:
    """Return the epsilon that a test proves a mechanism to have at least, at a confidence level.

    From exact limits of the true and the false positive rate, each at half of the error (Jagielski,
    Ullman and Oprea, "Auditing differentially private machine learning", NeurIPS 2020). The
    threshold of the test must have been fixed without the members' scores.

    Parameters
    ----------
    hits, members : int
        Members above the threshold, of how many.
    false, others : int
        Others above it, of how many.
    delta : float
        Of the claimed guarantee.
    level : float
        Confidence.
    """
    # Each interval errs by half of 1 - level on the side that is used: together by 1 - level.
    least_hits, _ = interval(hits, members, level)
    _, most_false = interval(false, others, level)
    found = 0.0
    if least_hits > delta:
        found = max(found, math.log((least_hits - delta) / most_false))
    if 1 - most_false > delta and least_hits < 1:  # calling out those who are not in it
        found = max(found, math.log((1 - most_false - delta) / (1 - least_hits)))
    return found


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the least epsilon at ``delta`` of a Gaussian mechanism (Balle and Wang 2018)."""
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    return float(
        scipy.optimize.brentq(lambda e: gaussian_delta(mu, e) - delta, 0.0, 50 * mu + mu**2)
    )


def gaussian_epsilon_lower(
    hits: int, members: int, false: int, others: int, delta: float, level: float = 0.95
) -> float:
    """Return the epsilon that a test proves a Gaussian mechanism to have at least.

    Its trade-off curve has one parameter, so one point of it bounds all others and much less is
    lost than by :func:`epsilon_lower` (Nasr et al., "Tight auditing of differentially private
    machine learning", USENIX Security 2023). Arguments as there.
    """
    least_hits, _ = interval(hits, members, level)
    _, most_false = interval(false, others, level)
    if not least_hits > 0 or not most_false < 1:
        return 0.0
    mu = float(scipy.stats.norm.ppf(least_hits) - scipy.stats.norm.ppf(most_false))
    return gaussian_epsilon(mu, delta) if mu > 0 else 0.0
