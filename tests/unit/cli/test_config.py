"""`config show` and `config check`: what is in force, where from, and never a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullthrough.cli.exit_codes import ExitCode
from pullthrough.settings.fields import settings_of
from pullthrough.settings.tables import (
    AccessSettings,
    ScanningSettings,
    ServeSettings,
    TemplateSettings,
    TopSettings,
)
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
    tables: dict[str, type] = {
        "serve.": ServeSettings,
        "template.": TemplateSettings,
        "access.": AccessSettings,
        "scanning.": ScanningSettings,
        "": TopSettings,
    }
    for key in (f"{table}{key}" for table, model in tables.items() for key in settings_of(model)):
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


INLINE = """
allow_inline_tokens = true
docker_hub_username = "acme"
docker_hub_access_token = "hunter2 "

[rules.mine]
upstream = "registry.example.com"
username = "me"
access_token = "hunter2"

[rules.off]
enabled = false
upstream = "registry.example.com"
username = "me"
access_token = "hunter2"
"""


def test_a_token_in_the_file_is_shown_as_a_fingerprint_only(run: Command, folder: Path) -> None:
    (folder / "pullthrough.toml").write_text(INLINE)
    settings = run("config", "show", "--json").json["settings"]
    keys = ("docker_hub_access_token", "rules.mine.access_token", "rules.off.access_token")
    shown = [settings[key] for key in keys]
    assert all(row == {"value": None, "source": "pullthrough.toml", "fingerprint": row["fingerprint"]} for row in shown)
    in_environment = run("config", "show", "--json", environ={"PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": "hunter2"}).json
    same = in_environment["settings"]["docker_hub_access_token"]
    assert same["source"] == "environment PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN"
    assert {row["fingerprint"] for row in (*shown, same)} == {same["fingerprint"]}
    for command in (["show"], ["show", "--all"], ["show", "--json"], ["check"], ["check", "--json"]):
        outcome = run("config", *command)
        assert outcome.code == 0
        assert "hunter2" not in outcome.out + outcome.err
    assert "warning: pullthrough.toml: rules.mine.access_token is a token in a file" in run("config", "check").err


def test_a_token_in_the_file_that_another_place_goes_before_has_no_fingerprint(run: Command, folder: Path) -> None:
    (folder / "pullthrough.toml").write_text(INLINE)
    environ = {"PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN_FILE": str(folder / "token")}
    settings = run("config", "show", "--json", environ=environ).json["settings"]
    assert settings["docker_hub_access_token"] == {"value": None, "source": "default"}
    assert settings["docker_hub_access_token_file"]["fingerprint"] == settings["rules.mine.access_token"]["fingerprint"]


def test_a_rule_that_is_switched_off_is_shown_with_its_account(run: Command, folder: Path) -> None:
    (folder / "pullthrough.toml").write_text(
        "[rules.docker-hub]\nenabled = false\n"
        "[rules.mine]\nupstream = 'h'\nenabled = false\nusername = 'me'\naccess_token_env = 'NOT_SET'\n"
    )
    environ = {"PULLTHROUGH_DOCKER_HUB_USERNAME": "acme", "PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": "hunter2"}
    settings = run("config", "show", "--json", environ=environ).json["settings"]
    assert settings["rules.docker-hub.enabled"] == {"value": False, "source": "pullthrough.toml"}
    assert settings["rules.docker-hub.username"] == {"value": "acme", "source": "docker_hub_username"}
    assert settings["rules.mine.access_token_env"] == {"value": "NOT_SET", "source": "pullthrough.toml"}
    assert run("config", "check", "--json", environ=environ).json["rules"] == [
        "github",
        "quay",
        "kubernetes",
        "ecr-public",
    ]


def test_a_rules_template_is_shown_as_it_is_in_force(run: Command, folder: Path) -> None:
    (folder / "pullthrough.toml").write_text(
        '[tags]\nteam = "platform"\n[template]\nkeep_images = "never"\ntag_mutability = "immutable"\n'
        '[templates.quay]\ntag_mutability = "mutable"\n[access]\nnode_roles = ["nodes"]\n'
        '[scanning]\nfrequency = "on_push"\n'
    )
    settings = run("config", "show", "--json").json["settings"]
    file = "pullthrough.toml"
    assert {
        key: (settings[key]["value"], settings[key]["source"]) for key in settings if key.startswith("templates.")
    } == {
        f"templates.quay.{key}": shown
        for key, shown in {
            **{key: (settings[f"template.{key}"]["value"], "default") for key in settings_of(TemplateSettings)},
            "keep_images": ("never", "template.keep_images"),
            "tag_mutability": ("mutable", file),
        }.items()
    }
    assert settings["tags"] == {"value": {"team": "platform"}, "source": file}
    assert settings["access.node_roles"] == {"value": ["nodes"], "source": file}
    assert settings["scanning.frequency"] == {"value": "on_push", "source": file}
    short = run("config", "show").out
    assert "templates.quay.keep_images" in short
    assert "template.encryption" not in short
    assert "access.vpc" not in short


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


@pytest.mark.parametrize(
    ("lines", "file", "message"),
    [
        (
            ["[ecr.keys.ci]", 'access_key_id = "AKIAEXAMPLE1"', 'secret_access_key_file = "s"', 'policy_file = "file"'],
            '{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:Other": "true"}}}}',
            "ecr.keys.ci.policy_file: the file is not a policy",
        ),
        (["[ecr]", 'htpasswd_file = "file"'], "no colon", "ecr.htpasswd_file: the file"),
        (
            ["[ecr]", 'webhook_url = "https://h"', 'webhook_secret_file = "file"'],
            "",
            "ecr.webhook_secret_file: the file",
        ),
    ],
)
def test_check_reads_the_files_that_a_start_would(
    run: Command, tmp_path: Path, lines: list[str], file: str, message: str
) -> None:
    (tmp_path / "file").write_text(file)
    (tmp_path / "s").write_text("0123456789012345678901234567890123456789")
    (tmp_path / "pullthrough.toml").write_text("\n".join(lines))
    outcome = run("config", "check")
    assert outcome.code == ExitCode.USAGE
    assert message in outcome.err


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_wrong_configuration_fails_both(run: Command, tmp_path: Path, command: str) -> None:
    (tmp_path / "other.toml").write_text("[serve]\nwrokers = 2\n")
    outcome = run("config", command, "--config", "other.toml")
    assert outcome.code == ExitCode.USAGE
    assert "other.toml: unknown key serve.wrokers; did you mean serve.workers?" in outcome.err
    assert "reference: PT100" in outcome.err
