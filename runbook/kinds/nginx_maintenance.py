"""The kind ``nginx.maintenance``."""

from __future__ import annotations

import re
import shlex
from html.parser import HTMLParser
from typing import Any, ClassVar, Literal
from urllib.parse import urldefrag, urljoin, urlsplit

from pydantic import Field

from runbook.errors import Errored, Refused
from runbook.kinds._files import observe_file, put, put_back
from runbook.kinds._shared import Duration, Names, Plain, tail, whose
from runbook.kinds.needs_common import place
from runbook.model.actions import Action, FileContent
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import HttpResponse, Reads
from runbook.model.runbook import Poll

_LOADED_BY_LINK = {"stylesheet", "icon", "preload", "manifest", "apple-touch-icon"}


class NginxMaintenance(Kind):
    """Show nginx's fallback pages in place of the site, or the site again, without a reload.

    The switch is a *flag file* that nginx looks for at every request. Its configuration has to
    honour it, and to let the fallback page and what that loads through:

        error_page 503 @maintenance;
        location / {
            if (-f /run/shop/maintenance.on) { return 503; }
            proxy_pass http://app;
        }
        location @maintenance {
            root /srv/pages;
            add_header Retry-After 600 always;
            rewrite ^ /fallback/index.html break;
        }
        location /fallback/ { root /srv/pages; }

    Before anything is done `nginx -T` is searched for that `if`; a configuration without it is
    refused. Afterwards every `url` is really asked for: the fallback page has to come with
    `status`, with Retry-After where that is 503, and every style sheet, script and image that the
    page names has to load from the same place. Files on other hosts are not asked for, nor what a
    style sheet names. With `pages: hidden` the site has to answer below 500 again.

    Undone by the flag as it was: taken away where there was none, left where there was one.
    """

    name: ClassVar[str] = "nginx.maintenance"
    scope: ClassVar[Literal["host", "controller", "either"]] = "host"
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 2.0
    poll: ClassVar[Poll | None] = Poll(every=0.2, timeout=10.0)
    output_names: ClassVar[dict[str, str]] = {
        "statuses": "by URL: the statuses that were seen, sorted",
        "assets": "how many files of fallback pages were loaded",
    }
    example: ClassVar[str] = """\
- id: pages-up
  kind: nginx.maintenance
  hosts: east and web
  with:
    flag: /run/shop/maintenance.on
    url: http://shop.example/
    contains: back at two
"""

    pages: Literal["shown", "hidden"] = Field(
        default="shown", description="Whether visitors get the fallback pages, or the site."
    )
    flag: Plain = Field(
        pattern=r"^/[^\s;'\"{}()]+$", description="The flag file that the configuration looks for; "
        "below `/run` it is gone after a reboot.",
    )
    url: Names = Field(
        min_length=1, description="What visitors ask for: one URL, or a list of them."
    )
    status: int = Field(
        default=503, ge=200, le=599, description="Status that fallback pages come with."
    )
    contains: str | None = Field(
        default=None, description="Text that must be in a fallback page, and not in the site."
    )
    via: Names = Field(
        default=(), description="Hosts of the inventory to ask from. Not given: each host asks "
        "itself, on its loopback address.",
    )
    connect_to: str | None = Field(
        default=None, description="Address, or `address:port`, to connect to in place of the "
        "URL's host. Not given: that of the URL, or without `via` the loopback address.",
    )
    verify_tls: bool = Field(
        default=True, description="Refuse a certificate that is not valid for the name."
    )
    timeout: Duration = Field(default=10.0, description="For one whole request.")
    program: Plain = Field(default="nginx", description="The program, where it is not on PATH.")

    def named_hosts(self) -> tuple[str, ...]:
        return self.via

    def observe(self, reads: Reads) -> Observation:
        found = observe_file(reads, self.flag)
        done = reads.here.query(f"{shlex.quote(self.program)} -T")
        # Only who is about to put pages up needs it: a broken one must not be in the way back.
        broken = (tail(done.stderr) or f"exit status {done.exit_code}") if done.exit_code else ""
        own = whose(reads)["host"]
        answers = [
            self._ask(reads, url, via, self.connect_to or ("" if self.via else "127.0.0.1"))
            for url in self.url for via in self.via or (own,)
        ]
        evidence = {
            "broken": broken, "honoured": honours(done.stdout, self.flag), "answers": answers,
        }
        return found.model_copy(update={"evidence": found.evidence | evidence})

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """A configuration without faults that honours the flag, and a folder that takes it."""
        if seen is None or self.pages == "hidden":
            return ()
        made_by, broken = place(reads.here), str(seen.evidence["broken"])
        honoured = Need(
            what=f"nginx looks for {self.flag}",
            ok=None if broken else bool(seen.evidence["honoured"]),
            seen=broken or f"an `if (-f {self.flag})` in its configuration", made_by=made_by,
        )
        if honoured.ok is False:
            return (honoured.model_copy(update={
                "seen": f"its configuration has no `if (-f {self.flag})`",
                "hint": "`runbook explain nginx.maintenance` shows what it has to say",
            }),)
        return (honoured,)

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        words = ("the site", "the fallback pages")
        now = bool(seen.state["exists"])
        return tuple(f"{url}: {words[now]} → {words[not now]}" for url in self.url)

    def plan(self, before: Observation) -> Planned:
        exists = before.state["exists"]
        if exists and before.state["kind"] != "file":
            raise Refused(f"{self.flag} is a {before.state['kind']}, and nginx looks for a file")
        if self.pages == "hidden":
            if not exists:
                return Planned(reason=f"already done: there is no {self.flag}")
            return Planned(actions=(put(before, self.flag, None),))
        if before.evidence["broken"]:
            raise Errored(
                f"`{self.program} -T` does not show the configuration: "
                f"{before.evidence['broken']}",
                hint="it needs to run as root (`run_as`), and a configuration without faults",
            )
        if not before.evidence["honoured"]:
            raise Refused(
                f"nginx does not look for {self.flag}: its configuration has no "
                f"`if (-f {self.flag})`",
                hint="`runbook explain nginx.maintenance` shows what it has to say; reload nginx "
                "once, well before the move",
            )
        if exists:
            return Planned(reason=f"already done: {self.flag} is there")
        return Planned(actions=(put(before, self.flag, FileContent(text=""), mode="0644"),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        answers = after.evidence["answers"]
        statuses: dict[str, list[int]] = {}
        for one in answers:
            seen = statuses.setdefault(one["url"], [])
            statuses[one["url"]] = sorted({*seen, one["status"]})
        assets = [asset for one in answers for asset in one["assets"]]
        outputs = {"statuses": statuses, "assets": len(assets)}
        shown = self.pages == "shown"
        if after.state["exists"] != shown:
            there = "is there" if after.state["exists"] else "is not there"
            return Verdict(ok=False, seen=f"{self.flag} {there}", outputs=outputs)

        def where(one: dict[str, Any]) -> str:
            return f" from {one['via']}" if self.via else ""

        faults = [
            f"{one['url']}{where(one)}: {fault}"
            for one in answers
            for fault in (self._shown(one) if shown else self._open(one))
        ]
        if faults:
            return Verdict(ok=False, seen="; ".join(dict.fromkeys(faults)), outputs=outputs)
        told = "; ".join(f"{url} gives {_list(codes)}" for url, codes in statuses.items())
        if shown:
            told += f"; {len(assets)} files of the fallback pages load"
            elsewhere = sorted({name for one in answers for name in one["elsewhere"]})
            if elsewhere:
                told += f"; not asked for, on other hosts: {', '.join(elsewhere)}"
        return Verdict(ok=True, seen=told, outputs=outputs)

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Exactly: the flag file as it was, or none."""
        return put_back(before, self.flag)

    def preview(self) -> tuple[str, ...]:
        verb = "make" if self.pages == "shown" else "remove"
        wanted = str(self.status) if self.pages == "shown" else "below 500"
        return (f"{verb} {self.flag}", *(f"GET {url}: {wanted}" for url in self.url))

    def _ask(self, reads: Reads, url: str, via: str | None, connect_to: str) -> dict[str, Any]:
        def get(what: str) -> HttpResponse:
            return reads.net.http(
                what, via=via, connect_to=connect_to or None,
                timeout=self.timeout, verify_tls=self.verify_tls,
            )

        page = get(url)
        fields = {name.lower(): value for name, value in page.headers.items()}
        fallback = page.status == self.status
        same, elsewhere = _assets(url, page.body) if fallback else ([], [])
        assets = []
        for asset in same:
            found = get(asset)
            assets.append({"url": asset, "status": found.status, "error": found.error})
        return {
            "url": url, "via": via, "status": page.status, "error": page.error,
            "retry_after": fields.get("retry-after", ""),
            "contains": self.contains is None or self.contains in page.body,
            "assets": assets, "elsewhere": elsewhere,
        }

    def _shown(self, one: dict[str, Any]) -> list[str]:
        """What is wrong with an answer that should be the fallback page."""
        if one["status"] != self.status:
            return [one["error"] or f"status {one['status']}, not {self.status}"]
        faults = []
        if self.status == 503 and not one["retry_after"]:
            faults.append("the answer has no Retry-After")
        if not one["contains"]:
            faults.append(f"the page does not contain {self.contains!r}")
        faults += [
            f"{asset['url']} does not load ({asset['error'] or asset['status']})"
            for asset in one["assets"] if asset["status"] != 200
        ]
        return faults

    def _open(self, one: dict[str, Any]) -> list[str]:
        """What is wrong with an answer that should be the site's."""
        if one["status"] in {0, self.status} or one["status"] >= 500:
            return [one["error"] or f"still status {one['status']}"]
        if self.contains is not None and one["contains"]:
            return [f"the page still contains {self.contains!r}"]
        return []


def honours(configuration: str, flag: str) -> bool:
    """Whether a configuration (the output of ``nginx -T``) has an ``if`` on the flag file."""
    text = "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in configuration.splitlines())
    condition = rf"if\s*\(\s*-[fe]\s+([\"']?){re.escape(flag)}\1\s*\)"
    return re.search(condition, text) is not None


class _Links(HTMLParser):
    """Collects what a browser loads together with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and _LOADED_BY_LINK & set((given.get("rel") or "").lower().split()):
            self.found.append(given.get("href") or "")
        elif tag in {"script", "img", "source", "video", "audio", "iframe", "embed"}:
            self.found += [given.get("src") or "", given.get("poster") or ""]


def _assets(url: str, body: str) -> tuple[list[str], list[str]]:
    """(what the page loads from where it came from, other hosts it loads from)."""
    links = _Links()
    links.feed(body)
    links.close()
    here = urlsplit(url)
    same, elsewhere = [], []
    for link in dict.fromkeys(filter(None, map(str.strip, links.found))):
        full = urldefrag(urljoin(url, link)).url
        parts = urlsplit(full)
        if parts.scheme not in {"http", "https"}:
            continue
        if (parts.scheme, parts.netloc) == (here.scheme, here.netloc):
            same.append(full)
        elsewhere += [parts.netloc] if parts.netloc != here.netloc else []
    return list(dict.fromkeys(same)), sorted(set(elsewhere))


def _list(codes: list[int]) -> str:
    return " and ".join(map(str, codes))
