"""The demo: sandbox, Prefect, a worker and a partner on this machine, in one folder. ``make demo`` and ``make demo-check``."""
