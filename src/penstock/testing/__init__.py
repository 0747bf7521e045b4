"""What tests of flows need: an engine for one test, a fake clock, and assertions on states.

With pytest, ask for the fixtures `penstock_engine` and `fake_clock`; anywhere else, say
`with penstock.testing.engine(clock=FakeClock()):`.
"""

from penstock._model.publishing import publish
from penstock.exceptions import TimeStoodStill
from penstock.testing._clock import FakeClock
from penstock.testing._engines import Engine, engine
from penstock.testing._transitions import assert_transitions, transitions_of

__all__ = [
    "Engine",
    "FakeClock",
    "TimeStoodStill",
    "assert_transitions",
    "engine",
    "transitions_of",
]


publish(__name__, __all__)
