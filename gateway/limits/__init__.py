"""Limits: what may be used is reserved before a request goes on and settled with what it used.

`meters.py` says what is counted, `bound.py` what a request may use at most; `leases.py` does it from what a worker
holds in hand, and `shared.py` and `valkey.py` are where the workers of one machine and of several get that from.
`queue.py` is for a house that is full.
"""
