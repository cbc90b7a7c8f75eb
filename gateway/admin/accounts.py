"""Accounts and their keys."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.admin.access import Actor, House
from gateway.admin.schemas import AccountRow, CreatedKey, EnforcementRow, KeyRow, NewAccount, NewKey
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
    secret = keys.installation_secret(house.settings.data_dir)
    with house.database.write() as connection:
        row, key = keys.create(connection, secret, body.account, actor, body.requests_per_minute)
    return CreatedKey(id=row.id, account=row.account, key=key)


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
