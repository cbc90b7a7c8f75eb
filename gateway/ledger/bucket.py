"""A lake in a bucket of S3, or of a store that speaks its protocol: writers of several machines share it.

What keeps them apart is Delta's conditional put: of two commits with one number the second is refused, and made again
on top of the first. Everything else here is a courtesy on top of that. `docs/decisions/0024` says why nothing is lost
when a machine hangs in the middle.

```
PREFIX/traffic/        the Delta table
PREFIX/hidden/HEX      a tombstone; the name is the account's, in hexadecimal
PREFIX/removed/ID      numbers of rows that were removed on purpose; written once, some hold what others do
PREFIX/turn            whoever rewrites files has appends wait meanwhile
PREFIX/ordered.json    which files each day was ordered into
```
"""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from numpy.typing import NDArray

from gateway.ledger import durable, removed_numbers
from gateway.ledger.configuration import BucketSettings
from gateway.ledger.errors import LakeUnreachable
from gateway.ledger.storage import StoredObject

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_CONNECT_S = 5
_RETRIES = 5
POLL_S = 0.25
HEARTBEAT_S = 5.0  # of whoever has the turn to rewrite
GIVEN_UP_S = 30.0  # a turn without a heartbeat for so long is nobody's
# Longer than any commit may take: a file that no commit has named by then never will be.
ORPHANED_S = 24 * 3600.0
ERASED = b"erased\n"
_AT_ONCE = 1000  # objects that one call deletes
_MISSING = ("NoSuchKey", "NoSuchVersion")
_OF_S3 = re.compile(r"S3 error|HTTP error|<Error>")
_REFUSED = re.compile(
    r"privileges|Unauthenticated|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Credential|credential|"
    r"ExpiredToken|InvalidToken|Forbidden"
)
_CODE = re.compile(r"<Code>(\w+)</Code>")


