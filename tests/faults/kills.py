"""One trial: a stage is killed once or more, run again to its end, and compared with the uninterrupted one."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass

from tests.faults.harness import Reference, Zygote, contents, differences, scratch_copy


@dataclass(frozen=True)
class Trial:
    """What was done and what came of it."""

    case: str
    moments: tuple[str, ...]  # of each kill
    kills: int  # those that met a living stage
    differences: tuple[str, ...]  # files that differ from the uninterrupted run's


def trial(zygote: Zygote, reference: Reference, moments: list[dict[str, float]]) -> Trial:
    """Kills a stage at one moment after the other, then lets it finish."""
    kills = 0
    with scratch_copy(reference.before) as project:
        for moment in moments:
            outcome = zygote.run(project, reference.case, signal.SIGKILL, **moment)
            assert outcome.status in (0, -signal.SIGKILL), f"{reference.case}: {outcome}"
            kills += outcome.status != 0
        zygote.finish(project, reference.case)
        found = contents(project)
    described = tuple(f"{kind} {when:.3g}" for moment in moments for kind, when in moment.items())
    return Trial(str(reference.case), described, kills, tuple(differences(found, reference.after)))


def random_moments(reference: Reference, rng: random.Random) -> list[dict[str, float]]:
    """One to three kills, each before a random change of a file or after a random time."""

    def moment() -> dict[str, float]:
        if rng.random() < 0.5:
            return {"at_event": rng.randint(1, reference.outcome.events or 1)}
        return {"after": rng.uniform(0, reference.outcome.seconds)}

    return [moment() for _ in range(rng.choice([1, 1, 2, 3]))]
