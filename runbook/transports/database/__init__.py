"""Connections to databases. The drivers are extras and are imported when a database is opened."""

from runbook.transports.database.transport import DatabaseTransport

__all__ = ["DatabaseTransport"]
