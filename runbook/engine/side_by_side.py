"""Work on several nodes of one step at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from runbook.engine.context import RunContext, Stopping
from runbook.model.plan import Node, PlannedStep


def batches(step: PlannedStep, todo: Sequence[Node]) -> Iterator[list[Node]]:
    """What is left of a step, in its batches. A ramp goes on where it was: nodes that are not
    left to do count as those of its first batches."""
    ramp = list(step.ramp)
    done = len(step.nodes) - len(todo)
    while ramp and done >= ramp[0]:
        done -= ramp.pop(0)
    left = list(todo)
    while left:
        size = ramp.pop(0) if ramp else step.batch or len(left)
        yield left[:size]
        left = left[size:]


def side_by_side(
    ctx: RunContext, nodes: Sequence[Node], work: Callable[[Node], object],
    stopping: threading.Event,
) -> None:
    """Work on nodes at the same time, as many as there are slots, each in a thread of its own.

    Raises what the work on one of them raised, and Stopping when ``stopping`` kept the rest from
    being started.
    """
    if len(nodes) == 1:
        with ctx.slots:
            work(nodes[0])
        return
    faults: list[BaseException] = []

    def body(node: Node) -> None:
        try:
            work(node)
        except BaseException as fault:  # noqa: BLE001 - raised again below, in the step's thread
            faults.append(fault)
        finally:
            ctx.slots.release()

    threads = []
    for node in nodes:
        ctx.slots.acquire()
        if faults or stopping.is_set():
            ctx.slots.release()
            break
        thread = threading.Thread(target=body, args=(node,), name=f"node {node.id}")
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    hard = [fault for fault in faults if not isinstance(fault, Stopping)]
    if hard:
        raise hard[0]
    if faults or len(threads) < len(nodes):
        raise Stopping
