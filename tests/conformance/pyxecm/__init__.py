"""OpenText's own Python client drives the Extended ECM sandbox: the proof that the stand-in speaks the real wire.

The client lives in ``.venvs/pyxecm`` and is asked over a pipe (``driver.py``), so nothing of it is loaded here.
"""
