"""Errors of the ledger, each with the remedy in its message.

LedgerError
├── NotFound          the named row does not exist
├── AlreadyExists     a row with that name exists
├── Forbidden         the rules of the data or of the people do not allow it
├── InvalidValue      a value that no setting or command would accept
├── SpoolUnavailable  the spool can't take a record (disk full, read-only, closed)
├── Corrupt           stored bytes do not match their checksum
├── Unreachable       the control plane's database does not answer, or refuses us
├── LakeUnreachable   the store that the lake is in does not answer, or refuses us
└── SecretLost        the installation's secret is missing, damaged, or not the one that its keys were made with
"""


class LedgerError(Exception):
    """Base of every error that the ledger raises on purpose."""


class NotFound(LedgerError):
    """The named row does not exist."""


class AlreadyExists(LedgerError):
    """A row with that name exists already."""


class Forbidden(LedgerError):
    """The rules of the data, or of who may decide what, do not allow it."""


class InvalidValue(LedgerError):
    """A value is outside what the field accepts."""


class SpoolUnavailable(LedgerError):
    """The spool can't take the record; the caller decides whether to serve without it."""


class Corrupt(LedgerError):
    """Stored bytes do not match their checksum."""


class Unreachable(LedgerError):
    """The control plane's database does not answer, or refuses us."""


class LakeUnreachable(LedgerError):
    """The store that the lake is in does not answer, or refuses us; `code` is its own word for why."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class SecretLost(LedgerError):
    """The installation's secret is missing, damaged, or not the one that its keys were made with."""
