"""The only reader of the environment and of `spiritsafe.toml`: validated once, frozen afterwards.

Every section is a frozen dataclass here, and its fields are the file's keys. `SPIRITSAFE_DATA_DIR` overrides
`data_dir`, `SPIRITSAFE_LAKE` `lake`; `SPIRITSAFE_SECTION__KEY` (such as `SPIRITSAFE_GATEWAY__PORT`) overrides a key of
a section. An error names the file, the line and the remedy. Relative paths start at the folder of the file.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
import types
import typing
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

DEFAULT_FILE = "spiritsafe.toml"
NANO = 1_000_000_000
MOST_WORKERS = 32  # seats in the memory that workers share

DEFAULT_TEXT = """\
# Spiritsafe's settings. docs/configuration.md explains every key; environment variables override them.
data_dir = "./spiritsafe-data"          # the one folder that everything writes to

[[models]]
name = "teacher"                        # also the name vLLM serves
role = "teacher"
backends = ["http://127.0.0.1:8001"]    # where vLLM listens
input_price = 1.00                      # dollars per million tokens
output_price = 3.00
context_length = 2048
licence = "Apache-2.0"
distillable = true                      # may its outputs train a student?
"""


class SettingsError(Exception):
    """The settings can't be used; the message names the place and the remedy."""


@dataclass(frozen=True)
class ServeSettings:
    """`[models.serve]`: have vLLM started and supervised here."""

    path: str = ""  # folder of the weights (Hugging Face format)
    port: int = 8001  # on loopback
    arguments: tuple[str, ...] = ()  # further arguments for vLLM


@dataclass(frozen=True)
class BackendSettings:
    """An entry of a model's `backends`; a plain URL stands for one with the defaults."""

    url: str = ""  # vLLM's base URL
    weight: float = 1.0  # its part of the work, relative to the others'
    tier: int = 0  # one above 0 is used while no backend of a lower one is available


def root_of(url: str) -> str:
    """Return the URL that a backend is known by: its root, without a slash at the end."""
    return url.rstrip("/").removesuffix("/v1")


Balance = Literal["affinity", "least_busy"]
Modality = Literal["image", "audio", "video"]


@dataclass(frozen=True)
class ModelSettings:
    """`[[models]]`: a base model that vLLM serves; students live in the registry, not here."""

    name: str = ""
    role: Literal["teacher", "student"] = "teacher"
    backends: tuple[str | BackendSettings, ...] = ()
    input_price: float = 0.0  # dollars per million tokens
    output_price: float = 0.0
    context_length: int = 2048
    licence: str = ""  # SPDX identifier of the weights' licence
    distillable: bool = False  # may its outputs train a student?
    serve: ServeSettings | None = None
    balance: Balance = "affinity"  # like prefixes to like backends, or each request to one that is less busy
    tools: bool = True  # can it call tools?
    schema: bool = True  # can it be held to a JSON schema?
    modalities: tuple[Modality, ...] = ()  # what it reads besides text
    provider: str = ""  # litellm's name of a model that vLLM does not serve, such as "anthropic/claude-…"
    api_base: str = ""  # the provider's URL; empty: its own
    api_key_env: str = ""  # the environment variable that holds the provider's key
    max_in_flight: int = 0  # requests a worker has open with the model; 0: gateway.max_in_flight

    @property
    def urls(self) -> tuple[str, ...]:
        """The backends' URLs, the supervised one included."""
        return tuple(server.url for server in self.servers)

    @property
    def servers(self) -> tuple[BackendSettings, ...]:
        """The backends, the supervised one included."""
        listed = [BackendSettings(item) if isinstance(item, str) else item for item in self.backends]
        served = [] if self.serve is None else [BackendSettings(f"http://127.0.0.1:{self.serve.port}")]
        return (*listed, *served)

    @property
    def nano_prices(self) -> tuple[int, int]:
        """Input and output price in nano-dollars per token."""
        return round(self.input_price * 1000), round(self.output_price * 1000)


