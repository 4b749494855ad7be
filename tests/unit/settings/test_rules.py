"""Rules, their credentials, upstreams, listeners: what a good file makes of them, and the warnings."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pullthrough.declaration import (
    CredentialSource,
    GoneUpstream,
    InlineToken,
    Origin,
    Revalidate,
    Rule,
    SecretCredential,
)
from pullthrough.settings import ListenAddress, Loaded, SizeLimit, UpstreamSettings, parse_listen
from tests.unit.settings.support import load, problem

DOCKER_HUB = {"PULLTHROUGH_DOCKER_HUB_USERNAME": "acme", "PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": "hunter2"}


def rule(loaded: Loaded, prefix: str) -> Rule:
    return next(rule for rule in loaded.settings.rules if rule.prefix == prefix)


def test_every_key_of_a_rule_reaches_it(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("hunter2")
    text = """
        [rules.mine]
        upstream = "Registry.Example.com:443"
        upstream_repository_prefix = "team/"
        freshness = "1h30m"
        freshness_by_tag = { "latest" = "10m", "*-stable" = "never", "*" = "always" }
        stale_while_revalidate = "2h"
        revalidate = "before"
        gone_upstream = "remove"
        negative = "never"
        allow = ["library/*"]
        deny = ["library/ng?nx"]
        username = "acme"
        access_token_file = "t"
        secret_name = "ecr-pullthroughcache/shared"
        custom_role_arn = "arn:aws:iam::123456789012:role/path/pulls"
        verify_image = "app:1.0"
    """
    loaded = load(tmp_path, text)
    assert rule(loaded, "mine") == Rule(
        prefix="mine",
        upstream="registry.example.com",
        upstream_repository_prefix="team",
        freshness_seconds=5400,
        freshness_by_tag=(("latest", 600), ("*-stable", math.inf), ("*", 0)),
        stale_while_revalidate_seconds=7200,
        revalidate=Revalidate.BEFORE,
        gone_upstream=GoneUpstream.REMOVE,
        negative_seconds=0,
        allow=("library/*",),
        deny=("library/ng?nx",),
        credential=CredentialSource("acme", access_token_file=tmp_path / "t"),
        origin=Origin.FILE,
        secret_name="ecr-pullthroughcache/shared",
        custom_role_arn="arn:aws:iam::123456789012:role/path/pulls",
        verify_image="app:1.0",
    )
    assert loaded.sources["rules.mine.freshness"] == "pullthrough.toml"
    assert loaded.settings.rules[0].prefix == "mine"


def test_never_and_always_of_freshness_and_of_the_stale_window(tmp_path: Path) -> None:
    text = '[rules.quay]\nfreshness = "never"\nstale_while_revalidate = "never"\n'
    assert (rule(load(tmp_path, text), "quay").freshness_seconds) == math.inf
    assert (rule(load(tmp_path, text), "quay").stale_while_revalidate_seconds) == 0
    text = '[rules.quay]\nfreshness = "always"\nstale_while_revalidate = "always"\n'
    assert (rule(load(tmp_path, text), "quay").freshness_seconds) == 0
    assert (rule(load(tmp_path, text), "quay").stale_while_revalidate_seconds) == math.inf


def test_a_rule_of_the_file_replaces_the_built_in_one_and_keeps_its_upstream_unless_told(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[rules.quay]\nfreshness = "1h"\n[rules.github]\nupstream = "ghcr.example.com"\n')
    assert (rule(loaded, "quay").upstream, rule(loaded, "quay").origin) == ("quay.io", Origin.FILE)
    assert rule(loaded, "github").upstream == "ghcr.example.com"
    assert len(loaded.settings.rules) == 5


def test_standard_rules_can_be_switched_off(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'standard_rules = false\n[rules.mine]\nupstream = "docker.io"\n')
    assert [(one.prefix, one.upstream) for one in loaded.settings.rules] == [("mine", "registry-1.docker.io")]


@pytest.mark.parametrize("prefix", ["quay", "mine"])
def test_a_rule_that_is_switched_off_is_not_served_but_is_known(tmp_path: Path, prefix: str) -> None:
    text = f"""
        [rules.{prefix}]
        upstream = "quay.io"
        enabled = false
        [rules.other]
        upstream = "quay.io"
    """
    settings = load(tmp_path, text).settings
    assert [one.prefix for one in settings.declaration.disabled] == [prefix]
    assert settings.declaration.rules == settings.rules
    assert [one.prefix for one in settings.rules] == [
        "other",
        *(name for name in ("docker-hub", "github", "quay", "kubernetes", "ecr-public") if name != prefix),
    ]
    assert prefix not in settings.declaration.templates
    mirror = f'[serve.mirrors]\n"127.0.0.1:5001" = "{prefix}"\n'
    assert f"binds 127.0.0.1:5001 to the rule '{prefix}', which does not exist" in problem(tmp_path, text + mirror)


def test_two_rules_that_differ_in_the_prefix_only_are_switched_off_one_by_one(tmp_path: Path) -> None:
    text = '[rules.a]\nupstream = "h"\nenabled = false\n[rules.b]\nupstream = "h"\n[rules.c]\nupstream = "h"\n'
    settings = load(tmp_path, text + "enabled = false\n[rules.github]\nenabled = false\n").settings
    assert [one.prefix for one in settings.declaration.disabled] == ["a", "c", "github"]
    assert [one.prefix for one in settings.rules] == ["b", "docker-hub", "quay", "kubernetes", "ecr-public"]


def test_a_rule_that_is_switched_off_is_checked_but_nothing_is_asked_of_it(tmp_path: Path) -> None:
    off = "[rules.quay]\nenabled = false\nusername = 'a'\n"
    for place in ("access_token_env = 'NOT_SET'", "access_token_file = 'missing'"):
        assert load(tmp_path, f"{off}{place}\n").warnings == ()
    assert "rules.quay.freshness" in problem(tmp_path, "[rules.quay]\nenabled = false\nfreshness = 3\n")
    assert "a username without a token" in problem(tmp_path, off)
    text = "[rules.quay]\nenabled = false\n[upstreams.'quay.io']\nretries = 1\n[templates.quay]\nkeep_images = 3\n"
    assert load(tmp_path, text).warnings == ("pullthrough.toml: [templates.quay] is for a rule that is switched off",)
    assert "templates.quay.keep_images = 0" in problem(tmp_path, text.replace("keep_images = 3", "keep_images = 0"))


def test_prefixes_may_overlap_and_a_root_rule_beside_others_is_warned_of(tmp_path: Path) -> None:
    text = '[rules.a]\nupstream = "h"\n[rules."a/b"]\nupstream = "h"\n'
    assert load(tmp_path, text).warnings == ()
    (warning,) = load(tmp_path, text + '[rules.ROOT]\nupstream = "h"\n').warnings
    assert "ROOT stands beside other prefixes (a, a/b, docker-hub," in warning
    assert load(tmp_path, 'standard_rules = false\n[rules.ROOT]\nupstream = "h"\n').warnings == ()


# Credentials


def test_an_account_goes_to_every_rule_of_its_upstream_but_those_with_their_own_or_anonymous(tmp_path: Path) -> None:
    text = """
        [rules.plain]
        upstream = "docker.io"
        [rules.own]
        upstream = "docker.io"
        username = "other"
        access_token_env = "OTHER_TOKEN"
        [rules.nobody]
        upstream = "docker.io"
        anonymous = true
    """
    loaded = load(tmp_path, text, {**DOCKER_HUB, "OTHER_TOKEN": "x"})
    account = CredentialSource("acme", access_token_env="PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN")
    assert {one.prefix: one.credential for one in loaded.settings.rules} == {
        "plain": account,
        "own": CredentialSource("other", access_token_env="OTHER_TOKEN"),
        "nobody": None,
        "docker-hub": account,
        "github": None,
        "quay": None,
        "kubernetes": None,
        "ecr-public": None,
    }


@pytest.mark.parametrize(
    ("text", "environ", "credential"),
    [
        ('github_access_token_file = "t"', {}, {"access_token_file": "t"}),
        ('github_access_token_command = ["vault", "x"]', {}, {"access_token_command": ("vault", "x")}),
        (
            'github_access_token_file = "t"',
            {"PULLTHROUGH_GITHUB_ACCESS_TOKEN": "hunter2"},
            {"access_token_env": "PULLTHROUGH_GITHUB_ACCESS_TOKEN"},
        ),
        (
            'github_access_token_file = "t"',
            {"PULLTHROUGH_GITHUB_ACCESS_TOKEN_COMMAND": "vault x"},
            {"access_token_command": ("vault", "x")},
        ),
    ],
)
def test_a_place_of_the_token_in_the_environment_goes_before_one_in_the_file(
    tmp_path: Path, text: str, environ: dict[str, str], credential: dict[str, object]
) -> None:
    (tmp_path / "t").write_text("hunter2")
    loaded = load(tmp_path, f'github_username = "acme"\n{text}\n', environ)
    if "access_token_file" in credential:
        credential = {"access_token_file": tmp_path / "t"}
    expected = CredentialSource("acme", **credential)  # type: ignore[arg-type] # a table of arguments
    assert rule(loaded, "github").credential == expected
    assert "hunter2" not in repr(loaded)


@pytest.mark.parametrize(
    ("text", "environ", "sentence"),
    [
        (
            "docker_hub_username = 'acme'",
            {},
            "docker_hub_username gives a username without a token; set PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN, or "
            "docker_hub_access_token_file, or docker_hub_access_token_command",
        ),
        (
            "",
            {"PULLTHROUGH_GITHUB_ACCESS_TOKEN": "hunter2"},
            "environment PULLTHROUGH_GITHUB_ACCESS_TOKEN gives a token without a username; "
            "set github_username or PULLTHROUGH_GITHUB_USERNAME",
        ),
        ("github_access_token_file = 'hunter2'", {}, "github_access_token_file gives a token without a username"),
        (
            "github_username = 'a'\ngithub_access_token_file = 'f'\ngithub_access_token_command = 'c'",
            {},
            "exclude each other; name one place of the token",
        ),
        (
            "",
            {**DOCKER_HUB, "PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN_FILE": "f"},
            "exclude each other; name one place of the token",
        ),
        (
            "[rules.quay]\nusername = 'a'\naccess_token_env = 'A'\naccess_token_file = 'f'",
            {"A": "x"},
            "has access_token_env and access_token_file, which exclude each other",
        ),
        ("[rules.quay]\nusername = 'a'\naccess_token_env = 'NOT_SET'", {}, "names a variable which is not set"),
        ("[rules.quay]\nusername = 'a'\nanonymous = true", {}, "is anonymous and has a username"),
        ("[rules.quay]\naccess_token_env = 'A'\nanonymous = true", {"A": "x"}, "is anonymous and has a username"),
        ("[rules.quay]\nsecret_name = 'ecr-pullthroughcache/a'\nanonymous = true", {}, "a token or a secret_name"),
    ],
)
def test_half_and_double_credentials_are_refused_with_what_to_set(
    tmp_path: Path, text: str, environ: dict[str, str], sentence: str
) -> None:
    message = problem(tmp_path, text, environ)
    assert sentence in message
    assert "hunter2" not in message


def test_a_command_that_needs_no_token_does_not_miss_it(tmp_path: Path) -> None:
    text = "docker_hub_username = 'acme'\n[rules.quay]\nusername = 'a'\naccess_token_env = 'NOT_SET'"
    loaded = load(tmp_path, text, require_tokens=False)
    credentials = {one.prefix: one.credential for one in loaded.settings.rules if one.credential}
    assert credentials == {"quay": CredentialSource("a", access_token_env="NOT_SET")}
    assert loaded.warnings == ()
    assert [sentence.partition("; ")[0] for sentence in loaded.missing_tokens] == [
        "pullthrough.toml: docker_hub_username gives a username without a token",
        "pullthrough.toml: [rules.quay] has an access_token_env that names a variable which is not set",
    ]


def test_a_token_file_that_is_not_there_is_a_warning_without_its_name(tmp_path: Path) -> None:
    text = "docker_hub_username = 'acme'\ndocker_hub_access_token_file = 'dckr_pat_hunter2'"
    (warning,) = load(tmp_path, text).warnings
    assert warning == (
        "pullthrough.toml: docker_hub_access_token_file names a file that does not exist or cannot be read"
    )


def test_an_account_that_no_rule_uses_is_warned_of(tmp_path: Path) -> None:
    (warning,) = load(tmp_path, "standard_rules = false", DOCKER_HUB).warnings
    assert warning == "environment PULLTHROUGH_DOCKER_HUB_USERNAME is not used by any rule of the settings"


INLINE = """
    docker_hub_username = "acme"
    docker_hub_access_token = " hunter2 "
    github_username = "acme"
    github_access_token_file = "t"
    [rules.mine]
    upstream = "registry.example.com"
    username = "me"
    access_token = "hunter3"
