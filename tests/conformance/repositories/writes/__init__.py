"""What our client changes at Extended ECM, write by write, as data for ``test_faults.py``: each meets every fault.

One module per facet, each with its ``WRITES``. A new write of a facet gets a row here.
"""
