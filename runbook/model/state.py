"""States of a node and the one table of transitions between them."""

from __future__ import annotations

from enum import StrEnum


class NodeState(StrEnum):
    PENDING = "pending"
    STARTED = "started"
    """An intent is durable; effects may have begun."""
    APPLIED = "applied"
    """Every action reported success; not yet verified."""
    VERIFIED = "verified"
    FAILED = "failed"
    """The world said no."""
    ERRORED = "errored"
    """We could not ask; nothing was changed by the attempt."""
    SKIPPED = "skipped"
    IN_DOUBT = "in_doubt"
    UNDOING = "undoing"
    """An undo intent is durable."""
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    IRREVERSIBLE = "irreversible"


_S = NodeState

_BACK = frozenset({_S.UNDOING, _S.ROLLED_BACK, _S.ROLLBACK_FAILED, _S.IRREVERSIBLE})
_AGAIN = frozenset({_S.STARTED, _S.VERIFIED, _S.FAILED, _S.ERRORED, _S.SKIPPED})

TRANSITIONS: dict[NodeState, frozenset[NodeState]] = {
    _S.PENDING: _AGAIN,
    _S.STARTED: frozenset({_S.APPLIED, _S.FAILED, _S.ERRORED, _S.SKIPPED, _S.IN_DOUBT,
                           _S.ROLLBACK_FAILED}),
    _S.APPLIED: frozenset({_S.VERIFIED, _S.FAILED, _S.ERRORED}) | _BACK,
    _S.VERIFIED: _BACK,
    _S.FAILED: _AGAIN | _BACK,
    _S.ERRORED: _AGAIN | _BACK,
    _S.SKIPPED: _BACK,
    _S.IN_DOUBT: frozenset({_S.APPLIED, _S.FAILED, _S.ERRORED, _S.SKIPPED}) | _BACK,
    _S.UNDOING: _BACK,
    _S.ROLLED_BACK: _AGAIN,
    _S.ROLLBACK_FAILED: _BACK | {_S.APPLIED, _S.ERRORED},
    _S.IRREVERSIBLE: frozenset(),
}
"""``STARTED → SKIPPED``: it did nothing but wait, and a person would not wait any longer.
``FAILED → STARTED`` is a retry with a new attempt number. ``→ ROLLED_BACK`` without an undo
intent means that the world was found to be as it was before the step. ``ROLLED_BACK → STARTED``
is forward again after a partial rollback (``rollback --to``). A skipped step can have acted before
a person left it out; a rollback takes that back. ``ROLLBACK_FAILED → APPLIED`` or ``ERRORED``: the
undo could not begin as nobody knew what came of the doing, and a person has said it."""

FINISHED = frozenset({_S.VERIFIED, _S.SKIPPED})
"""Steps after it may start."""

TOUCHED = frozenset({_S.STARTED, _S.APPLIED, _S.VERIFIED, _S.FAILED, _S.ERRORED, _S.IN_DOUBT,
                     _S.SKIPPED, _S.UNDOING, _S.ROLLBACK_FAILED})
"""A rollback has to look at it, provided that it had an intent."""


class IllegalTransition(ValueError):
    """The journal and the code disagree about what may follow what."""


def check_transition(node: str, old: NodeState, new: NodeState) -> None:
    """Raises IllegalTransition."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"{node}: {old} cannot become {new}")


class RunPhase(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    HELD = "held"
    """Stopped at a failure; waits for a decision."""
    ROLLING_BACK = "rolling_back"
    DONE = "done"
    ROLLED_BACK = "rolled_back"
    NOT_RESTORED = "not_restored"
    ABORTED = "aborted"