@dataclass(frozen=True)
class GatewaySettings:
    """`[gateway]`: the public endpoint."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    trusted_proxies: tuple[str, ...] = ()  # addresses or networks whose X-Forwarded-For counts
    max_body_bytes: int = 8 * 1024 * 1024
    body_timeout_s: float = 30.0  # a client slower than this gets 408
    first_token_timeout_s: float = 120.0
    total_timeout_s: float = 600.0
    drain_notice_s: float = 1.0  # how long /ready says 503 before a worker that is told to stop closes its door
    ping_interval_s: float = 15.0  # silence before the first `: ping` of a stream, and between pings
    snapshot_max_age_s: float = 300.0  # how long the last good control state serves while the database is away
    on_spool_failure: Literal["refuse", "serve"] = "refuse"  # 503, or serve unrecorded and count it
    max_in_flight: int = 0  # requests a worker has open with a model, the others wait; 0: no bound
    help_url: str = ""  # where app developers find help; the endpoint's root shows it


@dataclass(frozen=True)
class LimitsSettings:
    """`[limits]`: where several gateways count together, and how requests wait at a full model."""

    store: str = ""  # valkey://HOST:PORT/DB that all gateways share; empty: this machine counts alone
    store_timeout_s: float = 0.25  # a store slower than this counts as away
    queue_length: int = 1000  # requests that may wait at a model, in each lane of a worker
    queue_wait_s: float = 60.0  # and how long
    forward_priority: bool = False  # vLLM runs with --scheduling-policy priority


@dataclass(frozen=True)
class OperatorSettings:
    """`[operator]`: console, admin API and `/metrics`."""

    host: str = "127.0.0.1"
    port: int = 8081
    scrape_token: str = ""  # when set, /metrics asks for it as a bearer token
    session_hours: float = 12.0


@dataclass(frozen=True)
class SpoolSettings:
    """`[spool]`: where records stand until the lake has them."""

    durability: Literal["group", "strict"] = "group"  # what a power cut may cost: a group's window, or nothing
    group_commit_ms: int = 50  # the window; a killed process loses nothing in either mode
    segment_bytes: int = 64 * 1024 * 1024
    ingest_interval_s: float = 1.0
    decoders: int = 2  # processes that decode a backlog beside the ingester; 0: it does all itself
    budget_bytes: int = 0  # of spool and lake; then gateway.on_spool_failure decides; 0: no bound


@dataclass(frozen=True)
class S3Settings:
    """`[s3]`: how to reach the bucket that `lake` names; what is empty is taken from AWS's own environment."""

    endpoint: str = ""  # of a store other than AWS's, such as http://minio:9000
    region: str = ""
    access_key_env: str = ""  # the environment variable with the key's id
    secret_key_env: str = ""  # and the one with its secret
    timeout_s: float = 30.0  # for one answer

    def keys(self) -> tuple[str, str] | None:
        """Return the key's id and secret where the file names variables for them."""
        if not self.access_key_env:
            return None
        setting = "s3.access_key_env and s3.secret_key_env name"
        return read_secret(self.access_key_env, setting=setting), read_secret(self.secret_key_env, setting=setting)


@dataclass(frozen=True)
class RecordSettings:
    """`[record]`: what a traffic record keeps."""

    text: bool = True  # keep prompts and answers; without them only metadata and the fingerprint


@dataclass(frozen=True)
class ModelRetentionSettings:
    """`[[retention.models]]`: other days for what a model answered."""

    name: str = ""
    text_days: int | None = None  # None: as [retention] says; 0: no end
    rows_days: int | None = None


@dataclass(frozen=True)
class RetentionSettings:
    """`[retention]`: how long the lake keeps what, by the request's own time; 0: no end."""

    text_days: int = 30  # prompts, answers, and what of the parameters may quote them
    rows_days: int = 400  # the whole row: a year, and time to compare it with the next
    models: tuple[ModelRetentionSettings, ...] = ()


