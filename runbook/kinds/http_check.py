"""The kind ``http.check``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, ConfigDict, Field

from runbook.errors import Errored
from runbook.kinds._shared import VIA_HELP, CheckKind, Duration, Names, Numbers, via_or_from
from runbook.kinds.needs_common import Seen, need
from runbook.model.duration import format_duration
from runbook.model.need import ANY_STEP, Need
from runbook.model.observation import Observation, Verdict
from runbook.model.ports import HttpResponse, Reads

_EXCERPT = 300


class HttpCheck(CheckKind):
    """Ask a web server, and hold its answer against what is expected.

    Every sample is a new connection to a newly resolved address, without a proxy. `via` asks
    from the machines named there, which resolve the name themselves: that is how a new address
    is proven from both sites. `connect_to` asks a server before DNS points at it, with the name
    and the certificate of the URL.

    Redirections are answers like any other, unless `follow` is set. All samples of all vantage
    points must hold.
    """

    model_config = ConfigDict(json_schema_extra=via_or_from)

    name: ClassVar[str] = "http.check"
    by_keys: ClassVar[bool] = True
    scope: ClassVar[Literal["host", "controller", "either"]] = "either"
    output_names: ClassVar[dict[str, str]] = {
        "status": "status of the last sample; 0 where no answer came",
        "slowest": "seconds of the slowest sample",
        "addresses": "the addresses that answered, sorted",
    }
    example: ClassVar[str] = """\
- id: shop-answers
  kind: http.check
  with:
    url: https://shop.example/health
    status: 200
    contains: '"site": "west"'
    samples: 10
    via: [east-probe, west-probe]
  poll: {every: 5s, timeout: 2m, stable: 3}
