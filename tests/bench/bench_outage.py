"""How long nobody can order while the shop of examples/web-postgres moves.

``python -m tests.bench.bench_outage --runs 10`` prints a table as Markdown. Outside customers send
about 150 requests a second in the lab (tests/lab, root, Linux); the outage is the longest time in
which no order was acknowledged. Each run measures, one after the other and each from the same
beginning: the move by hand, which is the floor (by_hand.py), also with a quicker stop of the old
database than a hand would use; by the example's runbook; and by an Ansible playbook that does the
same (ansible/move.yml), where ansible-core is installed. Figures are medians in seconds, ratios
medians of the runs' own ratios. Orders that were acknowledged and are not in the new database are
counted; a move without a freeze shows that they would be found.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.by_hand import WEST
from tests.lab import needs, web_postgres
from tests.lab.lab import Lab
from tests.lab.names import KEY_NAME, KEY_SECRET, PRIMARY
from tests.lab.postgres import DATA, SOCKETS, programs
from tests.lab.processes import wait_for
from tests.lab.switchover import NEW, OLD, PASSWORD
from tests.lab.web_postgres import ROOT, VARIANTS, Customers, Move, back_to_the_start, orders_at

HAND, QUICK, OURS, ANSIBLE = "by hand", "by hand + quick stop", "Runbook", "Ansible"
NAIVE = "no freeze"
ROWS = 400_000
"""Of the archive: the database has about 65 MB."""


@dataclass(frozen=True)
class Seen:
    write_outage: float
    read_outage: float
    failed: int
    acknowledged: int
    lost: int


def ssh(lab: Lab, host: str) -> list[str]:
    return ["ssh", "-T", "-F", "none", "-o", "BatchMode=yes", "-o",
            f"UserKnownHostsFile={lab.known_hosts}", "-o", "IdentityAgent=none", "-i",
            str(lab.login_key), f"root@{host}"]


def by_hand(lab: Lab, folder: Path, variant: str, stop: str = "pg_ctl") -> None:
    process = subprocess.Popen(
        lab.at("control", sys.executable, "-m", "tests.bench.by_hand", variant, stop,
               *ssh(lab, OLD)),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        _settle()
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()


def _settle() -> None:
    """A lowered TTL of the zone has become that of every cache: 4 s, and the rounding."""
    time.sleep(5.5)


def by_runbook(lab: Lab, folder: Path, variant: str) -> None:
    move = Move(lab, folder / "move", variant)
    assert move.run() == 0, move.log


def by_ansible(lab: Lab, folder: Path, variant: str) -> None:
    options = " ".join(ssh(lab, "")[2:-1])
    key = folder / "key"
    key.write_text(f'key "{KEY_NAME}" {{ algorithm hmac-sha256; secret "{KEY_SECRET}"; }};\n')
    (folder / "hosts").write_text(f"[web]\n{OLD}\n{NEW}\n[web:vars]\nansible_user=root\n"
                                  "ansible_python_interpreter=/usr/bin/python3\n")
    begin = folder / "begin"
    sql = f"env PGPASSWORD={PASSWORD} {programs()}/psql -X -At -q -U"
    update = [f"server {PRIMARY}", "zone shop.example", f"key hmac-sha256:{KEY_NAME} {KEY_SECRET}"]
    for name in ("shop.example.", "img.shop.example."):
        update += [f"update delete {name} A", f"update add {name} 1 A {WEST}"]
    update += ["update delete shop.example. TXT",
               f'update add shop.example. 1 TXT "v=spf1 ip4:{WEST} -all"', "send"]
    extra = folder / "vars.json"
    extra.write_text(json.dumps({
        "variant": variant, "begin": str(begin), "bin": programs(), "data": DATA,
        "psql": f"{sql} postgres -h {SOCKETS} -d shop",
        "console": f"{sql} runbook -h 127.0.0.1 -p 6432 -d pgbouncer",
        "update": "\n".join(update),
    }))
    with (folder / "ansible.log").open("wb") as log:
        process = lab.start(
            "control", str(Path(sys.executable).with_name("ansible-playbook")), "-i",
            str(folder / "hosts"), "-e", f"@{extra}",
            str(ROOT / "tests" / "bench" / "ansible" / "move.yml"), output=log,
            env={"ANSIBLE_PIPELINING": "True", "ANSIBLE_SSH_ARGS":
                 f"-o ControlMaster=auto -o ControlPersist=60s {options}",
                 "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"), "HOME": str(folder),
                 "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                 "ANSIBLE_LOCALHOST_WARNING": "False"},
        )
    if variant == "dns-only":
        _lower_ttl(lab)
    _settle()
    begin.touch()
    assert process.wait(120) == 0, (folder / "ansible.log").read_text()


def _lower_ttl(lab: Lab) -> None:
    lab.run("control", sys.executable, "-c",
            "from tests.bench.by_hand import EAST, flip; flip(to=EAST)",
            env={"PYTHONPATH": str(ROOT)})


WAYS: dict[str, Callable[[Lab, Path, str], None]] = {
    HAND: by_hand, QUICK: partial(by_hand, stop="quick"), OURS: by_runbook, ANSIBLE: by_ansible,
}


def measure(
    lab: Lab, folder: Path, way: Callable[[Lab, Path, str], None], variant: str
) -> Seen:
    back_to_the_start(lab)
    folder.mkdir(parents=True)
    with Customers(lab, folder) as customers:
        way(lab, folder, variant)
        # The last cache has forgotten the old address, and everybody who was kept has come back.
        wait_for("DNS or HAProxy leads to the new side", lambda: bool(
            customers.acknowledged & orders_at(lab, NEW)), 30)
        customers.more(100)
    acknowledged = customers.acknowledged
    return Seen(
        customers.outage(), customers.outage("read"), customers.failed_writes,
        len(acknowledged), len(acknowledged - orders_at(lab, NEW)),
    )


def table(seen: dict[tuple[str, str], list[Seen]]) -> str:
    lines = [
        "| variant | way | write outage s | × by hand | × quick stop | read outage s | "
        "writes failed | acknowledged | lost |", "|---" * 9 + "|",
    ]
    for (variant, way), runs in seen.items():
        ratios = [
            [a.write_outage / b.write_outage
             for a, b in zip(runs, seen.get((variant, floor), []), strict=False)]
            for floor in (HAND, QUICK)
        ]
        median = statistics.median
        lines.append(
            f"| {variant} | {way} | {median(r.write_outage for r in runs):.2f} "
            f"({min(r.write_outage for r in runs):.2f}–{max(r.write_outage for r in runs):.2f}) | "
            + " | ".join(f"{median(one):.2f}" if one and way != NAIVE else "–" for one in ratios)
            + f" | {median(r.read_outage for r in runs):.2f} | {median(r.failed for r in runs):.0f}"
            f" | {sum(r.acknowledged for r in runs)} | **{sum(r.lost for r in runs)}** |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--keep", type=Path, help="a folder for journals and what customers saw")
    options = parser.parse_args()
    if reason := needs.missing() or web_postgres.missing():
        print(f"skipped: {reason}", file=sys.stderr)
        return 0
    ways = {name: WAYS[name] for name in options.ways.split(",")}
    if not Path(sys.executable).with_name("ansible-playbook").exists():
        ways.pop(ANSIBLE, None)
    variants = options.variants.split(",")
    seen: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="outage-") as made, \
            web_postgres.open_shop(ROWS) as lab:
        place = options.keep or Path(made)
        for number in range(options.runs):
            for variant in variants:
                for name, way in ways.items():
                    found = measure(lab, place / f"{number}-{variant}-{name}".replace(" ", "-"),
                                    way, variant)
                    seen[variant, name].append(found)
                    print(number, variant, name, found, file=sys.stderr, flush=True)
            if number + 1 < options.runs:
                print(table(seen), file=sys.stderr, flush=True)
        naive = measure(lab, place / "naive", by_hand, "naive")
        seen["dns-only", NAIVE].append(naive)
    order = list(VARIANTS)
    ordered = dict(sorted(seen.items(), key=lambda item: order.index(item[0][0])))
    print(f"{options.runs} runs on {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
    print(table(ordered))
    lost = sum(one.lost for (_, way), runs in seen.items() if way != NAIVE for one in runs)
    if lost:
        print(f"{lost} acknowledged orders are lost", file=sys.stderr)
    if not naive.lost:
        print("the judge sees nothing: a move without a freeze lost no order", file=sys.stderr)
    return int(bool(lost) or not naive.lost)


if __name__ == "__main__":
    sys.exit(main())
