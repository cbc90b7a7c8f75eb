"""What the gateway, the detector, the distiller and the console agree on: one table, one file.

The control plane (accounts, keys, consents, declared uses, enforcement, alerts, snapshots, approvals, registry,
operators, audit) lives in a SQL database; traffic lives in spool files and in the lake. This is the lowest layer:
it imports nothing of the rest, and everything else meets here and nowhere else.
"""