class Bucket:
    """A lake's table and what stands beside it, below one prefix of a bucket.

    `local` is a folder of this machine, whose writers take turns by a lock in it before they meet others in the bucket.
    """

    is_shared = True

    def __init__(self, address: str, settings: BucketSettings, local: Path) -> None:
        self._address = address.rstrip("/")
        bucket, _, prefix = self._address.removeprefix("s3://").partition("/")
        self._bucket, self._prefix = bucket, f"{prefix}/"
        self._local = local
        self._noted: removed_numbers.Numbers = {}
        self._note: str | None = None  # the object that has what this process noted
        keys = settings.keys()
        self.options = _delta_options(settings, keys)
        with self.checked():
            self._client = _client(settings, keys)

    @property
    def uri(self) -> str:
        """The table's address."""
        return f"{self._address}/traffic"

    # --- turns --------------------------------------------------------------------------------------------------------

    @contextmanager
    def appending(self) -> Iterator[None]:
        """Take turns with this machine's writers, and wait while another machine's rewrites files."""
        with self._alone_here():
            self._wait_for_turn()
            yield

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """Have other machines' appends wait: each would make a rewrite of the same day begin again.

        It is a courtesy: a commit that comes all the same is a conflict like any other.
        """
        owner, done = uuid.uuid4().hex, threading.Event()
        with self._alone_here():
            while not self._put_if_absent("turn", owner.encode()):
                self._wait_for_turn()
            beating = threading.Thread(target=self._beat, args=(owner, done), name="turn", daemon=True)
            beating.start()
            try:
                yield
            finally:
                done.set()
                beating.join()
                self._give_back(owner)

    def _alone_here(self) -> AbstractContextManager[None]:
        return durable.turn(self._local / "traffic.lock")

    def _wait_for_turn(self) -> None:
        seen, since = None, time.monotonic()
        while (found := self.read("turn")) is not None:
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since > GIVEN_UP_S:
                logger.warning("whoever rewrote files of %s has not been heard of: going on", self._address)
                self._delete(["turn"])
                return
            time.sleep(POLL_S)

    def _beat(self, owner: str, done: threading.Event) -> None:
        count = 0
        while not done.wait(HEARTBEAT_S):
            count += 1
            try:
                self.write("turn", f"{owner} {count}".encode())
            except LakeUnreachable as error:
                logger.warning("others may stop waiting for this rewrite: %s", error)

    def _give_back(self, owner: str) -> None:
        try:
            if (self.read("turn") or b"").startswith(owner.encode()):
                self._delete(["turn"])
        except LakeUnreachable as error:  # The work is done; others wait until they give this turn up.
            logger.warning("the turn at %s was not given back: %s", self._address, error)

    # --- what the table needs -----------------------------------------------------------------------------------------

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Turn what Delta and S3 raise into `LakeUnreachable`, which names the setting and quotes no answer."""
        try:
            yield
        except (FileNotFoundError, LakeUnreachable):
            raise
        except Exception as error:
            if not isinstance(error, (OSError, BotoCoreError, ClientError)) and not _OF_S3.search(str(error)):
                raise
            raise self._in_words(error) from None

    def make_room(self) -> None:
        """A bucket has no folders; the bucket itself is made by people."""

    def sync(self, version: int) -> None:
        """S3 answers a put when it is durable."""

    def repair(self) -> bool:
        """An object is there whole or not at all."""
        return False

    def open(self, path: str) -> pa.BufferReader:
        """Fetch a file of the table."""
        found = self.read(f"traffic/{path}")
        if found is None:
            raise FileNotFoundError(f"{self.uri}/{path}")
        return pa.BufferReader(found)

    def wrote(self, version: int, token: str) -> bool:
        """Return whether a commit that was refused is our own: an answer that was lost has it sent again."""
        return token.encode() in (self.read(f"traffic/_delta_log/{version:020d}.json") or b"")

    def claim(self, version: int, entry: bytes) -> bool:
        """Put the entry where none is."""
        return self._put_if_absent(f"traffic/_delta_log/{version:020d}.json", entry)

    def begin_log(self, version: int) -> None:
        """Empty the older entries and delete older checkpoints.

        The names of the entries stay taken: a writer that still believes in an older version must go on being refused.
        Delta deletes them with the rest of its log, an hour later.
        """
        gone = []
        for found in list(self._list("traffic/_delta_log/")):
            name = found.name.rpartition("/")[2]
            if not (name[:20].isdecimal() and int(name[:20]) < version):
                continue
            if not name.endswith(".json") or ".checkpoint" in name:
                gone.append(found.name)
            elif found.size != len(ERASED):
                self.write(found.name, ERASED)
        self._delete(gone)

    def erase_unreferenced(self, referenced: frozenset[str], hidden: frozenset[str]) -> int:
        """Erase what commits left behind that were refused: what is old, and what has rows of a hidden account.

        Younger ones may be about to be committed, by another machine; never one with rows of a hidden account, since
        its writer began before the fence and is refused by it.
        """
        gone = []
        for found in self._list("traffic/day="):
            path = found.name.removeprefix("traffic/")
            if path in referenced:
                continue
            if time.time() - found.written > ORPHANED_S or (hidden and self._holds(path, hidden)):
                gone.append(found.name)
        self._delete(gone)
        return len(gone)

    def _holds(self, path: str, accounts: frozenset[str]) -> bool:
        try:
            there = pq.read_table(self.open(path), columns=["account"])["account"].unique().to_pylist()
        except FileNotFoundError:
            return False
        return not accounts.isdisjoint(there)

    def erase_old_versions(self) -> None:
        """Erase every version but the newest of each object, deletions that are markers, and uploads without an end."""
        versions = self._versions()
        # Deleted since its page was listed: without the newer deletion, what was deleted would be there again.
        there = {item["Key"] for item in versions if item["IsLatest"] and "Size" in item}
        old = [item for item in versions if not item["IsLatest"] or ("Size" not in item and item["Key"] not in there)]
        self._delete_each([{"Key": item["Key"], "VersionId": item["VersionId"]} for item in old])
        # Whose upload is ended here makes its commit again.
        sure = bool(self.hidden())
        for upload in self._unfinished():
            if not sure and time.time() - upload["Initiated"].timestamp() < ORPHANED_S:
                continue
            named = {"Bucket": self._bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            self._answered(partial(self._client.abort_multipart_upload, **named))

    def objects(self) -> Iterator[StoredObject]:
        """Yield every version of every object below the prefix."""
        for item in self._versions():
            if "Size" in item:
                name = item["Key"].removeprefix(self._prefix)
                yield StoredObject(name, item["Size"], item["LastModified"].timestamp(), item["VersionId"])

    # --- small files --------------------------------------------------------------------------------------------------

    def read(self, name: str, version: str | None = None) -> bytes | None:
        """Return an object, or one version of it; None where there is none."""
        which = {} if version is None else {"VersionId": version}

        def fetch() -> bytes:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name, **which)
            data: bytes = answer["Body"].read()
            return data

        try:
            return self._answered(fetch)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Put an object, in place of the one that is there."""
        self._answered(lambda: self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data))

    def hidden(self) -> frozenset[str]:
        """Return the accounts that have a tombstone."""
        return frozenset(bytes.fromhex(found.name.rpartition("/")[2]).decode() for found in self._list("hidden/"))

    def hide(self, account: str) -> None:
        """Put a tombstone up."""
        self.write(f"hidden/{account.encode().hex()}", b"")

    def show(self, account: str) -> None:
        """Take it away."""
        self._delete([f"hidden/{account.encode().hex()}"])

    def removed(self) -> dict[str, NDArray[np.int64]]:
        """Return the numbers that any process has noted."""
        return self._notes()[1]

    def note_removed(self, rows: pa.Table) -> None:
        """Note numbers in an object of its own: two that change one object would lose what the other wrote."""
        fresh = removed_numbers.numbers_of(rows)
        if fresh:
            self._noted = removed_numbers.union(self._noted, fresh)
            before, self._note = self._note, self._put_note(self._noted)
            self._delete([] if before is None else [before])

    def merge_notes(self) -> int:
        """Put all that was noted into one object and delete the others: none is ever changed, so none is missed."""
        names, numbers = self._notes()
        if len(names) > 1:
            self._put_note(numbers)
            self._delete(names)
        return len(names) if len(names) > 1 else 0

    def _put_note(self, numbers: removed_numbers.Numbers) -> str:
        name = f"removed/{uuid.uuid4().hex}"
        self.write(name, removed_numbers.encode(numbers))
        return name

    def _notes(self) -> tuple[list[str], removed_numbers.Numbers]:
        """Return the objects there are and what they hold together, however many are merged meanwhile."""
        while True:
            names = [found.name for found in self._list("removed/")]
            texts = [self.read(name) for name in names]
            if None not in texts:
                break  # else another one holds what was in it, which stood there before it was deleted
        numbers: removed_numbers.Numbers = {}
        for text in texts:
            numbers = removed_numbers.union(numbers, removed_numbers.decode(text or b"{}"))
        return names, numbers

    # --- calls --------------------------------------------------------------------------------------------------------

    def _answered(self, call: Callable[[], _T]) -> _T:
        try:
            with self.checked():
                return call()
        except LakeUnreachable as error:
            if error.code in _MISSING:
                raise FileNotFoundError(str(error)) from None
            raise

    def _put_if_absent(self, name: str, data: bytes) -> bool:
        named = {"Bucket": self._bucket, "Key": self._prefix + name}
        try:
            self._answered(lambda: self._client.put_object(**named, Body=data, IfNoneMatch="*"))
        except LakeUnreachable as error:
            if error.code in ("PreconditionFailed", "ConditionalRequestConflict"):
                return self.read(name) == data  # an answer that was lost has the put sent again
            raise
        return True

    def _list(self, prefix: str) -> Iterator[StoredObject]:
        for item in self._pages("list_objects_v2", ("Contents",), self._prefix + prefix):
            name = item["Key"].removeprefix(self._prefix)
            yield StoredObject(name, item["Size"], item["LastModified"].timestamp())

    def _versions(self) -> list[dict[str, Any]]:
        """Every version and deletion; only what is there now where the store knows no versions."""
        try:
            return list(self._pages("list_object_versions", ("Versions", "DeleteMarkers"), self._prefix))
        except LakeUnreachable as error:
            if error.code != "NotImplemented":
                raise
        there = self._pages("list_objects_v2", ("Contents",), self._prefix)
        return [item | {"VersionId": None, "IsLatest": True} for item in there]

    def _unfinished(self) -> list[dict[str, Any]]:
        return list(self._pages("list_multipart_uploads", ("Uploads",), self._prefix))

    def _pages(self, operation: str, fields: Sequence[str], prefix: str) -> Iterator[dict[str, Any]]:
        pages = iter(self._client.get_paginator(operation).paginate(Bucket=self._bucket, Prefix=prefix))
        while (page := self._answered(lambda: next(pages, None))) is not None:
            for field in fields:
                yield from page.get(field, [])

    def _delete(self, names: Iterable[str]) -> None:
        self._delete_each([{"Key": self._prefix + name} for name in names])

    def _delete_each(self, named: list[dict[str, Any]]) -> None:
        for start in range(0, len(named), _AT_ONCE):
            chosen = {"Objects": named[start : start + _AT_ONCE], "Quiet": True}
            answer = self._answered(partial(self._client.delete_objects, Bucket=self._bucket, Delete=chosen))
            for refused in answer.get("Errors", []):
                raise LakeUnreachable(
                    f"{self._address} does not let {refused['Key']} be deleted ({refused['Code']}): the keys need "
                    "s3:DeleteObject and s3:DeleteObjectVersion there, and the bucket no object lock",
                    refused["Code"],
                )

    def _in_words(self, error: Exception) -> LakeUnreachable:
        """Say what is to be done. The answer itself is left out: S3 repeats the key's id and what was signed."""
        code = _code_of(error)
        if code == "NoSuchBucket":
            return LakeUnreachable(f"there is no bucket for {self._address}: make it, or mend `lake`", code)
        if _REFUSED.search(f"{code} {error}"):
            return LakeUnreachable(
                f"{self._address} refuses the keys ({code}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
                "AWS_PROFILE, or the variables that s3.access_key_env and s3.secret_key_env name",
                code,
            )
        return LakeUnreachable(
            f"{self._address} does not answer as it should ({code}): check `lake`, s3.endpoint and s3.region", code
        )