"""

    url: str = Field(pattern=r"(?i)^https?://[^/\s]", description="What to ask for.")
    method: Literal["GET", "HEAD"] = Field(default="GET", description="How to ask.")
    headers: dict[str, str] = Field(
        default_factory=dict, description="Header fields of the request; secrets may stand there."
    )
    status: Numbers = Field(
        default=(200,), description="The status expected, or a list of those allowed."
    )
    contains: str | None = Field(default=None, description="Text that must be in the body.")
    not_contains: str | None = Field(
        default=None, description="Text that must not be in the body."
    )
    header: dict[str, str] = Field(
        default_factory=dict,
        description="Header fields the answer must have, each with a text it must contain.",
    )
    samples: int = Field(default=1, ge=1, le=1000, description="How often to ask.")
    via: Names = Field(
        default=(), validation_alias=AliasChoices("via", "from"), description=VIA_HELP
    )
    connect_to: str | None = Field(
        default=None,
        description="Address, or `address:port`, to connect to in place of the URL's host.",
    )
    timeout: Duration = Field(default=10.0, description="For one whole request.")
    max_ms: float | None = Field(
        default=None, gt=0, description="Milliseconds that no sample may exceed."
    )
    follow: bool = Field(default=False, description="Follow redirections.")
    verify_tls: bool = Field(
        default=True, description="Refuse a certificate that is not valid for the name."
    )

    def named_hosts(self) -> tuple[str, ...]:
        return self.via

    def observe(self, reads: Reads) -> Observation:
        samples = [
            self._ask(reads, via) for _ in range(self.samples) for via in self.via or (None,)
        ]
        state = {"holds": all(not sample["faults"] for sample in samples)}
        return Observation(state=state, evidence={"samples": samples}, at=reads.now())

    def verify(self, before: Observation, after: Observation) -> Verdict:
        samples = after.evidence.get("samples", [])
        bad = [sample for sample in samples if sample["faults"]]
        slowest = max((sample["elapsed"] for sample in samples), default=0.0)
        addresses: list[str] = sorted({s["address"] for s in samples if s["address"]})
        outputs = {
            "status": samples[-1]["status"] if samples else 0,
            "slowest": round(slowest, 6),
            "addresses": addresses,
        }
        if samples and not bad:
            count = f"{len(samples)} answers" if len(samples) > 1 else "1 answer"
            where = ", ".join(addresses)
            told = f"{count} as expected, the slowest in {format_duration(slowest)}"
            return Verdict(ok=True, seen=f"{told}{f' ({where})' if where else ''}",
                           outputs=outputs)
        faults = list(dict.fromkeys(_words(sample) for sample in bad))
        told = f"{len(bad)} of {len(samples)} answers are not as expected: " + "; ".join(faults[:3])
        return Verdict(ok=False, seen=told, outputs=outputs)

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """Of an `https` URL a certificate that outlasts the window, by two weeks at best."""
        if not self.verify_tls or urlsplit(self.url).scheme.lower() != "https":
            return ()
        return tuple(self._certificate(reads, via) for via in self.via or (None,))

    def preview(self) -> tuple[str, ...]:
        allowed = " or ".join(map(str, self.status))
        line = f"{self.method} {self.url}: {allowed}"
        if self.contains is not None:
            line += f", contains {self.contains!r}"
        if self.samples > 1:
            line += f", {self.samples} times"
        return (line + (f", from {', '.join(self.via)}" if self.via else ""),)

    def _ask(self, reads: Reads, via: str | None) -> dict[str, Any]:
        answer = reads.net.http(
            self.url, method=self.method, headers=self.headers, timeout=self.timeout, via=via,
            connect_to=self.connect_to, follow=self.follow, verify_tls=self.verify_tls,
        )
        faults = self._faults(answer)
        return {
            "via": via, "status": answer.status, "address": answer.address,
            "elapsed": round(answer.elapsed, 6), "faults": faults,
            "excerpt": answer.body[:_EXCERPT] if faults else "",
        }

    def _certificate(self, reads: Reads, via: str | None) -> Need:
        url = urlsplit(self.url)
        name = url.hostname or ""
        where = f" as {via} sees it" if via else ""

        def look() -> Seen:
            host, port = name, url.port or 443
            if self.connect_to is not None:
                given = urlsplit(f"//{_bracketed(self.connect_to)}")
                host, port = given.hostname or host, given.port or port
            found = reads.net.certificate(
                host, port, name=name, timeout=self.timeout, via=via
            )
            if not found.not_after:
                raise Errored(found.error or "no certificate")
            until = datetime.fromtimestamp(found.not_after, UTC).strftime("%Y-%m-%d")
            if found.error:
                return Seen(False, f"until {until}: {found.error}", fact=until)
            return Seen(True, f"by {found.issuer}, until {until}", fact=until,
                        ends=found.not_after)

        found = need(
            f"the certificate of {name} is good{where}", look,
            hint="renew it, and see that the server has loaded it",
        )
        # A server that an earlier step starts shows none yet.
        return found if found.ok is not None else found.model_copy(update={"made_by": (ANY_STEP,)})

    def _faults(self, answer: HttpResponse) -> list[str]:
        if answer.status == 0:
            return [answer.error or "no answer"]
        faults = []
        if answer.status not in self.status:
            faults.append(f"status {answer.status}")
        if self.contains is not None and self.contains not in answer.body:
            faults.append(f"the body does not contain {self.contains!r}")
        if self.not_contains is not None and self.not_contains in answer.body:
            faults.append(f"the body contains {self.not_contains!r}")
        fields = {key.lower(): value for key, value in answer.headers.items()}
        for key, part in self.header.items():
            value = fields.get(key.lower())
            if value is None:
                faults.append(f"no header field {key}")
            elif part not in value:
                faults.append(f"{key} is {value!r}")
        if self.max_ms is not None and answer.elapsed * 1000 > self.max_ms:
            faults.append(f"it took {format_duration(answer.elapsed)}")
        return faults


def _bracketed(place: str) -> str:
    """An IPv6 address as a URL has it."""
    return f"[{place}]" if place.count(":") > 1 and not place.startswith("[") else place


def _words(sample: dict[str, Any]) -> str:
    where = f"from {sample['via']}: " if sample["via"] else ""
    address = f" ({sample['address']})" if sample["address"] else ""
    return f"{where}{', '.join(sample['faults'])}{address}"
