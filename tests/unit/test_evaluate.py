"""The numbers of an evaluation against closed forms."""

import numpy as np
import pytest

from pipeline.evaluate import accuracies, expected_calibration_error


def test_calibration_error_of_a_perfectly_calibrated_model_is_zero():
    confidence = np.repeat([0.25, 0.75], 4)
    hit = np.array([1, 0, 0, 0, 1, 1, 1, 0])
    assert expected_calibration_error(confidence, hit, 15) == pytest.approx(0)


def test_calibration_error_weighs_bins_by_their_size():
    # three tokens at 0.9 of which one hits, one token at 0.3 that hits: (|1 - 2.7| + |1 - 0.3|) / 4
    confidence = np.array([0.9, 0.9, 0.9, 0.3])
    assert expected_calibration_error(confidence, np.array([1, 0, 0, 1]), 10) == pytest.approx((1.7 + 0.7) / 4)


def test_certainty_falls_into_the_last_bin():
    assert expected_calibration_error(np.array([1.0, 1.0]), np.array([1, 0]), 5) == pytest.approx(0.5)


def test_accuracies_by_level_and_subject_are_shares_of_their_own_problems():
    rows = [
        {"level": level, "subject": subject, "correct": correct, "agrees": agrees, "timed_out": False}
        for level, subject, correct, agrees in [
            (1, "Algebra", True, True),
            (1, "Geometry", False, True),
            (5, "Algebra", False, False),
            (1, "Algebra", True, True),
        ]
    ]
    found = accuracies(rows)
    assert found["accuracy"] == 0.5
    assert found["accuracy_by_level"] == {"1": pytest.approx(2 / 3), "5": 0}
    assert found["accuracy_by_subject"] == {"Algebra": pytest.approx(2 / 3), "Geometry": 0}
    assert found["agreement"] == 0.75
    assert (found["problems"], found["grading_timeouts"]) == (4, 0)
