"""The sender: a process apart that alone holds proof secrets, outbound credentials and the seal key, and alone sends.

::

    worker ── blocks/sender.py ──▶ Unix socket ──▶ process.py ──▶ proofs.py     is it this person, now, for the first time?
                                   (peer's uid)       │
                                                      ├────────▶ delivery.py   bytes to the partner, all or none, proven
                                                      └────────▶ store.py      what must survive a crash, in its own folder
"""
