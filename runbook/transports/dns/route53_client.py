"""The few calls of boto3 that are needed, with what is certain after each.

boto3 is imported when a zone wants it, never before: it is the extra ``route53``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runbook.errors import Errored, NotFound
from runbook.model.dns import Zone
from runbook.transports.dns.wire import KeyRefused, Unsure

_REGION = "us-east-1"
"""Route 53 has one endpoint for the whole world; boto3 wants a region all the same."""

_READ_ATTEMPTS = 4
_KEY_CODES = {
    "AccessDenied", "AccessDeniedException", "ExpiredToken", "IncompleteSignature",
    "InvalidClientTokenId", "MissingAuthenticationToken", "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_LATER_CODES = {
    "PriorRequestNotComplete", "RequestThrottled", "Throttling", "ThrottlingException",
}


class Refusal(Exception):
    """The change batch was refused; nothing of it was done."""


class Calls:
    """Calls for one hosted zone. May be shared by threads, as boto3's clients may be."""

    def __init__(self, reader: Any, writer: Any, zone_id: str, zone: Zone) -> None:
        self._reader = reader
        self._writer = writer
        self._zone_id = zone_id
        self._zone = zone

    @classmethod
    def open(cls, zone: Zone, keys: str | None, timeout: float) -> Calls:
        """``keys`` is ``key id:secret[:session token]``; None: what boto3 finds by itself.

        Raises NotFound where boto3 is not installed, Errored where the zone is not found.
        """
        boto3, config = _boto3()
        credentials: dict[str, str] = {}
        if keys is not None:
            parts = keys.strip().split(":", 2)
            if len(parts) < 2 or not all(parts):
                raise Errored(
                    f"the secret {zone.key!r} is no pair of AWS keys; nothing was sent",
                    hint="write it as key id:secret, or key id:secret:session token",
                )
            names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
            credentials = dict(zip(names, parts, strict=False))

        def client(attempts: int) -> Any:
            return session.client(
                "route53", region_name=_REGION, endpoint_url=zone.endpoint,
                config=config(
                    connect_timeout=timeout, read_timeout=timeout,
                    retries={"total_max_attempts": attempts, "mode": "standard"},
                ),
            )

        with _explained(zone, changing=False):
            # A session of our own: boto3's default one is not for several threads.
            session = boto3.session.Session(**credentials)
            reader, writer = client(_READ_ATTEMPTS), client(1)
            found = zone.zone_id or _find(reader, zone)
        return cls(reader, writer, found, zone)

    def sets(self, start: tuple[str, str] | None = None) -> Iterator[Mapping[str, Any]]:
        """Record sets in the zone's order, from (name, type) on. Raises Errored."""
        more: dict[str, Any] = {}
        if start is not None:
            more = {"StartRecordName": start[0], "StartRecordType": start[1], "MaxItems": "10"}
        while True:
            with _explained(self._zone, changing=False):
                page = self._reader.list_resource_record_sets(HostedZoneId=self._zone_id, **more)
            yield from page["ResourceRecordSets"]
            if not page["IsTruncated"]:
                return
            more = {
                f"Start{name}": page[f"Next{name}"]
                for name in ("RecordName", "RecordType", "RecordIdentifier")
                if f"Next{name}" in page
            }

    def change(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Send one change batch, once.

        Raises Refusal, Errored (nothing changed) or Unsure (nobody said what came of it).
        """
        with _explained(self._zone, changing=True):
            self._writer.change_resource_record_sets(
                HostedZoneId=self._zone_id, ChangeBatch={"Changes": list(batch)}
            )


def _boto3() -> tuple[Any, Any]:
    try:
        import boto3
        import botocore.config
    except ImportError as fault:
        raise NotFound(
            "Route 53 needs boto3, which is not installed",
            hint='install the extra: pip install "runbook[route53]"',
        ) from fault
    return boto3, botocore.config.Config


def _find(reader: Any, zone: Zone) -> str:
    """The id of the public hosted zone of that name."""
    page = reader.list_hosted_zones_by_name(DNSName=zone.name, MaxItems="100")
    found = [
        str(one["Id"])
        for one in page["HostedZones"]
        if one["Name"] == zone.name and not one.get("Config", {}).get("PrivateZone")
    ]
    if len(found) != 1:
        raise Errored(
            f"Route 53 has {len(found)} public hosted zones named {zone.name} for these keys",
            hint="give `zone_id:` of the zone, or keys of the right account",
        )
    return found[0]


@contextlib.contextmanager
def _explained(zone: Zone, *, changing: bool) -> Iterator[None]:
    """Turns boto3's exceptions into what is certain: Errored, Refusal or Unsure."""
    from botocore import exceptions as aws

    where = zone.endpoint or "Route 53"
    unsent = (
        aws.EndpointConnectionError, aws.ConnectTimeoutError, aws.ProxyConnectionError,
        aws.SSLError, aws.NoCredentialsError, aws.PartialCredentialsError,
        aws.CredentialRetrievalError, aws.ProfileNotFound, aws.ParamValidationError,
    )
    try:
        yield
    except aws.ClientError as fault:
        raise _answered(fault, where, zone, changing=changing) from fault
    except unsent as fault:
        raise _not_asked(where, zone, fault) from fault
    except (aws.BotoCoreError, aws.HTTPClientError) as fault:
        if changing:
            raise Unsure(f"{where}: {fault}") from fault
        raise _not_asked(where, zone, fault) from fault
    except ValueError as fault:  # an endpoint that is no URL
        raise _not_asked(where, zone, fault) from fault


def _not_asked(where: str, zone: Zone, fault: Exception) -> Errored:
    return Errored(
        f"{where} could not be asked about {zone.name}: {fault}; nothing was changed",
        hint="check the AWS credentials and that the API is reached from here",
    )


def _answered(fault: Any, where: str, zone: Zone, *, changing: bool) -> Exception:
    code = str(fault.response.get("Error", {}).get("Code", ""))
    text = str(fault.response.get("Error", {}).get("Message", "")) or code
    status = int(fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _KEY_CODES:
        return KeyRefused(
            f"{where} refuses our keys ({code}: {text}); nothing was changed",
            hint="check the keys, and that their policy allows route53:ListResourceRecordSets "
            "and route53:ChangeResourceRecordSets on the zone",
        )
    if code in _LATER_CODES or status == 429:
        return Errored(
            f"{where} takes no more requests for now ({code}); nothing was changed",
            hint="try again later, or give the step a `retry`",
        )
    if not changing or code == "NoSuchHostedZone":
        return Errored(
            f"{where} answered {code} when asked about {zone.name}: {text}",
            hint="check `zone_id` and `endpoint` of the zone",
        )
    if status >= 500:
        return Unsure(f"{where} answered {status} {code}: {text}")
    return Refusal(f"{code}: {text}")
