"""Every key refuses what it cannot use: with the file, the key, the value (unless it may be a secret) and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullthrough.settings.fields import settings_of
from pullthrough.settings.tables import (
    AccessSettings,
    EcrSettings,
    KeySettings,
    RuleSettings,
    ScanningSettings,
    ServeSettings,
    TemplateSettings,
    TopSettings,
    UpstreamSettings,
)
from tests.unit.settings.support import load, problem

_DURATION = [("30", "needs a unit"), ('"30"', "needs a unit"), ('"fast"', "is not a duration"), ("true", "in quotes")]
_FLAG = [('"true"', "without quotes"), ("1", "is neither true nor false")]
_TEXT = [("3", "is not a text in quotes"), ('"a\\nb"', "control character")]
_PATH = [("3", "is not a text in quotes"), ('"a\\u0000b"', "null character")]
_COMMAND = [("3", "is not a list of texts"), ('"a \'b"', "quote that is not closed"), ('["", "b"]', "is not a program")]
_FILE = [*_PATH, ('"missing.pem"', '/missing.pem" is not a file')]
_NUMBER = [('"2"', "is not a whole number"), ("2.0", "is not a whole number"), ("true", "is not a whole number")]
_PATTERNS = [
    ("3", "is not a list"),
    ("[3]", "is not a list"),
    ('["[a]"]', "only '*' and '?' are wild"),
    ('["A"]', "'A'"),
]


def _tags(count: int) -> str:
    """So many tags in TOML."""
    return f"{{ {', '.join(f'a{number} = 0' for number in range(count))} }}"


_TAGS = [
    ('"team"', "is not a table such as { team = 'platform' }"),
    ("{ a = 1 }", "a value for 'a' that is not a text in quotes"),
    ('{ "aws:a" = "" }', "'aws:a', whose beginning is reserved"),
    ('{ "AWS:a" = "" }', "reserved"),
    ('{ "pullthrough:declaration" = "" }', "reserved"),
    ('{ "" = "a" }', "which AWS does not take"),
    ('{ "a?" = "" }', "which AWS does not take"),
    ('{ a = "b\\nc" }', "which AWS does not take"),
    (f'{{ a = "{"x" * 257}" }}', "256 in its value"),
    (f'{{ {"x" * 129} = "" }}', "128 characters in its key"),
]
_ACCOUNTS = [
    ("123456789012", "is not a list of texts in quotes"),
    ("[123456789012]", "is not a list of texts in quotes"),
    ('["12345678901"]', "has '12345678901'; it takes a list of account ids, 12 digits each"),
    ('["123456789012", "123456789012"]', "has '123456789012' twice"),
]
_ORGANIZATION = [("3", "is not a text"), ('"a1b2c3d4e5"', "an organisation's id such as 'o-a1b2c3d4e5'")]
_ROLE_ARN = [
    ("3", "is not a text"),
    ('"name"', "is not a role's ARN such as 'arn:aws:iam::123456789012:role/name'"),
    ('"arn:aws:iam::123456789012:user/name"', "is not a role's ARN"),
    ('"arn:aws:iam::12345678901:role/name"', "is not a role's ARN"),
    ('"arn:aws:iam::123456789012:role/"', "is not a role's ARN"),
    ('"arn:aws:iam::123456789012:instance-profile/name"', "is not a role's ARN"),
]
_TEMPLATE: dict[str, list[tuple[str, str]]] = {
    "enabled": _FLAG,
    "keep_images": [
        ("0", "is not a whole number from 1 to 100000, or 'never'"),
        ("-1", "or 'never'"),
        ("true", "or 'never'"),
        ("2.0", "or 'never'"),
        ('"200"', "or 'never'"),
        ('"always"', "or 'never'"),
        ("100001", "from 1 to 100000"),
    ],
    "lifecycle_policy_file": _FILE,
    "tag_mutability": [('"MUTABLE"', "is not 'mutable' or 'immutable'"), ("true", "is not 'mutable'")],
    "tag_mutability_exclusions": [
        ("3", "is not a list"),
        ('["a b"]', "has 'a b'; it takes a list of up to 5 tags"),
        ('[""]', "has ''; it takes"),
        ('["a*b*c*"]', "up to two '*' are wild"),
        ('["a", "b", "c", "d", "e", "f"]', "has more than 5"),
        ('["a", "a"]', "has 'a' twice"),
    ],
    "resource_tags": [*_TAGS, (_tags(51), "has more than 50 tags")],
    "encryption": [('"aes"', "is not 'AES256' or 'KMS'"), ("true", "is not 'AES256'")],
    "kms_key": [
        ("3", "is not a text"),
        ('"alias/mine"', "is not a KMS key's whole ARN"),
        ('"arn:aws:kms:us-east-1:123456789012:alias/mine"', "no alias"),
        ('"arn:aws:kms:us-east-1:123456789012:key/1234-abcd"', 'without encryption = "KMS"; AES256 takes none'),
    ],
    "pull_accounts": _ACCOUNTS,
    "pull_organization": _ORGANIZATION,
    "repository_policy_file": _FILE,
    "role_arn": _ROLE_ARN,
}

#: For every key of every table: values as TOML, and a part of the sentence.
BAD: dict[str, dict[str, list[tuple[str, str]]]] = {
    "": {
        "docker_hub_username": _TEXT,
        "docker_hub_access_token": [
            ('"hunter2"', "set PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN, or docker_hub_access_token_file")
        ],
        "docker_hub_access_token_file": _PATH,
        "docker_hub_access_token_command": _COMMAND,
        "github_username": _TEXT,
        "github_access_token": [('"hunter2"', "set PULLTHROUGH_GITHUB_ACCESS_TOKEN, or github_access_token_file")],
        "github_access_token_file": _PATH,
        "github_access_token_command": _COMMAND,
        "allow_inline_tokens": _FLAG,
        "name": [
            ("3", "is not a text"),
            *((f'"{name}"', "1 to 32 lower-case letters") for name in ("", "Team", "-a", "a-", "a_b", "x" * 33)),
        ],
        "journal": _PATH,
        "tags": [
            *_TAGS,
            ('{ Team = "a", team = "b" }', "differ in capitals only"),
            (
                _tags(50),
                "more than 49 tags; AWS takes 50, and one is the mark",
            ),
        ],
        "standard_rules": _FLAG,
    },
    "serve": {
        "listen": [
            ("5000", "is not a text in quotes"),
            ('"5000"', "is not an address and a port"),
            ('"127.0.0.1"', "is not an address and a port"),
            ('"127.0.0.1:65536"', "is not an address and a port"),
            ('"127.0.0.1:-1"', "is not an address and a port"),
            ('":5000"', "for all addresses write '0.0.0.0:5000'"),
            ('"::1:5000"', "put an IPv6 address in brackets"),
            ('"[::g]:5000"', "no valid IPv6 address"),
            ('"127.0.0.256:5000"', "no valid IPv4 address"),
            ('"-x:5000"', "no valid host name"),
            ('"http://localhost:5000"', "brackets"),
        ],
        "data": [*_PATH, ('""', "is empty")],
        "anonymous_pull": _FLAG,
        "pull_auth": _FLAG,
        "max_size": [
            ("80", "needs a unit"),
            ('"80"', "needs a unit"),
            ('"0%"', "is not a share above 0%"),
            ('"101%"', "is not a share above 0%"),
            ('"much"', "is not a size"),
            ('"always"', "'never' are accepted too"),
            ("true", "is not a text in quotes"),
        ],
        "min_free": [("0.15", "needs a unit"), ('"-1%"', "is not a size"), ('"15 percent"', "is not a size")],
        "workers": [*_NUMBER, ("0", "from 1 to 256"), ("257", "from 1 to 256"), ("-1", "from 1 to 256")],
        "mirrors": [
            ("3", "is not a table"),
            ('{ "5001" = "quay" }', "'5001', which is not an address and a port"),
            ('{ "127.0.0.1:5001" = 3 }', "other than the prefix of a rule for 127.0.0.1:5001"),
            ('{ "127.0.0.1:5001" = "quai" }', "does not exist; did you mean 'quay'?"),
            ('{ "127.0.0.1:5001" = "nothing" }', "the rules are: docker-hub, ecr-public"),
            ('{ "127.0.0.1:5000" = "quay" }', "has the address of serve.listen"),
            ('{ "[::1]:5001" = "quay", "[0:0::1]:5001" = "github" }', "has the address [::1]:5001 twice"),
        ],
        "tls_cert": [*_PATH, ('"pullthrough.toml"', "needs serve.tls_key beside it")],
        "tls_key": [*_PATH, ('"pullthrough.toml"', "needs serve.tls_cert beside it")],
        "access_log": [('"some"', "is not 'all' or 'misses' or 'off'"), ("false", "is not 'all'")],
        "prefetch": _FLAG,
        "prefetch_per_upstream": [*_NUMBER, ("0", "from 1 to 64")],
        "max_fills": [*_NUMBER, ("0", "from 1 to 1024")],
        "range_ahead": [
            ("16", "needs a unit"),
            ('"16"', "needs a unit"),
            ('"1KiB"', "from 1MiB to 1TiB"),
            ('"x"', "is not a size"),
        ],
        "loop": [('"uvloop"', "is not 'auto' or 'asyncio'")],
        "pull_time_flush": [*_DURATION, ('"0s"', "from 100ms to 1h"), ('"2h"', "from 100ms to 1h")],
        "evict_interval": [*_DURATION, ('"1ms"', "from 1s to 24h"), ('"never"', "is not a duration")],
        "stale_check_timeout": [*_DURATION, ('"0s"', "from 100ms to 1m")],
    },
    "rules.quay": {
        "upstream": [
            ("3", "is not a text"),
            ('""', "is not a host"),
            ('"https://quay.io"', "write the host only, without the scheme"),
            ('"quay.io/team"', "has a path; write the host only"),
            ('"quay.io:0"', "is not a host"),
            ('"quay.io:70000"', "is not a host"),
            ('"quay io"', "is not a host"),
            ('"user@quay.io"', "is not a host"),
        ],
        "upstream_repository_prefix": [
            ("3", "is not a text"),
            ('"Team"', "lower-case"),
            ('"../x"', "lower-case"),
            ('"/x"', "lower-case"),
        ],
        "freshness": [
            *_DURATION,
            ('"366d"', "from 0s to 365d or never or always"),
            ('"sometimes"', "or 'never', or 'always'"),
        ],
        "freshness_by_tag": [
            ('"10m"', "is not a table"),
            ("{ latest = 10 }", "for 'latest' that needs a unit"),
            ('{ "a/b" = "10m" }', "'a/b', which matches nothing"),
            ('{ "[0-9]" = "10m" }', "only '*' and '?' are wild"),
        ],
        "stale_while_revalidate": [*_DURATION, ('"366d"', "from 0s to 365d")],
        "revalidate": [('"after"', "is not 'behind' or 'before'"), ("true", "is not 'behind'")],
        "gone_upstream": [('"drop"', "is not 'keep' or 'remove'")],
        "negative": [*_DURATION, ('"2d"', "from 0s to 24h or never"), ('"always"', "is not a duration")],
        "allow": _PATTERNS,
        "deny": _PATTERNS,
        "username": [*_TEXT, ('"acme"', "a username without a token; add access_token_env")],
        "access_token_env": [
            ("3", "is not a text"),
            ('"a token"', "is not the name of an environment variable"),
            ('"TOKEN"', "access_token_env without a username; add username"),
        ],
        "access_token_file": [*_PATH, ('"t"', "access_token_file without a username; add username")],
        "access_token_command": [*_COMMAND, ('"vault"', "access_token_command without a username; add username")],
        "access_token": [
            ('"hunter2"', "would put a secret into the file; name its place: access_token_env, access_token_file or"),
            ('"hunter2"', "or allow it by allow_inline_tokens = true at the top of the file"),
        ],
        "anonymous": _FLAG,
        "credential_arn": [
            ("3", "is not a text"),
            ('"ecr-pullthroughcache/quay"', "is not a secret's whole ARN"),
            *(
                (f'"arn:{arn}"', "the 6 characters at its end included, with a name that begins with 'ecr-pull")
                for arn in (
                    "aws:secretsmanager:us-east-1:123456789012:secret:ecr-pullthroughcache/quay",
                    "aws:secretsmanager:us-east-1:123456789012:secret:mine/quay-AbCdEf",
                    "aws:secretsmanager:us-east-1:12345678901:secret:ecr-pullthroughcache/quay-AbCdEf",
                    "aws:ssm:us-east-1:123456789012:secret:ecr-pullthroughcache/quay-AbCdEf",
                    f"aws:secretsmanager:us-east-1:123456789012:secret:ecr-pullthroughcache/{'x' * 540}-AbCdEf",
                )
            ),
        ],
        "secret_name": [
            ("3", "is not a text"),
            ('"quay"', "is not a name that begins with 'ecr-pullthroughcache/'"),
            ('"ecr-pullthroughcache/"', "is not a name"),
            ('"ecr-pullthroughcache/a b"', "is not a name"),
            (f'"ecr-pullthroughcache/{"x" * 492}"', "is not a name"),
        ],
        "custom_role_arn": _ROLE_ARN,
        "verify_image": [
            ("3", "is not a text"),
            ('"Team/app"', "is not an image without its registry, such as 'team/app:1.0'"),
            ('"quay.io/team/app:1.0"', "is not an image without its registry"),
            ('"team/app:"', "is not an image"),
            ('"team/app@sha256:12"', "is not an image"),
        ],
        "enabled": _FLAG,
    },
    'upstreams."quay.io"': {
        "endpoint": [
            ("3", "is not a list"),
            ('"127.0.0.1:5009"', "is not a URL of the form http://host[:port] or https://host[:port]"),
            ('"ftp://host"', "is not a URL of the form"),
            ('"http://"', "has no valid host"),
            ('"http://host:0"', "has no valid host"),
            ('"http://host:99999"', "is not a URL of the form"),
            ('"http://host:"', "has no valid host"),
            ('"http://[::1"', "is not a URL of the form"),
            ('"http://user:hunter2@host"', "holds a user or a password"),
            ('"http://host?token=hunter2"', "has a query or a fragment"),
            ('"http://host#hunter2"', "has a query or a fragment"),
            ('"http://host/a/../b"', "has '.' or '..' in its path"),
            ('"http://ho st"', "holds a space"),
            ('["http://host", 3]', "is not a list of texts"),
        ],
        "token_realms": [
            ("3", "is not a list"),
            ('["https://auth.quay.io/token"]', "without the scheme"),
            ('["a b"]', "is not a host"),
        ],
        "ca_file": _FILE,
        "client_cert": [*_PATH, ('"pullthrough.toml"', 'needs upstreams."quay.io".client_key beside it')],
        "client_key": [*_PATH, ('"pullthrough.toml"', 'needs upstreams."quay.io".client_cert beside it')],
        "proxy": [
            ("3", "is not a text"),
            ('"proxy:3128"', "is not a URL of the form http://host[:port]"),
            ('"socks5://proxy"', "is not a URL of the form"),
            ('"http://user:hunter2@"', "has no valid host"),
            ('"http://proxy/path"', "has a path"),
        ],
        "connect_timeout": [*_DURATION, ('"0s"', "from 100ms to 10m"), ('"never"', "is not a duration")],
        "first_byte_timeout": [*_DURATION, ('"0s"', "from 100ms to 1h")],
        "stall_timeout": [*_DURATION, ('"2h"', "from 100ms to 1h")],
        "queue_timeout": [*_DURATION, ('"0s"', "from 100ms to 1h")],
        "connections": [*_NUMBER, ("0", "from 1 to 256")],
        "retries": [*_NUMBER, ("-1", "from 0 to 10"), ("11", "from 0 to 10")],
    },
    "ecr": {
        "auth": [('"off"', "is not 'keys' or 'none'"), ("false", "is not 'keys'")],
        "auth_none_everywhere": [*_FLAG, ("true", 'needs ecr.auth = "none" beside it')],
        "account": [("123456789012", "is not a text in quotes"), ('"12"', "is not 12 digits"), ('""', "12 digits")],
        "region": [("3", "is not a text in quotes"), ('""', "is not a region"), ('"US-EAST-1"', "such as 'us-east-1'")],
        "registry_host": [
            ("3", "is not a text"),
            ('"https://{account}.example"', "without the scheme"),
            ('"{account}.example/x"', "has a path"),
            ('"{name}.example"', "is not a host"),
            ('"{account.__class__}"', "is not a host"),
            ('"host:99999"', "is not a host"),
        ],
        "strict": _FLAG,
        "htpasswd_file": _FILE,
        "encryption_key": [
            ('"hunter2"', "encryption_key_file, webhook_secret_file and secret_access_key_file name files")
        ],
        "encryption_key_file": _PATH,
        "webhook_url": [
            ("3", "is not a text"),
            ('"hooks.example.com"', "is not a URL of the form"),
            ('"http://user:hunter2@host"', "holds a user or a password"),
            ('"http://host/?hunter2 x"', "has a query that holds a space"),
            ('"http://host/?hunter2#x"', "a fragment"),
        ],
        "webhook_secret_file": [
            *_PATH,
            ('"hunter2"', "names a file that does not exist"),
            ('"pullthrough.toml"', "needs ecr.webhook_url beside it"),
        ],
        "keep_events": [*_NUMBER, ("-1", "from 100 to 1000000")],
        "lifecycle_interval": [*_DURATION, ('"0s"', "from 1s to 24h"), ('"never"', "is not a duration")],
    },
    "ecr.keys.ci": {
        "access_key_id": [
            ("3", "is not a text"),
            ('"a b c d"', "is not 4 to 128 letters"),
            ('"abc"', "is not 4 to 128"),
        ],
        "secret_access_key_file": [*_PATH, ('"hunter2"', "names a file that does not exist")],
        "role": [('"root"', "is not 'pull' or 'admin'")],
        "policy_file": _FILE,
    },
    "template": _TEMPLATE,
    "templates.quay": _TEMPLATE,
    "access": {
        "node_roles": [
            ("3", "is not a list"),
            ('["a b"]', "has 'a b'; it takes a list of names of IAM roles, or of their ARNs"),
            ('["service-role/a"]', "it takes a list of names"),
            ('["arn:aws:iam::123456789012:user/a"]', "it takes a list of names"),
            (f'["{"x" * 65}"]', "it takes a list of names"),
            ('["a", "a"]', "has 'a' twice"),
            ('["a", "arn:aws:iam::123456789012:role/path/a"]', "has the role 'a' twice"),
        ],
        "pull_accounts": _ACCOUNTS,
        "pull_organization": _ORGANIZATION,
        "vpc": [
            ("3", "is not a text"),
            ('"0a1b2c3d"', "a VPC's id such as 'vpc-0a1b2c3d'"),
            ('"vpc-xyz"', "a VPC's id"),
        ],
    },
    "scanning": {"frequency": [('"SCAN_ON_PUSH"', "is not 'on_push' or 'continuous'"), ("true", "is not 'on_push'")]},
}


@pytest.mark.parametrize(
    ("table", "model"),
    [
        ("", TopSettings),
        ("serve", ServeSettings),
        ("rules.quay", RuleSettings),
        ('upstreams."quay.io"', UpstreamSettings),
        ("ecr", EcrSettings),
        ("ecr.keys.ci", KeySettings),
        ("template", TemplateSettings),
        ("access", AccessSettings),
        ("scanning", ScanningSettings),
    ],
)
def test_the_table_above_has_bad_input_for_every_key(table: str, model: type) -> None:
    assert list(BAD[table]) == list(settings_of(model))


@pytest.mark.parametrize(
    ("table", "key", "value", "sentence"),
    [
        pytest.param(table, key, value, sentence, id=f"{table}.{key}={value}"[:60])
        for table, keys in BAD.items()
        for key, cases in keys.items()
        for value, sentence in cases
    ],
)
def test_bad_input_is_refused_with_file_key_and_remedy(
    tmp_path: Path, table: str, key: str, value: str, sentence: str
) -> None:
    text = f"[{table}]\n{key} = {value}\n" if table else f"{key} = {value}\n"
    message = problem(tmp_path, _whole(tmp_path, table, key, text))
    assert message.startswith("pullthrough.toml: ")
    assert key in message
    assert sentence in message
    assert "hunter2" not in message
    assert "problems in the configuration" not in message


def _whole(folder: Path, table: str, key: str, text: str) -> str:
    """With what the table needs besides."""
    if table == "ecr" and key == "webhook_secret_file" and "pullthrough.toml" not in text:
        return text + 'webhook_url = "http://host"\n'
    if table != "ecr.keys.ci":
        return text
    (folder / "secret").touch()
    others = {"access_key_id": "AKIACI", "secret_access_key_file": "secret"}
    return text + "".join(f'{name} = "{value}"\n' for name, value in others.items() if name != key)


def test_a_pair_of_files_that_are_not_there_is_refused_by_name(tmp_path: Path) -> None:
    text = (
        '[serve]\ntls_cert = "c.pem"\ntls_key = "k.pem"\n[upstreams."quay.io"]\nclient_cert = "c"\nclient_key = "."\n'
    )
    message = problem(tmp_path, text)
    assert message.startswith("4 problems")
    for path in ("c.pem", "k.pem", "c", ""):
        assert f'"{tmp_path / path}" is not a file' in message


def test_a_value_is_shown_and_cut_but_not_where_it_may_be_a_secret(tmp_path: Path) -> None:
    assert 'serve.workers = "two" is not a whole number' in problem(tmp_path, '[serve]\nworkers = "two"\n')
    assert len(problem(tmp_path, f'[serve]\nworkers = "{"x" * 500}"\n')) < 200
    for text in (
        'docker_hub_access_token_command = "echo \'hunter2"',
        "[rules.quay]\nusername = 'acme'\naccess_token_env = 'hunter2'",
        "[rules.quay]\nusername = 'acme'\naccess_token_env = 'hunter2!'",
        "[rules.quay]\naccess_token = 'hunter2'",
        "[rules.quay]\npassword = 'hunter2'",
        "password = 'hunter2'",
        "[serve]\ntoken = 'hunter2'",
        "[serve]\nhunter = 'hunter2'",
    ):
        assert "hunter2" not in problem(tmp_path, text)


def test_all_problems_are_in_one_error(tmp_path: Path) -> None:
    text = '[serve]\nworkers = 0\nlisten = ":1"\n[rules.a]\nfreshness = 3\n[upstreams."a b"]\n'
    message = problem(tmp_path, text, {"PULLTHROUGH_SERVE_LOOP": "x", "PULLTHROUGH_NO": "1"})
    assert message.startswith("7 problems in the configuration:\n")
    for part in (
        "serve.workers",
        "serve.listen",
        "SERVE_LOOP",
        "PULLTHROUGH_NO",
        "rules.a.freshness",
        "lacks its",
        '"a b"',
    ):
        assert part in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("standart_rules = true", "unknown key standart_rules; did you mean standard_rules?"),
        ("[servr]\n", "unknown key servr; did you mean serve?"),
        ("[serve]\nmax-size = '1GB'", "unknown key serve.max-size; did you mean serve.max_size?"),
        ("listen = '127.0.0.1:5000'", "unknown key listen; listen belongs in [serve]"),
        ("[serve]\nfreshness = '1h'", "freshness belongs in [rules.<prefix>]"),
        ("[rules.quay]\nendpoint = 'http://h'", 'endpoint belongs in [upstreams."<host>"]'),
        ("[rules.quay]\nstandard_rules = true", "belongs at the top of the file, before any table"),
        ("[serve]\nxyzzy = 1", "unknown key serve.xyzzy; known here: access_log,"),
        ('[upstreams."quay.io"]\nconnect_timeouts = "1s"', 'did you mean upstreams."quay.io".connect_timeout?'),
        ("serve = 3", "serve is not a table; write [serve]"),
        ("rules = []", "rules is not a table; write [rules]"),
        ("upstreams = 'x'", "upstreams is not a table"),
        ("[rules]\nquay = 'x'", "rules.quay is not a table; write [rules.<prefix>]"),
        ("[upstreams]\n'quay.io' = 'x'", 'write [upstreams."<host>"]'),
        ("[rules.Quay]\nupstream = 'quay.io'", "[rules.Quay] is not for a prefix"),
        ("[rules.'quay/']\nupstream = 'quay.io'", "without a slash at the end"),
        ("[rules.'']\nupstream = 'quay.io'", "is not for a prefix"),
        ("[rules.mine]\n", '[rules.mine] lacks its upstream; add upstream = "registry.example.com"'),
        ("[upstreams.'https://quay.io']\n", "without a scheme or a path"),
        ("[upstreams.'']\n", "is not for a host"),
        ("[upstreams.'docker.io']\n[upstreams.'index.docker.io']\n", "is a second table for registry-1.docker.io"),
        ("ecr = 3", "ecr is not a table; write [ecr]"),
        ("[ecr]\nkeys = 3", "ecr.keys is not a table; write [ecr.keys.<name>]"),
        ("[ecr.keys]\nci = 3", "ecr.keys.ci is not a table; write [ecr.keys.<name>]"),
        ("[ecr.keys.'a b']\n", "is not for a name: 1 to 64 letters"),
        ("account = '000000000000'", "account belongs in [ecr]"),
        ("[ecr]\nrole = 'admin'", "role belongs in [ecr.keys.<name>]"),
        ("[ecr.keys.ci]\nsecret_access_key = 'x'", "would put a secret into the file"),
        ("[tempalte]\n", "unknown key tempalte; did you mean template?"),
        ("[template]\nkeep_image = 3", "unknown key template.keep_image; did you mean template.keep_images?"),
        ("[templates.quay]\nkms_keys = ''", "did you mean templates.quay.kms_key?"),
        ("[access]\nnode_role = 'a'", "unknown key access.node_role; did you mean access.node_roles?"),
        ("[scanning]\nfrequence = 'on_push'", "did you mean scanning.frequency?"),
        ("[access]\nkeep_images = 3", "keep_images belongs in [template] or [templates.<prefix>]"),
        ("vpc = 'vpc-0a1b2c3d'", "vpc belongs in [access]"),
        ("frequency = 'on_push'", "frequency belongs in [scanning]"),
        ("[rules.quay]\nenable = false", "did you mean rules.quay.enabled?"),
        ("template = 3", "template is not a table; write [template]"),
        ("templates = 3", "templates is not a table; write [templates]"),
        ("access = 'x'", "access is not a table; write [access]"),
        ("scanning = true", "scanning is not a table; write [scanning]"),
        (
            "[templates]\nkeep_images = 3",
            "templates.keep_images is not a table; write [templates.<prefix>], or [template]",
        ),
        ("[template.quay]\nkeep_images = 3", "write [templates.quay], not [template.quay]"),
        ("[templates.quai]\n", "[templates.quai] is for the rule 'quai', which does not exist; did you mean 'quay'?"),
        ("[templates.mine]\n", "does not exist; the rules are: docker-hub, ecr-public, github,"),
        ("standard_rules = false\n[templates.mine]\n", "does not exist; the rules are: none"),
    ],
)
def test_unknown_and_misplaced_keys_are_refused_with_the_nearest_name(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in problem(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("PULLTHROUGH_SERVE_LISTNE", "did you mean PULLTHROUGH_SERVE_LISTEN?"),
        ("PULLTHROUGH_LISTEN", "did you mean PULLTHROUGH_SERVE_LISTEN?"),
        ("PULLTHROUGH_DOCKERHUB_USERNAME", "did you mean PULLTHROUGH_DOCKER_HUB_USERNAME?"),
        ("PULLTHROUGH_RULES_QUAY_UPSTREAM", "API keys are set in the file only"),
        ("PULLTHROUGH_ECR_KEYS_CI_ROLE", "API keys are set in the file only"),
        ("PULLTHROUGH_TEMPLATE_KEEP_IMAGES", "templates, access, scanning and API keys are set in the file only"),
        ("PULLTHROUGH_TEMPLATES_QUAY_ENABLED", "are set in the file only"),
        ("PULLTHROUGH_ACCESS_NODE_ROLES", "are set in the file only"),
        ("PULLTHROUGH_SCANNING_FREQUENCY", "are set in the file only"),
        ("PULLTHROUGH_ACCESS_TOKEN", "did you mean PULLTHROUGH_GITHUB_ACCESS_TOKEN?"),
        ("PULLTHROUGH_ALLOW_INLINE_TOKEN", "did you mean PULLTHROUGH_ALLOW_INLINE_TOKENS?"),
        ("PULLTHROUGH_REGISTRY_HOST", "did you mean PULLTHROUGH_ECR_REGISTRY_HOST?"),
        ("PULLTHROUGH_XYZZY", "the configuration reference lists the variables"),
    ],
)
def test_unknown_variables_are_refused_with_the_nearest_name(tmp_path: Path, name: str, sentence: str) -> None:
    message = problem(tmp_path, None, {name: "hunter2"})
    assert sentence in message
    assert name in message
    assert "hunter2" not in message


def test_variables_that_kubernetes_makes_of_a_service_are_none_of_ours(tmp_path: Path) -> None:
    load(
        tmp_path,
        None,
        {
            "PULLTHROUGH_SERVICE_HOST": "10.0.0.1",
            "PULLTHROUGH_SERVICE_PORT": "5000",
            "PULLTHROUGH_SERVICE_PORT_HTTP": "5000",
            "PULLTHROUGH_PORT": "tcp://10.0.0.1:5000",
            "PULLTHROUGH_PORT_5000_TCP": "tcp://10.0.0.1:5000",
            "PULLTHROUGH_PORT_5000_TCP_ADDR": "10.0.0.1",
            "PULLTHROUGH_METRICS_SERVICE_HOST": "10.0.0.2",
        },
    )
    assert "PULLTHROUGH_PORT is unknown" in problem(tmp_path, None, {"PULLTHROUGH_PORT": "5000"})


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("PULLTHROUGH_SERVE_WORKERS", "two", "is not a whole number from 1 to 256"),
        ("PULLTHROUGH_SERVE_WORKERS", "1e2", "is not a whole number from 1 to 256"),
        ("PULLTHROUGH_SERVE_PREFETCH", "maybe", "is neither true nor false"),
        ("PULLTHROUGH_SERVE_MIRRORS", "127.0.0.1:5001", "is not a list such as '127.0.0.1:5001=docker-hub"),
        ("PULLTHROUGH_SERVE_RANGE_AHEAD", "16", "needs a unit"),
        ("PULLTHROUGH_TAGS", "team", "is not a list of different tags such as 'team=platform,stage=test'"),
        ("PULLTHROUGH_TAGS", "a=1,a=2", "is not a list of different tags"),
        ("PULLTHROUGH_NAME", "Team", "is not 1 to 32 lower-case letters and digits"),
    ],
)
def test_bad_input_in_the_environment_names_the_variable(
    tmp_path: Path, variable: str, value: str, sentence: str
) -> None:
    message = problem(tmp_path, None, {variable: value})
    assert message.startswith(f'environment {variable} = "{value}"')
    assert sentence in message


def test_bad_input_in_a_flag_names_the_flag(tmp_path: Path) -> None:
    assert problem(tmp_path, None, None, {"serve.listen": ":1"}).startswith('flag --listen = ":1" names no address')
