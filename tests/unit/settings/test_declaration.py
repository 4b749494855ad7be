"""What `plan` and `apply` are told by the file: templates, access, scanning, tags; and that it changes no serving."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pullthrough.declaration import (
    KEEP_IMAGES,
    Declaration,
    Encryption,
    NodeAccess,
    ScanFrequency,
    TagMutability,
    Template,
)
from pullthrough.settings.values.base import PathBase
from pullthrough.settings.values.quantities import Count, Number
from tests.unit.settings.support import load, problem

KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
STANDARD = ("docker-hub", "github", "quay", "kubernetes", "ecr-public")


def declared(folder: Path, text: str, environ: dict[str, str] | None = None) -> Declaration:
    for name in ("l.json", "r.json"):
        (folder / name).write_text("{}")
    return load(folder, text, environ).settings.declaration


def test_without_a_file_there_are_the_standard_rules_with_a_template_each(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.settings.declaration == Declaration(
        rules=loaded.settings.rules, templates={prefix: Template() for prefix in STANDARD}
    )
    assert Template().keep_images == KEEP_IMAGES
    assert loaded.settings.journal is None


def test_every_key_reaches_the_declaration(tmp_path: Path) -> None:
    text = f"""
        name = "team-a"
        journal = "journal.jsonl"
        docker_hub_username = "acme"
        docker_hub_access_token_command = "vault"

        [tags]
        team = "platform"

        [template]
        enabled = true
        keep_images = 7
        tag_mutability = "immutable"
        tag_mutability_exclusions = ["latest", "*-*"]
        resource_tags = {{ "Team/Größe" = "a b" }}
        encryption = "KMS"
        kms_key = "{KEY}"
        pull_accounts = ["123456789012"]
        pull_organization = "o-a1b2c3d4e5"
        role_arn = "arn:aws:iam::123456789012:role/a/b/name"

        [templates.quay]
        enabled = false
        lifecycle_policy_file = "l.json"
        repository_policy_file = "r.json"

        [access]
        node_roles = ["eks-nodes", "arn:aws:iam::123456789012:role/path/eks.other@x"]
        pull_accounts = ["123456789012", "210987654321"]
        pull_organization = "o-a1b2c3d4e5"
        vpc = "vpc-0a1b2c3d4e5f60718"

        [scanning]
        frequency = "continuous"
    """
    declaration = declared(tmp_path, text)
    common = Template(
        keep_images=7,
        tag_mutability=TagMutability.IMMUTABLE,
        tag_mutability_exclusions=("latest", "*-*"),
        resource_tags={"Team/Größe": "a b"},
        encryption=Encryption.KMS,
        kms_key=KEY,
        pull_accounts=("123456789012",),
        pull_organization="o-a1b2c3d4e5",
        role_arn="arn:aws:iam::123456789012:role/a/b/name",
    )
    quay = Template(
        enabled=False,
        keep_images=7,
        lifecycle_policy_file=tmp_path / "l.json",
        tag_mutability=TagMutability.IMMUTABLE,
        tag_mutability_exclusions=("latest", "*-*"),
        resource_tags={"Team/Größe": "a b"},
        encryption=Encryption.KMS,
        kms_key=KEY,
        repository_policy_file=tmp_path / "r.json",
        role_arn="arn:aws:iam::123456789012:role/a/b/name",
    )
    loaded = load(tmp_path, text)
    assert declaration == Declaration(
        name="team-a",
        rules=loaded.settings.rules,
        templates={prefix: quay if prefix == "quay" else common for prefix in STANDARD},
        access=NodeAccess(
            node_roles=("eks-nodes", "eks.other@x"),
            pull_accounts=("123456789012", "210987654321"),
            pull_organization="o-a1b2c3d4e5",
            vpc="vpc-0a1b2c3d4e5f60718",
        ),
        scan_frequency=ScanFrequency.CONTINUOUS,
        tags={"team": "platform"},
        usernames={"registry-1.docker.io": "acme"},
    )
    assert loaded.settings.journal == tmp_path / "journal.jsonl"
    assert loaded.warnings == ()


def test_a_username_is_known_where_its_token_is_not(tmp_path: Path) -> None:
    loaded = load(tmp_path, 'github_username = "acme"\n', require_tokens=False)
    assert loaded.settings.declaration.usernames == {"ghcr.io": "acme"}
    assert loaded.settings.accounts == {}


def test_own_rules_have_templates_too_and_unknown_prefixes_none(tmp_path: Path) -> None:
    text = 'standard_rules = false\n[rules.ROOT]\nupstream = "h"\n[rules."a/b"]\nupstream = "h"\n'
    templates = declared(tmp_path, text + '[templates."a/b"]\nkeep_images = 3\n[templates.ROOT]\n').templates
    assert templates == {"ROOT": Template(), "a/b": Template(keep_images=3)}


#: What [template] says, what [templates.quay] says, and what quay's template is then.
MERGED: dict[str, tuple[str, str, Template]] = {
    "nothing there": ("", "keep_images = 3", Template(keep_images=3)),
    "nothing here": ("keep_images = 3", "", Template(keep_images=3)),
    "the key here wins": ("keep_images = 3", 'keep_images = "never"', Template(keep_images=None)),
    "the default said here wins": ("keep_images = 3", "keep_images = 200", Template()),
    "an empty list here wins": ('pull_accounts = ["123456789012"]', "pull_accounts = []", Template()),
    "a key beside the encryption there": (
        'encryption = "KMS"',
        f'kms_key = "{KEY}"',
        Template(encryption=Encryption.KMS, kms_key=KEY),
    ),
    "the encryption here beside a key there": (
        f'encryption = "KMS"\nkms_key = "{KEY}"',
        'encryption = "KMS"',
        Template(encryption=Encryption.KMS, kms_key=KEY),
    ),
    "no key without KMS": (f'encryption = "KMS"\nkms_key = "{KEY}"', 'encryption = "AES256"', Template()),
    "a count instead of a file": ('lifecycle_policy_file = "l.json"', "keep_images = 3", Template(keep_images=3)),
    "no count instead of a file": (
        'lifecycle_policy_file = "l.json"',
        'keep_images = "never"',
        Template(keep_images=None),
    ),
    "a file instead of a count": (
        "keep_images = 3",
        'lifecycle_policy_file = "l.json"',
        Template(keep_images=3, lifecycle_policy_file=Path("l.json")),
    ),
    "no file": ('lifecycle_policy_file = "l.json"', 'lifecycle_policy_file = ""', Template()),
    "accounts instead of a policy": (
        'repository_policy_file = "r.json"',
        'pull_accounts = ["123456789012"]',
        Template(pull_accounts=("123456789012",)),
    ),
    "a policy instead of accounts": (
        'pull_accounts = ["123456789012"]\npull_organization = "o-a1b2c3d4e5"',
        'repository_policy_file = "r.json"',
        Template(repository_policy_file=Path("r.json")),
    ),
    "an organisation beside accounts": (
        'pull_accounts = ["123456789012"]',
        'pull_organization = "o-a1b2c3d4e5"',
        Template(pull_accounts=("123456789012",), pull_organization="o-a1b2c3d4e5"),
    ),
    "exclusions are not turned round": (
        'tag_mutability = "immutable"\ntag_mutability_exclusions = ["latest"]',
        'tag_mutability = "mutable"',
        Template(),
    ),
    "exclusions of the same mutability": (
        'tag_mutability = "immutable"\ntag_mutability_exclusions = ["latest"]',
        'tag_mutability = "immutable"',
        Template(tag_mutability=TagMutability.IMMUTABLE, tag_mutability_exclusions=("latest",)),
    ),
}


@pytest.mark.parametrize(("common", "own", "merged"), MERGED.values(), ids=MERGED)
def test_a_rules_template_is_its_own_keys_over_the_common_ones(
    tmp_path: Path, common: str, own: str, merged: Template
) -> None:
    text = f"[template]\n{common}\n[templates.quay]\n{own}\n"
    templates = declared(tmp_path, text).templates
    files = {
        name: tmp_path / path
        for name in ("lifecycle_policy_file", "repository_policy_file")
        if (path := getattr(merged, name))
    }
    assert templates["quay"] == replace(merged, **files)
    assert load(tmp_path, f"[template]\n{common}\n").settings.declaration.templates["github"] == templates["github"]


@pytest.mark.parametrize(
    ("text", "where", "sentence"),
    [
        (
            'keep_images = 3\nlifecycle_policy_file = "l.json"',
            "[{}]",
            "has keep_images and a lifecycle_policy_file; remove one or the other",
        ),
        (
            'pull_accounts = ["123456789012"]\nrepository_policy_file = "r.json"',
            "[{}]",
            "has a repository_policy_file beside pull_accounts or pull_organization",
        ),
        (
            'pull_organization = "o-a1b2c3d4e5"\nrepository_policy_file = "r.json"',
            "[{}]",
            "put the accounts into the file",
        ),
        (f'encryption = "AES256"\nkms_key = "{KEY}"', "[{}]", "has a kms_key without encryption"),
        ('lifecycle_policy_file = "none.json"', "{}.lifecycle_policy_file", 'none.json" is not a file'),
        ('repository_policy_file = "none.json"', "{}.repository_policy_file", 'none.json" is not a file'),
    ],
)
@pytest.mark.parametrize("table", ["template", "templates.quay"])
def test_keys_that_exclude_each_other_are_refused_once(
    tmp_path: Path, table: str, text: str, where: str, sentence: str
) -> None:
    for name in ("l.json", "r.json"):
        (tmp_path / name).write_text("{}")
    message = problem(tmp_path, f"[{table}]\n{text}\n[templates.github]\nkeep_images = 3\n")
    assert message.startswith(f"pullthrough.toml: {where.format(table)} ")
    assert sentence in message


def test_a_key_without_kms_there_is_refused_here(tmp_path: Path) -> None:
    text = f'[template]\nencryption = "AES256"\n[templates.quay]\nkms_key = "{KEY}"\n'
    assert "[templates.quay] has a kms_key without encryption" in problem(tmp_path, text)


def test_where_a_key_of_a_rules_template_comes_from(tmp_path: Path) -> None:
    text = (
        '[template]\nkeep_images = 3\nlifecycle_policy_file = ""\npull_organization = "o-a1b2c3d4e5"\n'
        "[templates.quay]\nkeep_images = 4\n"
    )
    sources = load(tmp_path, text).sources
    assert {key: value for key, value in sources.items() if key.startswith("templates.")} == {
        "templates.quay.keep_images": "pullthrough.toml",
        "templates.quay.pull_organization": "template.pull_organization",
    }


def test_what_the_module_uses_alone_changes_no_rule_that_is_served(tmp_path: Path) -> None:
    text = """
        name = "other"
        journal = "missing/journal"
        tags = { team = "platform" }
        [template]
        keep_images = 1
        [templates.quay]
        enabled = false
        [access]
        node_roles = ["nodes"]
        [scanning]
        frequency = "on_push"
    """
    with_module, without = load(tmp_path, text).settings, load(tmp_path, "").settings
    assert replace(with_module, declaration=without.declaration, journal=None) == without


def test_a_count_can_be_said_by_text(tmp_path: Path) -> None:
    count, place = Count(Number(1, 9)), PathBase(tmp_path, None)
    assert [count.from_text("3", place), count.from_text("never", place)] == [3, None]
    for text in ("0", "10", "-1", "x", "9" * 5000):
        with pytest.raises(ValueError, match="is not a whole number from 1 to 9, or 'never'"):
            count.from_text(text, place)
