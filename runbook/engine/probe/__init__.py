"""The probe rehearsal: ``observe`` and ``needs`` against the real world, and nothing else.

It cannot change anything, since a kind's reads have no way to write. What a step *would* do is
worked out from what is there now; what only exists after earlier steps is counted as such, never
guessed.
"""

from runbook.engine.probe.drift import Drift, Drifted, drift_since, look_back, recorded
from runbook.engine.probe.look import probe
from runbook.engine.probe.report import (
    CacheHolds,
    HostSeen,
    NeedSeen,
    Probed,
    ProbeReport,
)
from runbook.engine.probe.rounds import Rounds

__all__ = [
    "CacheHolds", "Drift", "Drifted", "HostSeen", "NeedSeen", "ProbeReport", "Probed", "Rounds",
    "drift_since", "look_back", "probe", "recorded",
]
