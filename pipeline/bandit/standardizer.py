"""Standardising what comes in one after the other."""

from __future__ import annotations

from math import sqrt


class RunningStandardizer:
    """Standardises values by the mean and deviation of all values seen so far (Welford 1962)."""

    def __init__(self) -> None:
        self.count, self.mean, self.sum_of_squares = 0, 0.0, 0.0

    def __call__(self, rewards: dict[int, float]) -> dict[int, float]:
        """Takes in the rewards of a step, then standardises them; zero while no spread has been seen."""
        for value in rewards.values():
            self.count += 1
            delta = value - self.mean
            self.mean += delta / self.count
            self.sum_of_squares += delta * (value - self.mean)
        return self.scaled({arm: value - self.mean for arm, value in rewards.items()})

    def scaled(self, differences: dict[int, float]) -> dict[int, float]:
        """Differences of values in deviations; zero while no spread has been seen."""
        deviation = sqrt(self.sum_of_squares / self.count) if self.count else 0.0
        return {arm: value / deviation if deviation > 0 else 0.0 for arm, value in differences.items()}

    def state(self) -> list[float]:
        """Count, mean and sum of squared deviations."""
        return [self.count, self.mean, self.sum_of_squares]

    def load_state(self, state: list[float]) -> None:
        self.count, self.mean, self.sum_of_squares = int(state[0]), state[1], state[2]
