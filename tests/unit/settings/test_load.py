"""Which of flag, environment, file and default is in force, and where the file comes from."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from pullthrough.declaration import Origin
from pullthrough.errors import ConfigurationError
from pullthrough.settings import SizeLimit, load_settings
from pullthrough.settings.environment import environment_name
from pullthrough.settings.fields import settings_of
from pullthrough.settings.file import MAX_FILE_BYTES
from pullthrough.settings.tables import EcrSettings, ServeSettings, TopSettings
from tests.unit.settings.support import HOME, load


def test_flag_goes_before_environment_before_file_before_default(tmp_path: Path) -> None:
    file = '[serve]\nlisten = "127.0.0.1:5003"\nworkers = 3\nmax_fills = 3\n'
    environ = {"PULLTHROUGH_SERVE_LISTEN": "127.0.0.1:5002", "PULLTHROUGH_SERVE_WORKERS": "2"}
    loaded = load(tmp_path, file, environ, {"serve.listen": "127.0.0.1:5001", "serve.data": None})
    serve = loaded.settings.serve
    assert (serve.addresses[0].port, serve.workers, serve.max_fills, serve.prefetch_per_upstream) == (5001, 2, 3, 3)
    assert loaded.sources["serve.listen"] == "flag --listen"
    assert loaded.sources["serve.workers"] == "environment PULLTHROUGH_SERVE_WORKERS"
    assert loaded.sources["serve.max_fills"] == "pullthrough.toml"
    assert "serve.prefetch_per_upstream" not in loaded.sources


#: A value other than the default for every key that has a variable.
FROM_ENVIRONMENT: dict[str, tuple[str, object]] = {
    "docker_hub_username": ("acme", "acme"),
    "docker_hub_access_token": ("hunter2", True),
    "docker_hub_access_token_file": ("token", Path("token")),
    "docker_hub_access_token_command": ("vault read 'a b'", ("vault", "read", "a b")),
    "github_username": ("acme", "acme"),
    "github_access_token": ("hunter2", True),
    "github_access_token_file": ("/run/token", Path("/run/token")),
    "github_access_token_command": ("vault", ("vault",)),
    "allow_inline_tokens": ("yes", True),
    "name": ("team-a", "team-a"),
    "journal": ("/var/lib/journal", Path("/var/lib/journal")),
    "tags": ("team=platform, cost=a=b, note=", {"team": "platform", "cost": "a=b", "note": ""}),
    "standard_rules": ("no", False),
    "serve.listen": ("[::1]:5001", "[::1]:5001"),
    "serve.data": ("/srv/data", Path("/srv/data")),
    "serve.anonymous_pull": ("true", True),
    "serve.pull_auth": ("true", True),
    "serve.max_size": ("200GiB", SizeLimit(size_bytes=200 * 1024**3)),
    "serve.min_free": ("never", SizeLimit()),
    "serve.workers": ("4", 4),
    "serve.mirrors": (
        "127.0.0.1:5001=quay, localhost:5002=github",
        {"127.0.0.1:5001": "quay", "localhost:5002": "github"},
    ),
    "serve.tls_cert": ("/dev/null", Path("/dev/null")),
    "serve.tls_key": ("/dev/null", Path("/dev/null")),
    "serve.access_log": ("misses", "misses"),
    "serve.prefetch": ("0", False),
    "serve.prefetch_per_upstream": ("1", 1),
    "serve.max_fills": ("1", 1),
    "serve.range_ahead": ("1MiB", 1024**2),
    "serve.loop": ("asyncio", "asyncio"),
    "serve.pull_time_flush": ("1s", 1.0),
    "serve.evict_interval": ("1m", 60.0),
    "serve.stale_check_timeout": ("500ms", 0.5),
    "ecr.auth": ("none", "none"),
    "ecr.auth_none_everywhere": ("yes", True),
    "ecr.account": ("123456789012", "123456789012"),
    "ecr.region": ("eu-central-1", "eu-central-1"),
    "ecr.registry_host": ("{account}.dkr.ecr.{region}.localhost:5000", "{account}.dkr.ecr.{region}.localhost:5000"),
    "ecr.strict": ("true", True),
    "ecr.htpasswd_file": ("/etc/passwd", Path("/etc/passwd")),
    "ecr.encryption_key": ("hunter2", True),
    "ecr.encryption_key_file": ("/run/key", Path("/run/key")),
    "ecr.webhook_url": ("https://hooks.example.com/a?b=c", "https://hooks.example.com/a?b=c"),
    "ecr.webhook_secret_file": ("/etc/passwd", Path("/etc/passwd")),
    "ecr.keep_events": ("700", 700),
    "ecr.lifecycle_interval": ("1m", 60.0),
}


def test_the_table_above_names_every_key_that_has_a_variable() -> None:
    keys = [
        *settings_of(TopSettings),
        *(f"serve.{key}" for key in settings_of(ServeSettings)),
        *(f"ecr.{key}" for key in settings_of(EcrSettings)),
    ]
    assert list(FROM_ENVIRONMENT) == keys


@pytest.mark.parametrize("key", [key for key in FROM_ENVIRONMENT if "tls" not in key])
def test_every_key_of_the_top_level_of_serve_and_of_ecr_can_come_from_the_environment(tmp_path: Path, key: str) -> None:
    text, value = FROM_ENVIRONMENT[key]
    path = tuple(key.split("."))
    variable = environment_name(path[:-1], path[-1])
    assert variable
    environ = {variable: text}
    if "access_token" in key:
        environ[f"PULLTHROUGH_{key.partition('_access')[0].upper()}_USERNAME"] = "acme"
    elif "username" in key:
        environ[f"PULLTHROUGH_{key.removesuffix('_username').upper()}_ACCESS_TOKEN"] = "hunter2"
    if key == "ecr.auth_none_everywhere":
        environ["PULLTHROUGH_ECR_AUTH"] = "none"
    elif key == "ecr.webhook_secret_file":
        environ["PULLTHROUGH_ECR_WEBHOOK_URL"] = "https://hooks.example.com"
    loaded = load(tmp_path, None, environ)
    attribute = settings_of(type(loaded.tables[path[:-1]]))[path[-1]].attribute
    found = getattr(loaded.tables[path[:-1]], attribute)
    assert found == (tmp_path / value if isinstance(value, Path) else value)
    assert loaded.sources[key] == f"environment {variable}"


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    loaded = load(tmp_path, None, {"PULLTHROUGH_SERVE_LISTEN": "", "PULLTHROUGH_CONFIG": ""})
    assert loaded.settings.serve.listen == "127.0.0.1:5000"
    assert "serve.listen" not in loaded.sources


def test_the_file_is_the_flags_then_the_environments_then_the_one_in_this_folder(tmp_path: Path) -> None:
    for name in ("a", "b", "pullthrough"):
        (tmp_path / f"{name}.toml").write_text(f'[serve]\ndata = "{name}"\n')
    environ = {**HOME, "PULLTHROUGH_CONFIG": "b.toml"}
    for config, variables, name in ((Path("a.toml"), environ, "a"), (None, environ, "b"), (None, HOME, "pullthrough")):
        loaded = load_settings(config, variables, {}, folder=tmp_path)
        assert loaded.file == Path(f"{name}.toml")
        assert loaded.settings.serve.data == tmp_path / name
        assert loaded.sources["serve.data"] == f"{name}.toml"


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.file is None
    assert loaded.warnings == ()
    assert loaded.settings.serve.data == Path("/home/somebody/.local/share/pullthrough")
    assert [rule.origin for rule in loaded.settings.rules] == [Origin.BUILT_IN] * 5


@pytest.mark.parametrize(
    ("environ", "data"),
    [
        ({"STATE_DIRECTORY": "/var/lib/pullthrough", "XDG_DATA_HOME": "/x"}, "/var/lib/pullthrough"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ({"XDG_DATA_HOME": "/x"}, "/x/pullthrough"),
        ({"XDG_DATA_HOME": "relative"}, "/home/somebody/.local/share/pullthrough"),
        ({"STATE_DIRECTORY": "/s", "PULLTHROUGH_SERVE_DATA": "/d"}, "/d"),
    ],
)
def test_the_data_folder_follows_systemd_then_xdg(tmp_path: Path, environ: dict[str, str], data: str) -> None:
    assert load(tmp_path, None, environ).settings.serve.data == Path(data)


def test_without_a_home_the_data_folder_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"HOME is not set; set serve.data or --data"):
        load_settings(None, {}, {}, folder=tmp_path)
    assert load_settings(None, {}, {"serve.data": "d"}, folder=tmp_path).settings.serve.data == tmp_path / "d"


def test_a_path_is_relative_to_what_names_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/c.toml").write_text('[serve]\ndata = "d"\n')
    config = Path("etc/c.toml")
    assert load_settings(config, HOME, {}, folder=tmp_path).settings.serve.data == tmp_path / "etc/d"
    assert load_settings(config, HOME, {"serve.data": "d"}, folder=tmp_path).settings.serve.data == tmp_path / "d"
    assert load_settings(config, HOME, {"serve.data": "~/d"}, folder=tmp_path).settings.serve.data == Path(
        "/home/somebody/d"
    )


def test_a_named_file_that_cannot_be_read_says_who_named_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read no.toml \(named by --config\): there is no such file"):
        load_settings(Path("no.toml"), HOME, {}, folder=tmp_path)
    with pytest.raises(ConfigurationError, match=r"named by PULLTHROUGH_CONFIG\): it is not a file"):
        load_settings(None, {**HOME, "PULLTHROUGH_CONFIG": "."}, {}, folder=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[serve\n", "is not valid TOML"),
        (b"a = 1\na = 2\n", "is not valid TOML"),
        (b"a = " + b"[" * 100_000, "is not valid TOML"),
        (b'listen = "\xff"', "is not UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), "larger than any configuration"),
    ],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "pullthrough.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path)


def test_settings_can_be_handed_to_worker_processes(tmp_path: Path) -> None:
    text = """
        allow_inline_tokens = true
        github_username = "acme"
        github_access_token = "hunter2"
        [serve.mirrors]
        "127.0.0.1:5001" = "quay"
        [template.resource_tags]
        team = "platform"
    """
    settings = load(tmp_path, text).settings
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_settings_are_frozen_and_typed_when_made_by_hand() -> None:
    serve = ServeSettings(data=Path("/d"), range_ahead_bytes=5)
    assert (serve.range_ahead_bytes, serve.control_socket) == (5, Path("/d/control.sock"))
    with pytest.raises(FrozenInstanceError):
        serve.workers = 2  # type: ignore[misc] # what the test is about
    with pytest.raises(TypeError, match="wrokers"):
        ServeSettings(data=Path("/d"), wrokers=2)  # type: ignore[call-arg] # what the test is about
    # Types are mypy's to hold: it would complain of a comment that is not needed.
    ServeSettings(data=Path("/d"), workers="2")  # type: ignore[arg-type] # what the test is about