def _code_of(error: Exception) -> str:
    """Return S3's own word for what is wrong, or the kind of failure."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "ClientError"))
    if isinstance(error, BotoCoreError):
        return type(error).__name__
    text = str(error)
    found = _CODE.search(text)
    if found:
        return found.group(1)
    return next((word for word in ("timed out", "Connection refused", "privileges") if word in text), "no answer")


def _delta_options(settings: BucketSettings, keys: tuple[str, str] | None) -> dict[str, str]:
    """Return what Delta's object store is told; what is left out it takes from the environment, as boto3 does."""
    options = {
        "aws_conditional_put": "etag",  # of two commits with one number the second is refused
        "timeout": f"{settings.timeout_s:g}s",
        "connect_timeout": f"{_CONNECT_S}s",
        "max_retries": str(_RETRIES),
        "retry_timeout": f"{2 * settings.timeout_s:g}s",
    }
    if settings.region:
        options["aws_region"] = settings.region
    if settings.endpoint:
        options |= {"aws_endpoint": settings.endpoint, "aws_allow_http": str(not _is_tls(settings.endpoint)).lower()}
    if keys is not None:
        options |= {"aws_access_key_id": keys[0], "aws_secret_access_key": keys[1]}
    return options


def _is_tls(endpoint: str) -> bool:
    return endpoint.startswith("https://")


def _client(settings: BucketSettings, keys: tuple[str, str] | None) -> Any:
    session = boto3.session.Session(region_name=settings.region or None)
    identity = {} if keys is None else {"aws_access_key_id": keys[0], "aws_secret_access_key": keys[1]}
    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=settings.timeout_s,
        retries={"mode": "standard", "total_max_attempts": _RETRIES},
        s3={"addressing_style": "path"} if settings.endpoint else {},
    )
    return session.client("s3", endpoint_url=settings.endpoint or None, config=config, **identity)
