"""Digests of the local files a plan reads."""

from __future__ import annotations

import hashlib
from pathlib import Path


class LocalFiles:
    """sha256 of files by their path as written, relative to one folder. Each is read once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.digests: dict[str, str] = {}

    def add(self, path: str) -> None:
        """Raises ValueError with a readable message when it cannot be read."""
        if path in self.digests:
            return
        digest = hashlib.sha256()
        try:
            if (self._directory / path).is_char_device():
                raise ValueError(f"{path} is a device, and a file is wanted")
            with (self._directory / path).open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except IsADirectoryError as fault:
            raise ValueError(f"{path} is a folder, and a file is wanted") from fault
        except FileNotFoundError as fault:
            raise ValueError(f"there is no file {path} in the runbook's folder") from fault
        except OSError as fault:
            raise ValueError(f"the file {path} cannot be read: {fault.strerror}") from fault
        self.digests[path] = digest.hexdigest()
