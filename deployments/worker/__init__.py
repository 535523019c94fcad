"""Prefect's worker type ``countersign``: each run is a process of its own, forked from one that has everything imported.

``worker.py`` is what Prefect starts and asks; ``zygote.py`` is the process that runs are forked from, and ``forks.py`` its other end.
"""