@dataclass(frozen=True)
class DetectorSettings:
    """`[detector]`: the service that follows the lake."""

    interval_s: float = 2.0
    minimum_requests: int = 30  # with fewer in its window an account is abstained on
    shadow_model: str = ""  # file of a model to compare with the one in charge; "shipped": the package's


@dataclass(frozen=True)
class ChannelSettings:
    """`[[notifications.channels]]`: where people are told of alerts. What is secret stands in the environment."""

    name: str = ""
    kind: Literal["slack", "email", "webhook"] = "webhook"
    severity: Literal["low", "medium", "high"] = "medium"  # the least that is told
    events: tuple[Literal["opened", "raised", "decided"], ...] = ("opened", "raised")
    digest_minutes: float = 0.0  # what comes within so long is told together; 0: each at once
    url_env: str = ""  # slack, webhook: the environment variable with the URL
    secret_env: str = ""  # webhook: the one with the signing secret, whsec_…
    sender: str = ""  # email: the address that it comes from
    to: tuple[str, ...] = ()
    smtp_host: str = "localhost"
    smtp_port: int = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password_env: str = ""  # the environment variable with the password


@dataclass(frozen=True)
class NotificationSettings:
    """`[notifications]`: what people are told without looking at the console, and when."""

    address: str = ""  # the console's, as people reach it, for links; empty: no links
    quiet: str = ""  # hours in which nothing is told, such as 22:00-07:00
    quiet_zone: str = "UTC"  # whose clock they go by, such as Europe/Berlin
    wakes: Literal["high", "medium", "low", "none"] = "high"  # the least severity that is told all the same
    channels: tuple[ChannelSettings, ...] = ()


@dataclass(frozen=True)
class TracingSettings:
    """`[tracing]`: spans of requests, for an OpenTelemetry collector; never a text."""

    endpoint: str = ""  # OTLP/HTTP, such as http://127.0.0.1:4318; empty: no traces
    sample: float = 0.01  # share of the requests whose caller says nothing of sampling


@dataclass(frozen=True)
class VllmSettings:
    """`[vllm]`: how supervised models are served."""

    python: str = ".venv-vllm/bin/python"
    arguments: tuple[str, ...] = ()  # for every supervised model
    environment: tuple[str, ...] = ()  # NAME=VALUE, for every supervised model
    start_timeout_s: float = 300.0


@dataclass(frozen=True)
class DistillerSettings:
    """`[distiller]`: training happens in its own environment. `approvals`: how many persons must approve a snapshot.

    `withdrawn_days`: how long a student may answer that learnt from rows which were withdrawn or erased since.
    """

    python: str = ".venv-distiller/bin/python"
    threads: int = 2
    approvals: int = 1
    withdrawn_days: int = 30


