"""How rare something may be that was seen seldom, or never."""

from math import exp, lgamma, log, log1p

LEVEL = 0.95
"""How sure a bound is."""


def upper_share(hits: int, of: int, confidence: float = LEVEL) -> float:
    """One-sided upper bound of a share of which `hits` of `of` were seen (Clopper and Pearson, 1934); 1 of none."""
    if hits >= of:
        return 1.0
    low, high = hits / of, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(hits, of, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(hits: int, of: int, share: float) -> float:
    """Probability of `hits` or fewer of `of` at this share: the binomial distribution."""
    if share <= 0 or share >= 1:
        return float(share <= 0)
    whole = lgamma(of + 1)
    terms = (
        whole - lgamma(k + 1) - lgamma(of - k + 1) + k * log(share) + (of - k) * log1p(-share) for k in range(hits + 1)
    )
    return sum(map(exp, terms))
