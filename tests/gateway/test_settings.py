"""The settings file: what it accepts, and what its errors say."""

import dataclasses
import sys
from pathlib import Path

import pytest

from gateway.ledger.errors import LedgerError
from gateway.ledger.lake import Lake
from gateway.settings import DEFAULT_TEXT, BackendSettings, Settings, SettingsError, ensure_file, load_settings

MODEL = """
[[models]]
name = "teacher"
role = "teacher"
backends = ["http://127.0.0.1:8001"]
"""


def load(tmp_path: Path, text: str, **environment: str) -> Settings:
    """Write a settings file and read it with an environment of its own."""
    file = tmp_path / "spiritsafe.toml"
    file.write_text(text)
    return load_settings(file, environment)


def test_default_file_is_valid_and_means_the_defaults(tmp_path: Path) -> None:
    """The file that a first start writes is accepted, and its one model is the teacher."""
    settings = load(tmp_path, DEFAULT_TEXT)
    assert settings.teacher.nano_prices == (1000, 3000)
    assert settings.data_dir == (tmp_path / "spiritsafe-data").resolve()
    assert settings.gateway.port == 8080
    assert settings.database_url == f"sqlite:///{tmp_path.resolve()}/spiritsafe-data/control.sqlite"


def test_start_without_a_file_writes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start with no file works and leaves the default file; an existing file is never overwritten."""
    monkeypatch.chdir(tmp_path)
    settings = load_settings(environment={})
    assert ensure_file(settings)
    assert (tmp_path / "spiritsafe.toml").read_text() == DEFAULT_TEXT
    (tmp_path / "spiritsafe.toml").write_text(MODEL)
    assert not ensure_file(load_settings(environment={}))
    assert (tmp_path / "spiritsafe.toml").read_text() == MODEL


def test_named_file_must_exist(tmp_path: Path) -> None:
    """A file that was named and does not exist is an error, never silently the defaults."""
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(tmp_path / "absent.toml", {})


@pytest.mark.parametrize(
    ("text", "line", "remedy"),
    [
        ('database = "postgresql://u@h/n"\n' + MODEL, 1, r"write postgresql\+psycopg://USER@HOST/NAME"),
        ('database = "mysql://u@h/n"\n' + MODEL, 1, "or leave it out"),
        (MODEL + '[gateway]\nprot = 1\n', 7, "known here: .*port"),
        (MODEL + '[gateway]\nport = "http"\n', 7, "must be of type int"),
        (MODEL + "[gateway]\nworkers = 0\n", 7, "at least one worker"),
        (MODEL + "[gateway]\nport = 70000\n", 7, "between 1 and 65535"),
        (MODEL + "[retention]\ntext_days = -1\n", 7, "write 0 for no end"),
        (MODEL + '[[retention.models]]\nname = "m"\ntext_days = -1\n', 8, "write 0 for no end"),
        (MODEL + '[notifications]\nquiet = "at night"\n', 7, "write for example 22:00-07:00"),
        (MODEL + '[notifications]\nquiet_zone = "Mars/Olympus"\n', 7, "no time zone that this machine knows"),
        (MODEL + '[notifications]\naddress = "safe"\n', 7, "write https://HOST"),
        (MODEL + '[[notifications.channels]]\nname = "a b"\n', 7, "a name of its own"),
        (MODEL + '[[notifications.channels]]\nname = "a"\nkind = "slack"\n', 7, "which needs url_env"),
        (MODEL + '[[notifications.channels]]\nname="a"\nkind="email"\nsender="x"\nto=["a@b"]\n', 10, "'x' is not"),
        (MODEL + '[[notifications.channels]]\nname = "a"\ndigest_minutes = -1\n', 8, "told at once"),
        (MODEL + '[gateway]\non_spool_failure = "shrug"\n', 7, "choose one of 'refuse', 'serve'"),
        (MODEL.replace('"http://127.0.0.1:8001"', "7"), 5, "write a URL, or a table"),
        (MODEL.replace('"http://127.0.0.1:8001"', '{url = "http://a", wait = 1}'), 5, "known here: url, weight, tier"),
        (MODEL.replace('"http://127.0.0.1:8001"', '{url = "http://a", tier = "1"}'), 5, "must be of type int"),
        (MODEL.replace('"http://127.0.0.1:8001"', '{url = "http://a", weight = 0}'), 5, "fleet drain"),
        (MODEL.replace('"http://127.0.0.1:8001"', '{url = "http://a", tier = -1}'), 5, "tiers are 0 to 9"),
        (MODEL.replace('"http://127.0.0.1:8001"', '"http://a/v1", "http://a/"'), 5, "listed twice"),
        (MODEL.rpartition("backends")[0] + '[[models.backends]]\nurl = "a"\n', 5, "is no URL"),
        (MODEL.replace("backends", 'balance = "fair"\nbackends'), 5, "'affinity', 'least_busy'"),
        (MODEL + MODEL, 8, "declared twice"),
        (MODEL.replace('"teacher"\nrole', '"auto"\nrole'), 3, "other than 'auto'"),
        (MODEL.replace('["http://127.0.0.1:8001"]', "[]"), 5, "list vLLM's URL"),
        (MODEL.replace("http://127.0.0.1:8001", "127.0.0.1:8001"), 5, "http://HOST:PORT"),
        (MODEL.replace('["http://127.0.0.1:8001"]', '"http://127.0.0.1:8001"'), 5, "square brackets"),
        (MODEL + "[models.serve]\nport = 8001\n", None, "needs `path`"),
        (MODEL.replace('role = "teacher"', 'role = "student"'), None, "no model has role"),
        ("models = 3\n", 1, "must be a list"),
        ("data_dir = [\n", None, "mend the TOML"),
    ],
)  # fmt: skip
def test_errors_name_the_line_and_the_remedy(tmp_path: Path, text: str, line: int | None, remedy: str) -> None:
    """A wrong value is refused with the file, the line it stands on, and what to write instead."""
    with pytest.raises(SettingsError, match=remedy) as error:
        load(tmp_path, text)
    assert str(tmp_path / "spiritsafe.toml") in str(error.value)
    if line is not None:
        assert f"line {line}:" in str(error.value)


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    """`SPIRITSAFE_DATA_DIR` and `SPIRITSAFE_SECTION__KEY` win over the file, with the same validation."""
    text = MODEL + "[gateway]\nport = 9000\n"
    elsewhere = {"SPIRITSAFE_DATA_DIR": "/somewhere", "SPIRITSAFE_GATEWAY__PORT": "9001"}
    settings = load(tmp_path, text, **elsewhere, SPIRITSAFE_GATEWAY__HOST="0.0.0.0")
    assert settings.data_dir == Path("/somewhere")
    assert (settings.gateway.host, settings.gateway.port) == ("0.0.0.0", 9001)
    with pytest.raises(SettingsError, match="at least one worker"):
        load(tmp_path, text, SPIRITSAFE_GATEWAY__WORKERS="0")


def test_served_model_has_its_own_url(tmp_path: Path) -> None:
    """A model with `[models.serve]` needs no backend: it is reached where it is served."""
    text = MODEL.replace('backends = ["http://127.0.0.1:8001"]\n', "") + '[models.serve]\npath = "w"\nport = 8009\n'
    settings = load(tmp_path, text)
    assert settings.teacher.urls == ("http://127.0.0.1:8009",)


def test_settings_are_frozen(tmp_path: Path) -> None:
    """Nothing changes the settings once they are read."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(tmp_path, MODEL).gateway.port = 1  # type: ignore[misc]


