"""Accounts and their keys."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.admin.access import Actor, House
from gateway.admin.schemas import (
    AccountRow,
    CreatedKey,
    EnforcementRow,
    KeyEnd,
    KeyRow,
    NewAccount,
    NewKey,
    Rotation,
)
from gateway.ledger import accounts, consents, enforcement, keys

router = APIRouter(tags=["accounts"])


@router.get("/accounts")
def list_accounts(house: House) -> list[AccountRow]:
    """List all accounts by name."""
    with house.database.read() as connection:
        agreed, measures = consents.in_force(connection), enforcement.in_force(connection)
        return [_shown(row, agreed, measures) for row in accounts.every(connection)]


@router.post("/accounts", status_code=201)
def create_account(body: NewAccount, house: House, actor: Actor) -> AccountRow:
    """Create an account, with its consent to training where it gave it."""
    with house.database.write() as connection:
        account = accounts.create(connection, accounts.new(body.name, tier=body.tier, operator=body.operator), actor)
        if body.consent:
            consents.grant(connection, account.name, actor)
        return _shown(account, consents.in_force(connection), {})


@router.get("/keys")
def list_keys(house: House, account: str | None = None) -> list[KeyRow]:
    """List keys, oldest first, revoked ones included; of one account where it is given."""
    with house.database.read() as connection:
        return [KeyRow.model_validate(key) for key in keys.every(connection, account)]


@router.post("/keys", status_code=201)
def create_key(body: NewKey, house: House, actor: Actor) -> CreatedKey:
    """Create a key for an account; the answer is the only place where the key is ever shown."""
    with house.database.write() as connection:
        row, key = keys.create(
            connection,
            keys.ensure_secret(connection, house.settings.data_dir),
            body.account,
            actor,
            body.requests_per_minute,
            scope=keys.Scope(**body.scope.model_dump()),
            expires=body.expires,
        )
    return CreatedKey(id=row.id, account=row.account, key=key, expires=row.expires)


@router.post("/keys/{key_id}/rotate", status_code=201)
def rotate_key(key_id: str, body: Rotation, house: House, actor: Actor) -> CreatedKey:
    """Make a key's successor, shown here only; both are accepted until the old one's grace is over."""
    with house.database.write() as connection:
        pepper = keys.ensure_secret(connection, house.settings.data_dir)
        row, key = keys.rotate(connection, pepper, key_id, actor, body.grace)
    return CreatedKey(id=row.id, account=row.account, key=key, expires=row.expires)


@router.post("/keys/{key_id}/expire")
def expire_key(key_id: str, body: KeyEnd, house: House, actor: Actor) -> KeyRow:
    """Let a key end in a length of time or at a moment, which every worker keeps to the millisecond."""
    with house.database.write() as connection:
        end = keys.end_of(body.within, body.at)
        return KeyRow.model_validate(keys.expire(connection, key_id, end, actor))


@router.delete("/keys/{key_id}")
def revoke_key(key_id: str, house: House, actor: Actor) -> KeyRow:
    """End a key; it is refused everywhere within a second."""
    with house.database.write() as connection:
        return KeyRow.model_validate(keys.revoke(connection, key_id, actor))


def _shown(
    account: accounts.Account, agreed: dict[str, consents.Consent], measures: dict[str, enforcement.Enforcement]
) -> AccountRow:
    row = AccountRow.model_validate(account)
    measure = measures.get(account.name)
    shown = None if measure is None else EnforcementRow.model_validate(measure)
    return row.model_copy(update={"consent": account.name in agreed, "enforcement": shown})
