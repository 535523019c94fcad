"""The ledger, one suite on both databases."""
