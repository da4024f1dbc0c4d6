"""``python -m runbook`` and the ``runbook`` command."""

from __future__ import annotations


def main() -> None:
    from runbook.cli.main import run

    run()


if __name__ == "__main__":
    main()