def test_backends_are_urls_or_tables(tmp_path: Path) -> None:
    """Both may stand in one list, and a table may have a header of its own."""
    mixed = MODEL.replace('"http://127.0.0.1:8001"', '"http://a", {url = "http://b", weight = 2, tier = 1}')
    servers = load(tmp_path, mixed).teacher.servers
    assert servers == (BackendSettings("http://a", 1.0, 0), BackendSettings("http://b", 2.0, 1))
    headed = MODEL.rpartition("backends")[0] + '[[models.backends]]\nurl = "http://b"\nweight = 2\ntier = 1\n'
    assert load(tmp_path, headed).teacher.servers == servers[1:]


def test_the_control_plane_s_address_is_kept_and_not_shown(tmp_path: Path) -> None:
    """It may hold a password: what prints the settings leaves it out, as does the error about a wrong one."""
    address = "postgresql+psycopg://safe:not-told@db/spiritsafe"
    settings = load(tmp_path, f'database = "{address}"\n' + MODEL)
    assert settings.database_url == address
    assert "not-told" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, MODEL, SPIRITSAFE_DATABASE="mysql://safe:not-told@db/spiritsafe")
    assert "not-told" not in str(caught.value)


def test_a_lakes_address_is_checked_and_not_quoted(tmp_path: Path) -> None:
    """Somebody may have written a key into it; the environment may name it.

    A bucket alone is none: an erasure deletes the old versions of all that lies below the prefix.
    """
    for text in (
        "s3://AKIA:hush@bucket/x",
        "bucket/x",
        "s3://bucket/x?key=hush",
        "gs://bucket/hush",
        "s3://hush-bucket/",
    ):
        with pytest.raises(SettingsError, match=r"lake: is no address: write s3://BUCKET/PREFIX") as caught:
            load(tmp_path, f'lake = "{text}"\n{DEFAULT_TEXT}')
        assert "hush" not in str(caught.value)
    assert load(tmp_path, DEFAULT_TEXT, SPIRITSAFE_LAKE="s3://bucket/house").lake == "s3://bucket/house"


def test_a_buckets_keys_are_named_and_stand_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None named: AWS's own; a name without a value is an error that says which."""
    assert load(tmp_path, DEFAULT_TEXT).s3.keys() is None
    with pytest.raises(SettingsError, match="name both, or neither"):
        load(tmp_path, f'{DEFAULT_TEXT}\n[s3]\naccess_key_env = "LAKE_ID"')
    named = load(tmp_path, f'{DEFAULT_TEXT}\n[s3]\naccess_key_env = "LAKE_ID"\nsecret_key_env = "LAKE_SECRET"').s3
    monkeypatch.setenv("LAKE_ID", "id")
    with pytest.raises(SettingsError, match=r"s3\.access_key_env and s3\.secret_key_env name LAKE_SECRET"):
        named.keys()
    monkeypatch.setenv("LAKE_SECRET", "hush")
    assert named.keys() == ("id", "hush")
    assert "hush" not in repr(named)


def test_a_lake_in_a_bucket_needs_a_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "gateway.ledger.bucket", raising=False)
    with pytest.raises(LedgerError, match=r"pip install 'spiritsafe\[s3\]'"):
        Lake.of(Settings(data_dir=tmp_path, lake="s3://bucket/house"))
