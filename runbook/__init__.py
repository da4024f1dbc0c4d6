"""Runbook: rehearse a datacenter move, run it inside its window, go back at any second."""

__version__ = "0.1.0"