"""


def test_tokens_in_the_file_are_refused_without_the_switch(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("hunter2")
    for text in (INLINE, f"allow_inline_tokens = false\n{INLINE}"):
        message = problem(tmp_path, text)
        for key in ("docker_hub_access_token", "rules.mine.access_token"):
            assert f"pullthrough.toml: {key} would put a secret into the file" in message
        assert message.count("allow it by allow_inline_tokens = true at the top of the file") == 2
        assert "hunter" not in message


@pytest.mark.parametrize(
    ("text", "environ"),
    [("allow_inline_tokens = true\n", {})]
    + [("", {"PULLTHROUGH_ALLOW_INLINE_TOKENS": word}) for word in ("true", "TRUE", "yes", "1")]
    + [("allow_inline_tokens = false\n", {"PULLTHROUGH_ALLOW_INLINE_TOKENS": "true"})],
)
def test_tokens_in_the_file_are_taken_with_the_switch_and_warned_of(
    tmp_path: Path, text: str, environ: dict[str, str]
) -> None:
    (tmp_path / "t").write_text("hunter2")
    loaded = load(tmp_path, text + INLINE, environ)
    account = CredentialSource("acme", access_token=InlineToken("hunter2"))
    assert loaded.settings.accounts["registry-1.docker.io"] == account
    assert rule(loaded, "docker-hub").credential == account
    assert rule(loaded, "mine").credential == CredentialSource("me", access_token=InlineToken("hunter3"))
    assert loaded.warnings == tuple(
        f"pullthrough.toml: {key} is a token in a file, which gets copied and committed; {key}_file names one that holds "
        "nothing else"
        for key in ("docker_hub_access_token", "rules.mine.access_token")
    )
    assert "hunter" not in repr(loaded)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("docker_hub_access_token = 3", "docker_hub_access_token is not a text in quotes"),
        ("docker_hub_access_token = 0", "docker_hub_access_token is not a text in quotes"),
        ("docker_hub_access_token = ['hunter2']", "docker_hub_access_token is not a text in quotes"),
        ("docker_hub_access_token = 'hunter2\\nx'".replace("'", '"'), "has several lines or control characters"),
        ("docker_hub_access_token = ' '", "gives a username without a token"),
        ("docker_hub_access_token = ''", "gives a username without a token"),
        ("docker_hub_access_token = 'x'\ndocker_hub_access_token_file = 'f'", "exclude each other"),
        ("github_access_token = 'hunter2'", "github_access_token gives a token without a username"),
        ("[rules.mine]\nupstream = 'h'\naccess_token = 'hunter2'", "has access_token without a username"),
        ("[rules.mine]\nupstream = 'h'\nusername = 'a'\naccess_token = true", "access_token is not a text in quotes"),
        (
            "[rules.mine]\nupstream = 'h'\nusername = 'a'\naccess_token = 'hunter2'\naccess_token_file = 'f'",
            "has access_token and access_token_file, which exclude each other",
        ),
        ("[rules.mine]\nupstream = 'h'\nanonymous = true\naccess_token = 'hunter2'", "is anonymous and has a username"),
        ("[rules.mine]\nupstream = 'h'\npassword = 'hunter2'", "password would put a secret into the file"),
        ("[ecr]\nencryption_key = 'hunter2'", "ecr.encryption_key would put a secret into the file"),
        ("password = 'hunter2'", "password would put a secret into the file"),
    ],
)
def test_the_switch_lets_in_tokens_only_and_no_wrong_ones(tmp_path: Path, text: str, sentence: str) -> None:
    message = problem(tmp_path, f"allow_inline_tokens = true\ndocker_hub_username = 'acme'\n{text}\n")
    assert sentence in message
    assert "hunter2" not in message


def test_a_token_in_the_environment_goes_before_one_in_the_file_which_still_needs_the_switch(tmp_path: Path) -> None:
    text = "docker_hub_access_token = 'hunter3'\n"
    assert "would put a secret into the file" in problem(tmp_path, text, DOCKER_HUB)
    loaded = load(tmp_path, f"allow_inline_tokens = true\n{text}", DOCKER_HUB)
    account = CredentialSource("acme", access_token_env="PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN")
    assert rule(loaded, "docker-hub").credential == account
    assert len(loaded.warnings) == 1


ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:ecr-pullthroughcache/hub-AbCdEf"


def test_a_secret_that_is_there_goes_before_the_account(tmp_path: Path) -> None:
    loaded = load(tmp_path, f"[rules.hub]\nupstream = 'docker.io'\ncredential_arn = '{ARN}'\n", DOCKER_HUB)
    assert rule(loaded, "hub").credential == SecretCredential(ARN)


@pytest.mark.parametrize(
    "beside",
    [
        "username = 'a'",
        "access_token_file = 'f'",
        "username = 'a'\naccess_token_command = 'c'",
        "anonymous = true",
        "secret_name = 'ecr-pullthroughcache/a'",
    ],
)
def test_a_secret_that_is_there_excludes_what_else_makes_a_credential(tmp_path: Path, beside: str) -> None:
    message = problem(tmp_path, f"[rules.quay]\ncredential_arn = '{ARN}'\n{beside}\n")
    assert "[rules.quay] has a credential_arn, which excludes anonymous, username, secret_name and tokens" in message
    assert "problems" not in message


# Upstreams


def test_every_key_of_an_upstream_reaches_it_under_its_canonical_host(tmp_path: Path) -> None:
    for name in ("ca.pem", "client.pem"):
        (tmp_path / name).write_text("")
    text = """
        [upstreams."docker.io"]
        endpoint = ["HTTP://127.0.0.1:5009/", "https://Mirror.example.com/hub/"]
        token_realms = ["auth.example.com:443", "Auth2.example.com:8443"]
        ca_file = "ca.pem"
        client_cert = "client.pem"
        client_key = "client.pem"
        proxy = "http://user:hunter2@proxy:3128"
        connect_timeout = "1s"
        first_byte_timeout = "2s"
        stall_timeout = "3s"
        queue_timeout = "4s"
        connections = 5
        retries = 0
    """
    loaded = load(tmp_path, text)
    expected = UpstreamSettings(
        endpoint=("http://127.0.0.1:5009", "https://mirror.example.com/hub"),
        token_realms=("auth.example.com", "auth2.example.com:8443"),
        ca_file=tmp_path / "ca.pem",
        client_cert=tmp_path / "client.pem",
        client_key=tmp_path / "client.pem",
        proxy="http://user:hunter2@proxy:3128",
        connect_timeout_seconds=1,
        first_byte_timeout_seconds=2,
        stall_timeout_seconds=3,
        queue_timeout_seconds=4,
        connections=5,
        retries=0,
    )
    assert loaded.settings.upstreams == {"registry-1.docker.io": expected}
    assert "hunter2" not in repr(loaded)


def test_empty_values_of_an_upstream_are_the_defaults(tmp_path: Path) -> None:
    text = '[upstreams."quay.io"]\nendpoint = ""\ntoken_realms = []\nca_file = ""\nproxy = ""\n'
    assert load(tmp_path, text).settings.upstreams["quay.io"] == UpstreamSettings()


def test_an_upstream_that_is_misspelt_is_warned_of(tmp_path: Path) -> None:
    (warning,) = load(tmp_path, '[upstreams."quay.oi"]\n').warnings
    assert warning == (
        'pullthrough.toml: [upstreams."quay.oi"] is for an upstream that no rule of the settings has; is quay.io meant?'
    )


def test_an_upstream_that_a_rule_of_the_api_may_have_is_not(tmp_path: Path) -> None:
    assert load(tmp_path, '[upstreams."127.0.0.1:5001"]\n[upstreams."registry.example.com"]\n').warnings == ()


# Listeners and limits


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:5000", ("127.0.0.1", 5000), True),
        ("127.9.9.9:0", ("127.9.9.9", 0), True),
        ("LOCALHOST:5000", ("localhost", 5000), True),
        ("[::1]:5000", ("::1", 5000), True),
        ("[0:0::1]:5000", ("::1", 5000), True),
        ("0.0.0.0:5000", ("0.0.0.0", 5000), False),
        ("[::]:5000", ("::", 5000), False),
        ("10.0.0.1:80", ("10.0.0.1", 80), False),
        ("cache.internal:5000", ("cache.internal", 5000), False),
        ("localhost.example.com:5000", ("localhost.example.com", 5000), False),
    ],
)
def test_listen_addresses(text: str, address: tuple[str, int], loopback: bool) -> None:
    parsed = parse_listen(text)
    assert parsed == ListenAddress(*address)
    assert parsed.is_loopback is loopback
    assert parse_listen(str(parsed)) == parsed


@pytest.mark.parametrize("listen", ["0.0.0.0:5000", "[::]:5000", "192.168.1.5:5000", "cache.internal:5000"])
def test_listening_beyond_loopback_needs_a_login_or_anonymous_pull(tmp_path: Path, listen: str) -> None:
    for more in ("", "anonymous_pull = true\n", "pull_auth = true\n"):
        assert load(tmp_path, f'[serve]\nlisten = "{listen}"\n{more}').warnings == ()


def test_an_open_listener_before_private_content_is_warned_of(tmp_path: Path) -> None:
    text = '[serve]\nlisten = "0.0.0.0:5000"\n'
    assert load(tmp_path, text, DOCKER_HUB).warnings == ()
    (warning,) = load(tmp_path, text + "anonymous_pull = true\n", DOCKER_HUB).warnings
    assert (
        "everyone who can reach 0.0.0.0:5000 can pull what the accounts of these rules may read: docker-hub" in warning
    )


@pytest.mark.parametrize(
    "serve", ['listen = "0.0.0.0:5000"', '[serve.mirrors]\n"0.0.0.0:5000" = "quay"'], ids=["listen", "mirrors"]
)
def test_nobody_is_let_in_from_elsewhere_without_being_told_twice(tmp_path: Path, serve: str) -> None:
    text = f'[ecr]\nauth = "none"\n[serve]\n{serve}\n'
    message = problem(tmp_path, text)
    assert 'ecr.auth = "none" lets in everyone, and other machines can reach 0.0.0.0:5000' in message
    assert "set ecr.auth_none_everywhere = true" in message
    first, second = load(tmp_path, text.replace("[serve]", "auth_none_everywhere = true\n[serve]", 1)).warnings
    assert "taken for the registry's root; this is for throw-away use" in first
    assert "everyone who can reach 0.0.0.0:5000 may change and push everything" in second


def test_no_authentication_on_loopback_is_warned_of(tmp_path: Path) -> None:
    (warning,) = load(tmp_path, '[ecr]\nauth = "none"\n').warnings
    assert "throw-away use" in warning


def test_api_keys_have_names_and_each_an_id_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    (tmp_path / "policy").touch()
    key = '[ecr.keys.{}]\naccess_key_id = "{}"\nsecret_access_key_file = "secret"\n'
    settings = load(tmp_path, key.format("ci", "AKIA1") + key.format('"a.b@c"', "AKIA2") + 'role = "admin"\n').settings
    assert {name: (key.access_key_id, key.role) for name, key in settings.ecr_keys.items()} == {
        "ci": ("AKIA1", "pull"),
        "a.b@c": ("AKIA2", "admin"),
    }
    assert "[ecr.keys.b] has the access_key_id of [ecr.keys.a]" in problem(
        tmp_path, key.format("a", "AKIA1") + key.format("b", "AKIA1")
    )
    assert "a role and a policy_file, which exclude each other" in problem(
        tmp_path, key.format("a", "AKIA1") + 'role = "pull"\npolicy_file = "policy"\n'
    )
    message = problem(tmp_path, "[ecr.keys.a]\n")
    assert "lacks its access_key_id" in message
    assert "lacks its secret_access_key_file" in message


def test_the_encryption_key_is_beside_the_data_folder(tmp_path: Path) -> None:
    assert load(tmp_path, '[serve]\ndata = "a/data"\n').settings.encryption_key_path == tmp_path / "a/data.key"
    text = '[ecr]\nencryption_key_file = "k"\n'
    assert load(tmp_path, text).settings.encryption_key_path == tmp_path / "k"


def test_mirrors_are_listeners_bound_to_rules(tmp_path: Path) -> None:
    text = '[serve.mirrors]\n"127.0.0.1:5001" = "docker-hub"\n"localhost:5002" = "mine"\n[rules.mine]\nupstream = "h"\n'
    serve = load(tmp_path, text).settings.serve
    assert serve.mirrors == {"127.0.0.1:5001": "docker-hub", "localhost:5002": "mine"}
    assert [address.port for address in serve.addresses] == [5000, 5001, 5002]


def test_port_zero_may_be_asked_for_more_than_once(tmp_path: Path) -> None:
    text = '[serve]\nlisten = "127.0.0.1:0"\n[serve.mirrors]\n"127.0.0.1:0" = "quay"\n'
    assert load(tmp_path, text).settings.serve.mirrors == {"127.0.0.1:0": "quay"}


def test_size_limits_are_shares_bytes_or_none() -> None:
    assert SizeLimit(percent=80).bytes_of(1000) == 800
    assert SizeLimit(size_bytes=5).bytes_of(1000) == 5
    assert SizeLimit().bytes_of(1000) is None
    assert [str(SizeLimit(percent=12.5)), str(SizeLimit(size_bytes=1024)), str(SizeLimit())] == [
        "12.5%",
        "1KiB",
        "never",
    ]
