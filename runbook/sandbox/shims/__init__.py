"""Programs that stand on a sandbox host's ``PATH`` for ones that need a real machine.

The Python files here run by themselves, with the standard library alone.
"""
