"""What of the Extended ECM interface is built: contract row, our client, the sandbox, OpenText's client, tests.

The rows are data, one module per domain; ``page`` makes ``docs/extended-ecm.md`` of them, and ``tests/guards/test_coverage.py`` sees that
nothing is claimed that is not there.
"""