@dataclass(frozen=True)
class Settings:
    """All of `spiritsafe.toml`; `file` is where it was read from, or would be written to."""

    data_dir: Path = Path("spiritsafe-data")
    database: str = field(default="", repr=False)  # the control plane's address; empty: SQLite in data_dir
    models: tuple[ModelSettings, ...] = ()
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    limits: LimitsSettings = field(default_factory=LimitsSettings)
    operator: OperatorSettings = field(default_factory=OperatorSettings)
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    lake: str = ""  # s3://BUCKET/PREFIX; empty: a folder in data_dir
    s3: S3Settings = field(default_factory=S3Settings)
    record: RecordSettings = field(default_factory=RecordSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    notifications: NotificationSettings = field(default_factory=NotificationSettings)
    vllm: VllmSettings = field(default_factory=VllmSettings)
    distiller: DistillerSettings = field(default_factory=DistillerSettings)
    file: Path | None = None

    @property
    def database_url(self) -> str:
        """The control plane's URL, by default SQLite in `data_dir`."""
        return self.database or f"sqlite:///{self.data_dir / 'control.sqlite'}"

    @property
    def longest_request_s(self) -> float:
        """Seconds that a request may be under way: while it is sent, waits for its turn and is answered."""
        return self.gateway.body_timeout_s + self.limits.queue_wait_s + self.gateway.total_timeout_s

    @property
    def base_dir(self) -> Path:
        """The folder that relative paths of the file start at."""
        return self.file.parent if self.file is not None else Path.cwd()

    @property
    def teacher(self) -> ModelSettings:
        """The first model whose role is teacher."""
        return next(model for model in self.models if model.role == "teacher")

    def model(self, name: str) -> ModelSettings | None:
        """Return the base model of that name, or None."""
        return next((model for model in self.models if model.name == name), None)


def load_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and validate the settings.

    Without a path, `SPIRITSAFE_CONFIG` or `spiritsafe.toml` in the current folder is read where it exists, else the
    defaults serve. Raises `SettingsError` with the place and the remedy.
    """
    environment = os.environ if environment is None else environment
    chosen = path or (Path(environment["SPIRITSAFE_CONFIG"]) if environment.get("SPIRITSAFE_CONFIG") else None)
    file = chosen or Path(DEFAULT_FILE)
    if file.exists():
        text = file.read_text()
    elif chosen is None:
        text, file = DEFAULT_TEXT, Path.cwd() / DEFAULT_FILE
    else:
        raise SettingsError(
            f"{file} does not exist: name an existing file with --config, or leave it out for the defaults"
        )
    return _parse(text, file.resolve(), environment)


def read_secret(
    name: str, environment: Mapping[str, str] | None = None, setting: str = "models.api_key_env names"
) -> str:
    """Return a secret from the environment, where alone it belongs; `SettingsError` when it is not there."""
    value = (os.environ if environment is None else environment).get(name, "")
    if not value:
        raise SettingsError(f"{setting} {name}, which is not set: export it where the gateway starts")
    return value


def ensure_file(settings: Settings) -> bool:
    """Write the default file where none was read; True when it was written."""
    if settings.file is None or settings.file.exists():
        return False
    settings.file.write_text(DEFAULT_TEXT)
    return True


def _parse(text: str, file: Path, environment: Mapping[str, str]) -> Settings:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: {error}: mend the TOML there") from error
    overrides = {name for name in environment if name.startswith("SPIRITSAFE_")}
    _apply_environment(document, {name: environment[name] for name in overrides})
    place = _Place(file, text)
    settings = typing.cast(Settings, _build(Settings, document, place, ""))
    settings = dataclasses.replace(settings, data_dir=(file.parent / settings.data_dir).resolve(), file=file)
    _check_models(settings, place)
    _check_ranges(settings, place)
    return settings


@dataclass(frozen=True)
class _Place:
    file: Path
    text: str

    def error(self, section: str, key: str, message: str) -> SettingsError:
        line = self._line(section, key)
        where = f"{self.file}, line {line}" if line else f"{self.file}"
        name = f"{section}.{key}" if section else key
        return SettingsError(f"{where}: {name}: {message}")

    def _line(self, section: str, key: str) -> int | None:
        # tomllib keeps no positions; the key's first appearance below its section's header is the line people look for.
        header, _, position = section.partition("#")
        inside, seen = not header, 0
        below = False  # in the section or in a table of its own, such as [[models.backends]]
        for number, line in enumerate(self.text.splitlines(), 1):
            if match := re.match(r"\s*\[+\s*([\w.]+)\s*\]+", line):
                name = match.group(1)
                seen += name == header
                inside = name == header and (not position or seen == int(position))
                below = inside or (below and name.startswith(f"{header}."))
                if below and key and name == f"{header}.{key}":
                    return number
                if inside and not key:
                    return number
            elif inside and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line):
                return number
        return None


def _apply_environment(document: dict[str, Any], overrides: Mapping[str, str]) -> None:
    if "SPIRITSAFE_DATA_DIR" in overrides:
        document["data_dir"] = overrides["SPIRITSAFE_DATA_DIR"]
    if "SPIRITSAFE_DATABASE" in overrides:
        document["database"] = overrides["SPIRITSAFE_DATABASE"]
    if "SPIRITSAFE_LAKE" in overrides:
        document["lake"] = overrides["SPIRITSAFE_LAKE"]
    for name, value in overrides.items():
        section, separator, key = name.removeprefix("SPIRITSAFE_").lower().partition("__")
        if not separator:
            continue
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        document.setdefault(section, {})[key] = parsed


def _build(kind: type, document: Mapping[str, Any], place: _Place, section: str) -> object:
    known = {item.name: item for item in fields(kind) if item.name != "file"}
    hints = typing.get_type_hints(kind)
    values: dict[str, object] = {}
    for key, value in document.items():
        if key not in known:
            raise place.error(section, key, f"is not a setting; known here: {', '.join(sorted(known))}")
        values[key] = _convert(hints[key], value, place, section, key)
    return kind(**values)


def _convert(hint: Any, value: Any, place: _Place, section: str, key: str) -> object:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if dataclasses.is_dataclass(hint):
        child = f"{section.partition('#')[0]}.{key}" if section else key
        if not isinstance(value, dict):
            raise place.error(section, key, f"must be a table: write [{child}]")
        return _build(typing.cast(type, hint), value, place, child)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise place.error(section, key, f"is {value!r}; choose one of {', '.join(map(repr, choices))}")
        return value
    if typing.get_origin(hint) is tuple:
        return _convert_list(typing.get_args(hint)[0], value, place, section, key)
    return _convert_scalar(hint, value, place, section, key)


def _convert_list(item: Any, value: Any, place: _Place, section: str, key: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise place.error(section, key, "must be a list: write it in square brackets")
    if dataclasses.is_dataclass(item):
        name = f"{section}.{key}" if section else key
        return tuple(_build(typing.cast(type, item), row, place, f"{name}#{i}") for i, row in enumerate(value, 1))
    if item == str | BackendSettings:
        return tuple(_convert_backend(element, place, section, key) for element in value)
    return tuple(_convert(item, element, place, section, key) for element in value)


def _convert_backend(value: Any, place: _Place, section: str, key: str) -> object:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise place.error(section, key, f'has {value!r}; write a URL, or a table such as {{url = "…", weight = 2}}')
    known, hints = [item.name for item in fields(BackendSettings)], typing.get_type_hints(BackendSettings)
    for name in value:
        if name not in known:
            raise place.error(section, key, f"{name!r} is no key of a backend; known here: {', '.join(known)}")
    values: dict[str, Any] = {name: _convert(hints[name], item, place, section, key) for name, item in value.items()}
    return BackendSettings(**values)


def _convert_scalar(hint: Any, value: Any, place: _Place, section: str, key: str) -> object:
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise place.error(section, key, f"is {value!r}; it must be of type {hint.__name__}")
    return value


def _check_models(settings: Settings, place: _Place) -> None:
    seen: set[str] = set()
    for number, model in enumerate(settings.models, 1):
        section = f"models#{number}"
        if not model.name or "@" in model.name or model.name == "auto":
            raise place.error(section, "name", "must be a name other than 'auto' and without '@'")
        if model.name in seen:
            raise place.error(section, "name", f"{model.name!r} is declared twice: give each model its own name")
        seen.add(model.name)
        if model.provider:
            _check_provider(model, section, place)
        elif not model.urls:
            raise place.error(
                section, "backends", "is empty: list vLLM's URL, or add [models.serve] to have one started"
            )
        if model.serve is not None and not model.serve.path:
            raise place.error(section, "serve", "needs `path`, the folder of the weights")
        _check_backends(model, section, place)
    if not any(model.role == "teacher" for model in settings.models):
        raise place.error("", "models", 'no model has role = "teacher": declare the one that `auto` falls back to')


def _check_provider(model: ModelSettings, section: str, place: _Place) -> None:
    if model.servers:
        raise place.error(section, "provider", "stands for `backends` and [models.serve]: keep one of them")
    if not re.fullmatch(r"[\w-]+/\S+", model.provider):
        text = f"is {model.provider!r}; write litellm's name, PROVIDER/MODEL, such as openai/gpt-…"
        raise place.error(section, "provider", text)
    if model.api_base and not re.match(r"https?://[^/\s]+", model.api_base):
        raise place.error(section, "api_base", f"{model.api_base!r} is no URL: write https://HOST")


def _check_backends(model: ModelSettings, section: str, place: _Place) -> None:
    seen: set[str] = set()
    for server in model.servers:
        if not re.match(r"https?://[^/\s]+", server.url):
            raise place.error(section, "backends", f"{server.url!r} is no URL: write http://HOST:PORT")
        if not 0.0 < server.weight <= 1000.0:
            text = f"{server.url} has the weight {server.weight:g}; it must be above 0 and at most 1000"
            raise place.error(section, "backends", f"{text}: to take it out, use `spiritsafe fleet drain`")
        if not 0 <= server.tier <= 9:
            raise place.error(section, "backends", f"{server.url} has the tier {server.tier}; tiers are 0 to 9")
        name = root_of(server.url)
        if name in seen:
            raise place.error(section, "backends", f"{name} is listed twice: give it a weight instead")
        seen.add(name)


def _check_lake(settings: Settings, place: _Place) -> None:
    if settings.lake and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^/\s?#]+)+/?", settings.lake):
        # Not quoted: somebody may have written a key into it.
        raise place.error("", "lake", "is no address: write s3://BUCKET/PREFIX, or leave it out")
    if settings.s3.endpoint and not re.fullmatch(r"https?://[^/\s@]+/?", settings.s3.endpoint):
        raise place.error("s3", "endpoint", "is no address: write https://HOST, without keys")
    if bool(settings.s3.access_key_env) != bool(settings.s3.secret_key_env):
        raise place.error("s3", "access_key_env", "and secret_key_env belong together: name both, or neither")
    if settings.s3.timeout_s <= 0:
        raise place.error("s3", "timeout_s", f"is {settings.s3.timeout_s:g}; it must be above 0")


def _check_notifications(settings: Settings, place: _Place) -> None:
    given = settings.notifications
    if given.address and not re.fullmatch(r"https?://[^/\s]+/?", given.address):
        raise place.error("notifications", "address", f"{given.address!r} is no address: write https://HOST")
    if given.quiet and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", given.quiet):
        raise place.error("notifications", "quiet", f"is {given.quiet!r}; write for example 22:00-07:00")
    try:
        zoneinfo.ZoneInfo(given.quiet_zone)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        text = f"{given.quiet_zone!r} is no time zone that this machine knows: write for example Europe/Berlin"
        raise place.error("notifications", "quiet_zone", f"{text}, or install tzdata") from None
    names = [channel.name for channel in given.channels]
    for number, channel in enumerate(given.channels, 1):
        _check_channel(channel, names, f"notifications.channels#{number}", place)


def _check_channel(channel: ChannelSettings, names: list[str], section: str, place: _Place) -> None:
    if not re.fullmatch(r"[\w-]{1,40}", channel.name) or names.count(channel.name) > 1:
        raise place.error(section, "name", f"is {channel.name!r}; give each channel a name of its own, of letters")
    if channel.digest_minutes < 0:
        raise place.error(section, "digest_minutes", f"is {channel.digest_minutes:g}; write 0 to be told at once")
    needed = {"slack": ("url_env",), "webhook": ("url_env", "secret_env"), "email": ("sender", "to")}[channel.kind]
    for key in needed:
        if not getattr(channel, key):
            text = f"{channel.name} is of kind {channel.kind!r}, which needs {key}: write it below"
            raise place.error(section, "name", text)
    if channel.kind == "email":
        for address in (channel.sender, *channel.to):
            if not re.fullmatch(r"[^@\s]+@[^@\s]+", address):
                raise place.error(section, "to", f"and sender are addresses, which {address!r} is not")
        if bool(channel.smtp_user) != bool(channel.smtp_password_env):
            raise place.error(section, "smtp_user", "and smtp_password_env belong together: give both, or neither")


def _check_ranges(settings: Settings, place: _Place) -> None:
    if settings.database and not re.match(r"sqlite:///|postgresql\+psycopg://", settings.database):
        # Not quoted: an address may hold a password.
        raise place.error("", "database", "is no address: write postgresql+psycopg://USER@HOST/NAME, or leave it out")
    _check_lake(settings, place)
    for section, item in (("gateway", settings.gateway), ("operator", settings.operator)):
        if not 0 <= item.port <= 65535:
            raise place.error(section, "port", f"is {item.port}; a port is between 1 and 65535 (0: any free one)")
    if settings.gateway.help_url and not re.match(r"(https?://|mailto:)\S+$", settings.gateway.help_url):
        raise place.error(
            "gateway", "help_url", f"{settings.gateway.help_url!r} is no link: write https://… or mailto:…"
        )
    if settings.tracing.endpoint and not re.match(r"https?://[^/\s]+", settings.tracing.endpoint):
        raise place.error("tracing", "endpoint", f"{settings.tracing.endpoint!r} is no URL: write http://HOST:4318")
    _check_notifications(settings, place)
    if not 0.0 <= settings.tracing.sample <= 1.0:
        raise place.error("tracing", "sample", f"is {settings.tracing.sample:g}; a share is between 0 and 1")
    if settings.gateway.workers < 1:
        raise place.error("gateway", "workers", f"is {settings.gateway.workers}; at least one worker is needed")
    if settings.gateway.workers > MOST_WORKERS:
        raise place.error(
            "gateway", "workers", f"is {settings.gateway.workers}; at most {MOST_WORKERS} share a machine"
        )
    if settings.distiller.approvals < 1:
        raise place.error("distiller", "approvals", "is below 1; somebody other than the requester always approves")
    if settings.distiller.withdrawn_days < 0:
        raise place.error("distiller", "withdrawn_days", "is below 0; 0 retires students with the next maintenance")
    bounds = [("gateway", settings.gateway.max_in_flight)]
    bounds += [(f"models#{number}", model.max_in_flight) for number, model in enumerate(settings.models, 1)]
    for section, bound in bounds:
        if bound < 0:
            raise place.error(section, "max_in_flight", f"is {bound}; write 0 for no bound")
    if settings.spool.budget_bytes < 0:
        raise place.error("spool", "budget_bytes", f"is {settings.spool.budget_bytes}; write 0 for no bound")
    if settings.limits.store and not re.match(r"(valkey|redis)s?://[^/\s]+", settings.limits.store):
        raise place.error("limits", "store", f"{settings.limits.store!r} is no address: write valkey://HOST:PORT/0")
    kept: list[tuple[str, int | None, int | None]]
    kept = [("retention", settings.retention.text_days, settings.retention.rows_days)]
    kept += [
        (f"retention.models#{number}", model.text_days, model.rows_days)
        for number, model in enumerate(settings.retention.models, 1)
    ]
    for section, *days in kept:
        if any(number is not None and number < 0 for number in days):
            raise place.error(section, "text_days", "and rows_days can't be negative; write 0 for no end")
    if settings.gateway.max_body_bytes < 1024:
        raise place.error("gateway", "max_body_bytes", "is under 1024 bytes, which no request fits in")
