"""The kind ``capacity.check``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from runbook.errors import Errored, RunbookError
from runbook.kinds._capacity import (
    CONDITION,
    UNITS,
    clock,
    free_disk,
    free_inodes,
    meets,
    memory,
    offers,
    offers_like,
    package_version,
    program_version,
    shown,
)
from runbook.kinds._shared import CheckKind, Duration, Names, Plain, whose
from runbook.model.duration import format_duration
from runbook.model.observation import Observation, Verdict
from runbook.model.ports import HostReads, Reads


def _size(value: object) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
    if isinstance(value, bool) or found is None:
        raise ValueError(f"{value!r} is not a size; write it like 500M or 20G")
    return int(float(found[1]) * UNITS[found[2].upper()])


Size = Annotated[
    int, BeforeValidator(_size), WithJsonSchema({"type": ["string", "integer"], "format": "size"}),
]
"""Bytes, written ``500M`` or ``20G``; units are powers of 1024."""


def _condition(text: str) -> str:
    if text not in {"any", "same"} and not all(
        CONDITION.fullmatch(part) for part in text.split(",")
    ):
        raise ValueError(
            f"{text!r} is not a condition; write it like '>=15', '>=15,<16', 'any' or 'same'"
        )
    return text


Condition = Annotated[str, AfterValidator(_condition)]


def _place(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"{text!r} is not of the form address:port")
    return text


Place = Annotated[str, AfterValidator(_place)]


class CapacityCheck(CheckKind):
    """See whether a host has what the move will need, before anything starts.

    Room on disks, memory, versions of programs and packages, extensions of databases, the clock,
    and TLS certificates: all that is asked for is looked at, and everything that is not enough is
    told together, each with what was seen.

    A version is given as a condition: `>=15`, `>=15,<16`, `any`, or `same` as on the host that
    `like` names. Of a certificate the names, the dates and the chain are proven, as a client would
    that asks this place for the name; no DNS has to lead there yet.

    The clock is compared with that of the controller, between two looks at it: what the way there
    and back takes counts for the host.
    """

    name: ClassVar[str] = "capacity.check"
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    estimate: ClassVar[float] = 3.0
    output_names: ClassVar[dict[str, str]] = {
        "items": "list of {item, ok, seen}: everything that was looked at",
        "failed": "how many of them are not enough",
    }
    example: ClassVar[str] = """\
- id: west-is-fit
  kind: capacity.check
  hosts: west and db
  with:
    disk: {/var/lib: 200G}
    inodes: {/var/lib: 100000}
    memory: 16G
    programs: {rsync: ">=3.2"}
    packages: {postgresql-15: same, libc6: same}
    like: east-db1
    extensions: {west: [pg_trgm]}
    clock: 500ms
    certificates: {shop.example: "203.0.113.10:443"}
