"""Why a connection could not be opened, in words for the operator."""

from __future__ import annotations

import getpass
import socket
from typing import Any

import paramiko

from runbook.errors import Errored
from runbook.model.inventory import Host


def opening_fault(host: Host, connection: Any, fault: BaseException) -> Errored | None:
    """The fault in words for the operator; None for what is not a fault of connecting."""
    if isinstance(fault, Errored):
        return fault
    place = f"{host.name} ({connection.user}@{connection.host}:{connection.port})"
    after = "; nothing was changed there"
    if isinstance(fault, paramiko.PasswordRequiredException):
        return Errored(
            f"{place}: the private key has a passphrase{after}",
            hint="load it into the agent (ssh-add) before you start",
        )
    if isinstance(fault, paramiko.AuthenticationException) or _no_key(fault):
        return Errored(
            f"{place}: login refused ({fault}){after}",
            hint=f"try `ssh {connection.original_host}` as {getpass.getuser()}; check user, key "
            "and agent",
        )
    if isinstance(fault, socket.gaierror):
        return Errored(
            f"{place}: the name cannot be resolved ({fault.strerror}){after}",
            hint="mend `address:` of the inventory, or the resolver of this machine",
        )
    if isinstance(fault, OSError | EOFError | paramiko.SSHException):
        reason = str(fault) or type(fault).__name__
        return Errored(
            f"{place}: no connection ({reason}){after}",
            hint="is the machine up, is its port open, does the way there (jump) work?",
        )
    if isinstance(fault, ValueError):
        # paramiko's and fabric's complaint about keys and options they cannot use.
        return Errored(f"{place}: cannot connect with this configuration ({fault}){after}")
    return None


def _no_key(fault: BaseException) -> bool:
    """paramiko's word for having nothing to log in with."""
    return "No authentication methods available" in str(fault)


def dropped(fault: BaseException | None) -> bool:
    """Whether the server hung up before it had said who it is: nobody was let in."""
    return isinstance(fault, paramiko.SSHException) and "protocol banner" in str(fault)
