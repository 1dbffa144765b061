"""The discriminant against refits in float64, and against what no discriminant should say."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_expit, logit

from pipeline.probe.discriminant import RIDGES, Discriminant, _calibrated, _left_out, fit


def groups_of(number, features=6, sizes=(9, 7), apart=1.0, parts=3):
    """Normal features of both groups, group 1 shifted along the first axis; which is which, and parts of each."""
    rng = np.random.default_rng(number)
    pool, target = (rng.normal(size=(n, features)) for n in sizes)
    target[:, 0] += apart
    group = np.repeat([False, True], sizes)
    part = np.concatenate([np.arange(n) % parts for n in sizes])
    return np.concatenate([pool, target]), group, part


def fitted(features, group, part, weight=None):
    weight = np.ones(len(features)) if weight is None else weight
    return fit(*(torch.tensor(array) for array in (features, group, part, weight)))


def test_the_number_of_threads_changes_no_bit_and_is_left_as_it_was():
    features, group, part = groups_of(0, features=96, sizes=(105, 105), parts=6)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(fitted(features, group, part))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0].directions_KH, found[1].directions_KH)
    assert torch.equal(found[0].middles_K, found[1].middles_K)


def scores(found: Discriminant, features):
    """By each part [K, N]."""
    return found.directions_KH.numpy() @ features.T - found.middles_K.numpy()[:, None]


def ridge_regression(features, labels, weight, ridge):
    """Coefficients and intercept by the normal equations of weighted least squares; the intercept is not shrunk."""
    design = np.column_stack([features, np.ones(len(features))])
    penalty = np.diag([*[ridge] * features.shape[1], 0.0])
    *slope, intercept = np.linalg.solve(design.T * weight @ design + penalty, design.T * weight @ labels)
    return np.array(slope), intercept


@pytest.mark.parametrize("features", [3, 40])
@pytest.mark.parametrize("ridge", [0.1, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_example_is_predicted_by_all_others(features, ridge, weighted):
    x, group, _ = groups_of(0, features)
    weight = np.random.default_rng(1).uniform(0.5, 4, len(x)) if weighted else np.ones(len(x))
    centred = torch.tensor(np.sqrt(weight)[:, None] * (x - np.average(x, axis=0, weights=weight)))
    value, vector = torch.linalg.eigh(centred @ centred.T)
    label = torch.tensor(group, dtype=torch.float64)
    left_out = _left_out(value.clamp(min=0), vector, label, torch.tensor(weight), ridge)
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        slope, intercept = ridge_regression(x[others], group[others].astype(float), weight[others], ridge)
        assert left_out[i].item() == pytest.approx(x[i] @ slope + intercept, rel=1e-8, abs=1e-8)


def test_an_example_of_weight_2_counts_as_two():
    """In the direction at a given ridge; what is left out is one of the two where there are two."""
    x, group, part = groups_of(1)
    twice = np.r_[np.arange(len(x)), 3, 12]
    weight = np.ones(len(x))
    weight[[3, 12]] = 2
    by_weight, by_number = fitted(x, group, part, weight), fitted(x[twice], group[twice], part[twice])
    for found, expected in zip(by_weight.directions_KH.numpy(), by_number.directions_KH.numpy(), strict=True):
        cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
        assert cosine == pytest.approx(1, abs=1e-3)
    plain = fitted(x, group, part).directions_KH.numpy()
    expected = by_number.directions_KH.numpy()
    cosines = (plain * expected).sum(1) / np.linalg.norm(plain, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() < 0.999


def test_weights_make_groups_alike_whose_members_are_the_same_but_for_their_number():
    """Group 0 has ninety examples of one kind and ten of the other, which weigh as much; group 1 has fifty of each."""
    rng = np.random.default_rng(0)
    kind = np.repeat([0.0, 1.0, 0.0, 1.0], [90, 10, 50, 50])
    x = np.column_stack([3 * kind, np.zeros(200)]) + rng.normal(size=(200, 2))
    group = np.arange(200) >= 100
    part, weight = np.arange(200) % 5, np.where(group, 1.0, np.where(kind == 1, 9.0, 1.0))
    ends = np.array([[0.0, 0.0], [3.0, 0.0]])
    even, uneven = (np.ptp(scores(fitted(x, group, part, w), ends).mean(axis=0)) for w in (weight, np.ones(200)))
    assert even < 0.3
    assert uneven > 1


def test_the_direction_is_fishers_with_a_ridge():
    x, group, part = groups_of(1)
    found = fitted(x, group, part)
    pool, target = x[~group], x[group]
    within = np.cov(pool.T) * (len(pool) - 1) + np.cov(target.T) * (len(target) - 1)
    means = [x[group & (part == p)].mean(axis=0) - x[~group & (part == p)].mean(axis=0) for p in range(3)]
    difference = target.mean(axis=0) - pool.mean(axis=0)
    share = len(pool) * len(target) / len(x)
    spread = np.trace(np.cov(x.T)) * (len(x) - 1) / x.shape[1]
    for ridge in RIDGES * spread:
        scatter = within + ridge * np.eye(x.shape[1])
        total = scatter + share * np.outer(difference, difference)
        fishers, expected = np.linalg.solve(scatter, difference), np.linalg.solve(total, difference)
        assert fishers / np.linalg.norm(fishers) == pytest.approx(expected / np.linalg.norm(expected))
        by_part = [np.linalg.solve(total, mean) for mean in means]
        ratio = found.directions_KH.numpy() / np.array(by_part)
        if ratio.std() < 1e-6 * ratio.mean():
            return  # it is one of these ridges, and all parts have its covariance
    pytest.fail("no ridge gives these directions")


@pytest.mark.parametrize("own_weight", [1.0, 3.0])
def test_slope_and_offset_are_those_of_logistic_regression(own_weight):
    """With the smaller group's size in the labels: of 5 that weigh 3 and 5 that weigh 1 it is 400 / 50 = 8."""
    rng = np.random.default_rng(2)
    group = np.arange(30) % 3 == 0
    score = 100 * (rng.normal(size=30) + group)
    of_each = np.where(np.arange(30) % 2 == 0, own_weight, 1.0)
    size = 10 if own_weight == 1 else 8
    label = np.where(group, 1 - 1 / (size + 2), 1 / (size + 2))
    weight = 0.5 * of_each / np.where(group, of_each[group].sum(), of_each[~group].sum())

    def loss(x):
        z = x[0] * score / 100 + x[1]
        return -(weight * (label * log_expit(z) + (1 - label) * log_expit(-z))).sum()

    expected = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
    found_loss, slope, offset = _calibrated(score, group, of_each)
    assert found_loss == pytest.approx(expected.fun, abs=1e-9)
    assert (100 * slope, offset) == pytest.approx(tuple(expected.x), abs=1e-3)


