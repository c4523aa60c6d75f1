"""The best next observations, against dense updates of the covariance."""

import numpy as np
import pytest
from gaussians import dense, field, free, whole

from npde_opt.errors import InputError
from npde_opt.linear.accuracy import tight
from npde_opt.posterior import Laplace, PosteriorSettings
from npde_opt.posterior.design import best

EXACT = PosteriorSettings(cut=1e-9, rtol=1e-8, prior_rtol=1e-12)


def greedy(C, G, sigma, count, criterion, Z):
    """One update of C after the other."""
    chosen, left, nats = [], [np.trace(Z.T @ C @ Z)], []
    for _ in range(count):
        scores = []
        for j, g in enumerate(G.T):
            variance = sigma[j] ** 2 + g @ C @ g
            score = 0.5 * np.log(variance / sigma[j] ** 2)
            if criterion == "A":
                score = np.sum((Z.T @ C @ g) ** 2) / variance
            scores.append(-np.inf if j in chosen else score)
        j = int(np.argmax(scores))
        g = G[:, j]
        variance = sigma[j] ** 2 + g @ C @ g
        nats.append(0.5 * np.log(variance / sigma[j] ** 2))
        C = C - np.outer(C @ g, C @ g) / variance
        chosen.append(j)
        left.append(np.trace(Z.T @ C @ Z))
    return chosen, left, np.cumsum(nats)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("criterion", ["D", "A"])
def test_choices_are_those_of_dense_updates(criterion):
    J, m = field("bilaplacian by length", n=6)
    with tight():
        at = J.linearize(m)
        found = Laplace(at, EXACT)
        P = dense(J.space, found.precision)
        candidates = [J.space.standard_normal(k) for k in range(8)]
        sigma = np.linspace(0.1, 2.0, 8)
        goals = [J.space.standard_normal(k) for k in range(20, 23)]
        design = best(found, candidates, sigma, 4, criterion, goals)
        whole_field = best(found, candidates, sigma, 2, criterion)
    on = free(J.space)
    G, Z = (
        np.array([whole(v.getArray())[on] for v in vecs]).T
        for vecs in (candidates, goals)
    )
    C = np.linalg.inv(P)
    chosen, left, nats = greedy(C, G, sigma, 4, criterion, Z)
    assert list(design.chosen) == chosen
    np.testing.assert_allclose(design.left, left, rtol=1e-4)
    np.testing.assert_allclose(design.information, nats, rtol=1e-4)
    chosen, left, _ = greedy(C, G, sigma, 2, criterion, np.eye(len(C)))
    assert list(whole_field.chosen) == chosen
    np.testing.assert_allclose(whole_field.left, left, rtol=5e-3)


def test_what_cannot_be_is_told():
    J, m = field(n=4)
    found = Laplace(J.linearize(m))
    one = [J.space.standard_normal(0)]
    for arguments, said in (
        ((one, [1.0], 2), "count: got 2; allowed: 1 to 1"),
        ((one, [0.0], 1), "deviations"),
        ((one, [1.0], 1, "E"), "criterion: got E"),
    ):
        with pytest.raises(InputError, match=said):
            best(found, *arguments)