"""

    disk: dict[Plain, Size] = Field(
        default_factory=dict, description="By path: how much has to be free there."
    )
    inodes: dict[Plain, int] = Field(
        default_factory=dict, description="By path: how many files there must be room for."
    )
    memory: Size | None = Field(default=None, description="Memory that it has to have in all.")
    memory_available: Size | None = Field(
        default=None, description="Memory that has to be available now."
    )
    programs: dict[Plain, Condition] = Field(
        default_factory=dict, description="By program: the condition on its version."
    )
    packages: dict[Plain, Condition] = Field(
        default_factory=dict, description="By package (dpkg or rpm): the condition on its version."
    )
    like: str | None = Field(
        default=None, description="Host whose versions `same` means: usually the old side's."
    )
    extensions: dict[str, Names] = Field(
        default_factory=dict, description="By database: extensions (PostgreSQL) or active plugins "
        "(MySQL) it has to offer.",
    )
    extensions_like: dict[str, str] = Field(
        default_factory=dict, description="By database: another one, all of whose extensions or "
        "plugins it has to offer.",
    )
    clock: Duration | None = Field(
        default=None, description="How much its clock may differ from the controller's."
    )
    certificates: dict[str, Place] = Field(
        default_factory=dict, description="By name: `address:port` of the TLS server that has to "
        "present a certificate for it.",
    )
    certificate_left: Duration = Field(
        default=14 * 86400.0, description="How long certificates have to be valid from now."
    )
    via: str | None = Field(
        default=None, description="Host of the inventory to ask for certificates from."
    )

    def named_hosts(self) -> tuple[str, ...]:
        return tuple(one for one in (self.like, self.via) if one is not None)

    @model_validator(mode="after")
    def _something(self) -> Self:
        rest = {"like", "via", "certificate_left"}
        asked = [getattr(self, name) for name in self.model_fields_set - rest]
        if all(one in (None, {}) for one in asked):
            raise ValueError("say what it has to have: `disk`, `memory`, `programs`, …")
        if self.like is None and "same" in {*self.programs.values(), *self.packages.values()}:
            raise ValueError("`same` needs `like`: the host to compare with")
        return self

    def databases(self) -> tuple[str, ...]:
        return (*self.extensions, *self.extensions_like, *self.extensions_like.values())

    def observe(self, reads: Reads) -> Observation:
        items, unknown = [], []
        for name, look in self._looks(reads):
            try:
                ok, seen = look()
            except RunbookError as fault:
                ok, seen = False, f"cannot be seen: {fault.message}"
                unknown.append(f"{name}: {fault.message}")
            items.append({"item": name, "ok": ok, "seen": seen})
        if items and len(unknown) == len(items):
            raise Errored(unknown[0])
        return Observation(
            state={"enough": all(one["ok"] for one in items)},
            evidence=whose(reads) | {"items": items}, unknown=tuple(unknown), at=reads.now(),
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        items = after.evidence["items"]
        bad = [one for one in items if not one["ok"]]
        outputs = {"items": items, "failed": len(bad)}
        if bad:
            told = "; ".join(f"{one['item']}: {one['seen']}" for one in bad)
            return Verdict(
                ok=False, seen=f"{len(bad)} of {len(items)} are not enough: {told}",
                outputs=outputs,
            )
        return Verdict(
            ok=True, outputs=outputs,
            seen="; ".join(f"{one['item']}: {one['seen']}" for one in items),
        )

    def preview(self) -> tuple[str, ...]:
        lines = [f"{path}: {shown(size)} free" for path, size in self.disk.items()]
        lines += [f"{path}: room for {count} files" for path, count in self.inodes.items()]
        if self.memory is not None:
            lines.append(f"{shown(self.memory)} of memory")
        if self.memory_available is not None:
            lines.append(f"{shown(self.memory_available)} of memory available")
        lines += [f"{name} {wanted}" for name, wanted in (self.programs | self.packages).items()]
        lines += [f"{name} offers {', '.join(more)}" for name, more in self.extensions.items()]
        lines += [f"{one} offers what {other} has" for one, other in self.extensions_like.items()]
        if self.clock is not None:
            lines.append(f"the clock differs by no more than {format_duration(self.clock)}")
        lines += [f"{place} has a certificate for {name}, good for "
                  f"{format_duration(self.certificate_left)}"
                  for name, place in self.certificates.items()]
        return tuple(lines)

    def _looks(self, reads: Reads) -> Iterator[tuple[str, Callable[[], tuple[bool, str]]]]:
        """Each thing to look at: its name, and how to."""
        here = reads.here
        for path, size in self.disk.items():
            yield f"disk {path}", partial(free_disk, here, path, size)
        for path, count in self.inodes.items():
            yield f"files {path}", partial(free_inodes, here, path, count)
        for key, label, least in (
            ("MemTotal", "memory", self.memory),
            ("MemAvailable", "memory available", self.memory_available),
        ):
            if least is not None:
                yield label, partial(memory, here, key, least)
        asked = [(name, wanted, program_version) for name, wanted in self.programs.items()]
        asked += [(name, wanted, package_version) for name, wanted in self.packages.items()]
        for name, wanted, ask in asked:
            yield name, partial(self._version, reads, name, wanted, ask)
        for name, more in self.extensions.items():
            yield f"database {name}", partial(offers, reads, name, dict.fromkeys(more, ""))
        for name, other in self.extensions_like.items():
            yield f"database {name} like {other}", partial(offers_like, reads, name, other)
        if self.clock is not None:
            yield "clock", partial(clock, reads, self.clock)
        for name, place in self.certificates.items():
            yield f"certificate of {name}", partial(self._certificate, reads, name, place)

    def _version(
        self, reads: Reads, name: str, wanted: str, ask: Callable[[HostReads, str], str]
    ) -> tuple[bool, str]:
        found = ask(reads.here, name)
        if not found:
            return False, "not there"
        if wanted == "same":
            other = ask(reads.on(self.like), name)
            told = f"{found}, as on {self.like}" if found == other else (
                f"{found}, and on {self.like} {other or 'there is none'}"
            )
            return found == other, told
        ok = wanted == "any" or meets(found, wanted)
        return ok, found if ok else f"{found}, wanted {wanted}"

    def _certificate(self, reads: Reads, name: str, place: str) -> tuple[bool, str]:
        host, _, port = place.rpartition(":")
        found = reads.net.certificate(
            host.removeprefix("[").removesuffix("]"), int(port), name=name, via=self.via
        )
        if not found.not_after:
            return False, f"{place}: {found.error or 'no certificate'}"
        until = datetime.fromtimestamp(found.not_after, UTC).strftime("%Y-%m-%d")
        told = f"for {', '.join(found.names) or found.subject}, by {found.issuer}, until {until}"
        if found.error:
            return False, f"{told}: {found.error}"
        left = found.not_after - reads.now()
        if left < self.certificate_left:
            return False, (f"{told}: {format_duration(left)} left, wanted "
                           f"{format_duration(self.certificate_left)}")
        return True, told
