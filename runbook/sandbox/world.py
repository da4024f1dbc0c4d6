"""The world process: builds everything a plan needs, serves it, and takes it all away again."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncssh

from runbook.errors import InvalidInput
from runbook.model.endpoints import Endpoints, SshEndpoint
from runbook.model.inventory import Host
from runbook.model.plan import Plan
from runbook.sandbox.clock import WorldClock
from runbook.sandbox.config import SandboxConfig
from runbook.sandbox.control import ControlServer
from runbook.sandbox.faults import Fault, invalid
from runbook.sandbox.fingerprint import Fingerprint, scan
from runbook.sandbox.hosts import HostSpace, make_host, place_files
from runbook.sandbox.names import NameService
from runbook.sandbox.processes import end_marked
from runbook.sandbox.programs import PortReserve, Program, systemctl
from runbook.sandbox.proxy import HttpProxy
from runbook.sandbox.routes import (
    LeadsNowhere,
    Router,
    endpoint_table,
    host_addresses,
    is_address,
)
from runbook.sandbox.sshd import HostServer
from runbook.templating.values import did_you_mean

CONTROLLER = "controller"
"""Name of the folder of shims for commands that run on the controller itself."""

_PORT_HINT = (
    "a program must listen at 127.0.0.1 and the port that its environment names, $PORT for the "
    "first of `listen:` (or $PORT_80 for 80), not at that one itself; see `runbook explain sandbox`"
)


class SandboxWorld:
    """All parts of one world. ``start`` and ``stop`` run in the same event loop."""

    def __init__(
        self, plan: Plan, config: SandboxConfig, config_path: Path, directory: Path
    ) -> None:
        self._plan = plan
        self._config = config
        self._config_path = config_path
        self._directory = directory
        self._id = uuid.uuid4().hex
        self._clock = WorldClock(directory / "clock")
        self._router = Router()
        self._ports = PortReserve()
        self._spaces: dict[str, HostSpace] = {}
        self._addresses = host_addresses(plan.inventory, config)
        self._programs: dict[str, dict[str, Program]] = {}
        self._servers: dict[str, HostServer] = {}
        self._names = NameService(plan, config, config_path, self._clock)
        self._proxies: list[HttpProxy] = []
        self._control = ControlServer(
            directory,
            {
                "ping": self._ping, "systemctl": self._systemctl, "cut": self._cut,
                "fingerprint": self._fingerprint, "run": self._run,
            },
        )

    async def start(self) -> Endpoints:
        """Build the world. Raises InvalidInput when sandbox.yml does not fit the plan."""
        self._check()
        (self._directory / "world.json").write_text(json.dumps({"id": self._id}))
        for host in self._plan.inventory.hosts:
            for name in (host.name, host.address):
                if not is_address(name):
                    self._router.names[name] = self._addresses[host.name][0]
        await asyncio.to_thread(self._names.start, self._router.names)
        self._router.resolvers.update(self._names.resolvers)
        (self._directory / "names.json").write_text(
            json.dumps({"authoritative": self._names.authoritative})
        )
        for host in self._plan.inventory.hosts:
            await self._make_host(host)
        controller = await self._make_controller()
        listens = {
            place: port for one in self._programs.values() for program in one.values()
            for place, port in self._places(program)
        }
        try:
            self._router.table.update(endpoint_table(listens, self._config.routes))
        except LeadsNowhere as fault:
            raise self._invalid([Fault(
                ("routes", fault.place), f"nothing listens at {fault.leads_to}",
                did_you_mean(fault.leads_to, listens),
            )]) from fault
        ssh = await self._start_ssh()
        await self._control.start()
        await self._start_programs()
        endpoints = Endpoints(
            ssh=ssh, tcp=dict(self._router.table), dns=self._names.endpoints,
            resolver=f"127.0.0.1:{self._names.resolvers['']}",
            clock=str(self._clock.path), names=dict(self._router.names),
            secrets=dict(self._config.secrets), controller=controller,
            tsig=dict(self._names.tsig),
        )
        (self._directory / "endpoints.json").write_text(endpoints.model_dump_json(indent=1))
        (self._directory / "ready").touch()
        return endpoints

    async def stop(self) -> None:
        """End every process, close every port, remove every file."""
        await self._control.stop()
        for server in self._servers.values():
            await server.stop()
        for proxy in self._proxies:
            await proxy.stop()
        await asyncio.gather(
            *(program.stop() for one in self._programs.values() for program in one.values())
        )
        await asyncio.to_thread(self._names.stop)
        await asyncio.to_thread(end_marked, self._id)
        self._ports.release()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _invalid(self, faults: list[Fault]) -> InvalidInput:
        return invalid(self._config_path, faults)

    def _check(self) -> None:
        unknown = [name for name in self._config.hosts if not self._plan.inventory.get(name)]
        if unknown:
            known = [host.name for host in self._plan.inventory.hosts]
            raise self._invalid([
                Fault(("hosts", name), "not in the inventory", did_you_mean(name, known), key=True)
                for name in unknown
            ])

    async def _make_host(self, host: Host) -> None:
        proxy = HttpProxy(self._router, host.site)
        self._proxies.append(proxy)
        space = make_host(
            self._directory, host.name, world_id=self._id,
            also_known_as=(host.address, *self._addresses[host.name]),
            env={"RUNBOOK_SANDBOX_SITE": host.site, **proxy_variables(await proxy.start())},
        )
        self._spaces[host.name] = space
        config = self._config.hosts.get(host.name)
        self._programs[host.name] = {}
        if config is None:
            return
        place_files(space, config.files, self._config_path.parent)
        logs = self._directory / "logs"
        logs.mkdir(exist_ok=True)
        for item in config.programs:
            self._programs[host.name][item.name] = Program(
                config=item, space=space, enabled=item.enabled,
                ports={str(port).rpartition(":")[2]: self._ports.take() for port in item.listen},
                log=logs / f"{host.name}-{item.name}.log",
            )

    async def _make_controller(self) -> dict[str, str]:
        """Shims for commands the controller runs itself: ssh, rsync, curl reach the world only."""
        proxy = HttpProxy(self._router, "")
        self._proxies.append(proxy)
        space = make_host(
            self._directory, CONTROLLER, world_id=self._id,
            env=proxy_variables(await proxy.start()),
        )
        return dict(space.env)

    def _places(self, program: Program) -> list[tuple[str, int]]:
        out = []
        for item in program.config.listen:
            address, _, port = str(item).rpartition(":")
            addresses = [address] if address else self._addresses[program.space.name]
            out += [(f"{one}:{port}", program.ports[port]) for one in addresses]
        return out

    async def _start_ssh(self) -> dict[str, SshEndpoint]:
        keys = self._directory / "keys"
        keys.mkdir(mode=0o700)
        user_key = asyncssh.generate_private_key("ssh-ed25519", "sandbox")
        identity, known_hosts = keys / "id_ed25519", keys / "known_hosts"
        user_key.write_private_key(str(identity))
        identity.chmod(0o600)
        authorized = keys / "authorized_keys"
        user_key.write_public_key(str(authorized))
        found: dict[str, SshEndpoint] = {}
        known: list[str] = []
        for host in self._plan.inventory.hosts:
            host_key = asyncssh.generate_private_key("ssh-ed25519", host.name)
            server = HostServer(
                self._spaces[host.name], site=host.site, router=self._router,
                host_key=host_key, authorized_keys=authorized,
            )
            self._servers[host.name] = server
            port = await server.start()
            public = host_key.export_public_key().decode().rsplit(" ", 1)[0].strip()
            known.append(f"[127.0.0.1]:{port} {public}\n")
            found[host.name] = SshEndpoint(
                address="127.0.0.1", port=port,
                user=host.user or self._spaces[host.name].env["USER"],
                identity=str(identity), known_hosts=str(known_hosts),
            )
            for address in (host.name, host.address, *self._addresses[host.name]):
                self._router.table.setdefault(f"{address}:{host.port or 22}", f"127.0.0.1:{port}")
        known_hosts.write_text("".join(known))
        return found

    async def _start_programs(self) -> None:
        wanted = [
            program for one in self._programs.values() for program in one.values()
            if program.config.start
        ]
        faults = await asyncio.gather(*(program.start() for program in wanted))
        wrong = [
            self._did_not_start(program, fault)
            for program, fault in zip(wanted, faults, strict=True) if fault
        ]
        if wrong:
            raise self._invalid(wrong)

    def _did_not_start(self, program: Program, why: str) -> Fault:
        config = program.config
        host = program.space.name
        index = self._config.hosts[host].programs.index(config)
        return Fault(
            ("hosts", host, "programs", index), f"the program {config.name} {why}",
            _PORT_HINT if config.listen else "",
        )

    async def _ping(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": self._id}

    async def _systemctl(self, request: Mapping[str, Any]) -> dict[str, Any]:
        said = await systemctl(self._programs[request["host"]], list(request["args"]))
        return {"exit": said.exit, "stdout": said.stdout, "stderr": said.stderr}

    async def _cut(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"connections": self._servers[request["host"]].cut()}

    async def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A command in a host's folder, past SSH: for audits and tests."""
        space = self._spaces[request["host"]]
        child = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", request["command"], cwd=space.home, env=dict(space.env),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )
        out, err = await child.communicate()
        return {
            "exit": child.returncode,
            "stdout": out.decode(errors="replace"), "stderr": err.decode(errors="replace"),
        }

    async def _fingerprint(self, _: Mapping[str, Any]) -> dict[str, Any]:
        def files() -> dict[str, dict[str, str]]:
            out = {}
            for name, space in self._spaces.items():
                config = self._config.hosts.get(name)
                out[name] = scan(
                    space.home, config.volatile if config else (), config.live if config else ()
                )
            return out

        value = Fingerprint(
            files=await asyncio.to_thread(files),
            zones=await asyncio.to_thread(self._names.snapshot),
            services={
                f"{host}/{name}": f"{item.state} {'enabled' if item.enabled else 'disabled'}"
                for host, one in self._programs.items() for name, item in one.items()
            },
        )
        return value.model_dump(mode="json")


def proxy_variables(port: int) -> dict[str, str]:
    """The environment that makes curl, wget and Python's urllib go through the proxy."""
    url = f"http://127.0.0.1:{port}"
    return {
        key: url for name in ("http_proxy", "https_proxy", "all_proxy")
        for key in ((name,) if name == "http_proxy" else (name, name.upper()))
    }