def test_a_score_that_points_the_other_way_says_nothing():
    group = np.arange(20) % 2 == 0
    loss, slope, offset = _calibrated(np.where(group, -1.0, 1.0), group, np.ones(20))
    assert slope == 0
    assert offset == pytest.approx(0)
    assert loss == pytest.approx(np.log(2))


def test_groups_that_are_alike_score_nearly_nothing():
    """More features than examples: an unpenalised discriminant parts them by tens of nats."""
    others = np.random.default_rng(9).normal(size=(200, 120))
    spreads = [scores(fitted(*groups_of(n, 120, (40, 40), apart=0)), others).mean(axis=0).std() for n in range(12)]
    assert np.median(spreads) < 0.1


def test_a_single_feature_is_believed_as_far_as_it_tells():
    """Two normals with means 0 and d: the log-ratio at x is d x - d d / 2 (Bishop 2006, eq. 4.65)."""
    x, group, part = groups_of(3, 1, (600, 600), apart=1.5)
    found = scores(fitted(x, group, part), np.array([[-1.0], [0.75], [2.0]])).mean(axis=0)
    assert found == pytest.approx([-2.625, 0.0, 1.875], abs=0.3)


def test_scores_of_other_examples_are_log_odds():
    """Few examples, many features: of those that score near s, about expit(s) are of group 1."""
    predicted, true = [], []
    for number in range(40):
        x, group, part = groups_of(number, 200, (160, 160), apart=2.0)
        seen = np.r_[0:60, 160:220]
        others = np.setdiff1d(np.arange(len(x)), seen)
        predicted.append(scores(fitted(x[seen], group[seen], part[seen]), x[others]).mean(axis=0))
        true.append(group[others])
    predicted, true = np.concatenate(predicted), np.concatenate(true)
    edges = np.quantile(predicted, [0, 0.2, 0.4, 0.6, 0.8, 1])
    for low, high in itertools.pairwise(edges):
        inside = (predicted >= low) & (predicted <= high)
        assert logit(true[inside].mean()) == pytest.approx(predicted[inside].mean(), abs=0.35)


@pytest.mark.parametrize("weight_of_the_larger", [1.0, 1 / 3, 4.0])
def test_groups_of_unequal_sizes_weigh_the_same(weight_of_the_larger):
    x, group, part = groups_of(4, 1, (900, 300), apart=1.5)
    weight = np.where(group, 1.0, weight_of_the_larger)
    found = scores(fitted(x, group, part, weight), np.array([[0.75]])).mean(axis=0)
    assert found == pytest.approx([0.0], abs=0.2)


def test_features_that_are_all_alike_score_nothing():
    x, group, part = groups_of(5)
    found = fitted(np.ones_like(x), group, part)
    assert scores(found, x) == pytest.approx(np.zeros((3, len(x))))
