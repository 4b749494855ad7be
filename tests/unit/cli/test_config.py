"""`config show` and `config check`: what is in force, where from, and never a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullthrough.cli.exit_codes import ExitCode
from pullthrough.settings.models import ServeSettings, TopSettings, kinds_of
from tests.unit.cli.support import Command

FILE = """
docker_hub_username = "acme"

[serve]
workers = 2

[rules.mine]
upstream = "registry.example.com"
username = "me"
access_token_file = "token"

[rules.vault]
upstream = "registry.example.com"
username = "me"
access_token_command = ["vault", "read", "hunter2"]

[rules.variable]
upstream = "docker.io"
username = "me"
access_token_env = "MY_TOKEN"

[upstreams."registry.example.com"]
proxy = "http://me:hunter2@proxy:3128"
"""
ENVIRON = {"PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": "hunter2", "MY_TOKEN": "hunter2", "PULLTHROUGH_SERVE_LOOP": "asyncio"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pullthrough.toml").write_text(FILE)
    (tmp_path / "token").write_text("hunter2\n")
    (tmp_path / "data").mkdir()
    return tmp_path


def test_every_setting_is_shown_with_where_it_came_from(run: Command, folder: Path) -> None:
    document = run("config", "show", "--listen", "127.0.0.1:5009", "--json", environ=ENVIRON).json
    settings = document["settings"]
    assert document["file"] == "pullthrough.toml"
    assert settings["serve.listen"] == {"value": "127.0.0.1:5009", "source": "flag --listen"}
    assert settings["serve.loop"] == {"value": "asyncio", "source": "environment PULLTHROUGH_SERVE_LOOP"}
    assert settings["serve.workers"] == {"value": 2, "source": "pullthrough.toml"}
    assert settings["serve.max_size"] == {"value": "80%", "source": "default"}
    assert settings["rules.quay.upstream"] == {"value": "quay.io", "source": "built-in rule"}
    assert settings["rules.docker-hub.username"] == {"value": "acme", "source": "docker_hub_username"}
    assert settings["rules.quay.username"] == {"value": "", "source": "default"}
    assert settings['upstreams."registry.example.com".connect_timeout'] == {"value": "5s", "source": "default"}
    for key in (*kinds_of(TopSettings), *(f"serve.{key}" for key in kinds_of(ServeSettings))):
        assert key in settings


def test_a_secret_is_shown_as_a_fingerprint_that_tells_equal_ones(run: Command, folder: Path) -> None:
    outcome = run("config", "show", "--json", environ=ENVIRON)
    document = outcome.json
    settings = document["settings"]
    fingerprints = {
        settings[key]["fingerprint"]
        for key in ("docker_hub_access_token", "rules.mine.access_token_file", "rules.variable.access_token_env")
    }
    assert len(fingerprints) == 1
    assert document["fingerprint_key"] == "stored"
    assert settings["docker_hub_access_token"]["value"] is None
    assert settings["rules.mine.access_token_file"]["value"] == str(folder / "token")
    assert settings["rules.vault.access_token_command"] == {"value": "vault …", "source": "pullthrough.toml"}
    assert settings['upstreams."registry.example.com".proxy']["value"] == "http://…@proxy:3128"
    for form in ([], ["--all"], ["--json"]):
        shown = run("config", "show", *form, environ=ENVIRON)
        assert "hunter2" not in shown.out + shown.err
    assert f"fingerprint {fingerprints.pop()}…" in run("config", "show", environ=ENVIRON).out


def test_secrets_of_the_apis_are_shown_as_fingerprints_and_addresses_up_to_the_host(run: Command, folder: Path) -> None:
    (folder / "pullthrough.toml").write_text(
        '[ecr]\nwebhook_url = "https://hooks.example.com/hunter2?t=hunter2"\nwebhook_secret_file = "token"\n'
        '[ecr.keys.ci]\naccess_key_id = "AKIACI"\nsecret_access_key_file = "token"\n'
    )
    environ = {"PULLTHROUGH_ECR_ENCRYPTION_KEY": "hunter2"}
    settings = run("config", "show", "--json", environ=environ).json["settings"]
    assert settings["ecr.webhook_url"]["value"] == "https://hooks.example.com/…"
    assert settings["ecr.encryption_key"]["value"] is None
    assert settings["ecr.keys.ci.access_key_id"]["value"] == "AKIACI"
    keys = ("ecr.encryption_key", "ecr.keys.ci.secret_access_key_file", "ecr.webhook_secret_file")
    assert len({settings[key]["fingerprint"] for key in keys}) == 1
    for form in ([], ["--all"], ["--json"]):
        shown = run("config", "show", *form, environ=environ)
        assert "hunter2" not in shown.out + shown.err


def test_a_token_in_the_place_of_a_path_is_not_shown(run: Command, tmp_path: Path) -> None:
    (tmp_path / "pullthrough.toml").write_text('github_username = "a"\ngithub_access_token_file = "ghp_hunter2"\n')
    outcome = run("config", "show")
    assert outcome.code == 0
    assert "hunter2" not in outcome.out + outcome.err
    assert "a file that cannot be read" in outcome.out
    assert outcome.err.count("warning: ") == 1


def test_the_short_form_leaves_out_defaults_of_rules_and_says_so(run: Command) -> None:
    short, whole = run("config", "show"), run("config", "show", "--all")
    assert "rules.quay.freshness" not in short.out
    assert "rules.quay.freshness" in whole.out
    assert "have their default; --all shows them" in short.err
    assert whole.err == ""


def test_without_a_data_folder_the_fingerprints_are_said_to_be_temporary(run: Command, tmp_path: Path) -> None:
    environ = {**ENVIRON, "PULLTHROUGH_DOCKER_HUB_USERNAME": "acme"}
    outcome = run("config", "show", environ=environ)
    assert "the fingerprints hold for this run only" in outcome.err
    assert run("config", "show", "--json", environ=environ).json["fingerprint_key"] == "temporary"
    assert not (tmp_path / "data").exists()


def test_check_says_that_a_configuration_is_valid_and_warns(run: Command, tmp_path: Path) -> None:
    outcome = run("config", "check")
    assert outcome.code == 0
    assert outcome.out == (
        "the configuration (no file) is valid; the rules are: docker-hub, github, quay, kubernetes, ecr-public\n"
    )
    (tmp_path / "pullthrough.toml").write_text('[rules.ROOT]\nupstream = "h"\n')
    outcome = run("config", "check")
    assert outcome.out.startswith("pullthrough.toml is valid; the rules are: ROOT, docker-hub")
    assert outcome.err.startswith("warning: the rule ROOT stands beside")
    document = run("config", "check", "--json").json
    assert document["valid"] is True
    assert len(document["warnings"]) == 1


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_wrong_configuration_fails_both(run: Command, tmp_path: Path, command: str) -> None:
    (tmp_path / "other.toml").write_text("[serve]\nwrokers = 2\n")
    outcome = run("config", command, "--config", "other.toml")
    assert outcome.code == ExitCode.USAGE
    assert "other.toml: unknown key serve.wrokers; did you mean serve.workers?" in outcome.err
    assert "reference: PT100" in outcome.err
