"""Whose content a name gives out, whatever becomes of rules, accounts and pushes meanwhile."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pullthrough.declaration import ROOT, CredentialSource, Rule
from pullthrough.engine.rules import RuleBook, Target
from pullthrough.errors import Denied, PushRefused, RepositoryUnknown
from pullthrough.oci.names import DOCKER_HUB, RepositoryName, parse_repository_name, parse_tag
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.claims import NotKept
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.registry.repositories import Repositories, RepositorySettings
from tests.contracts.images import Sample, image

HOSTS = ("one.example", "two.example", DOCKER_HUB)
ACCOUNTS = ("", "ann", "bob@corp")
PREFIXES = (ROOT, "a", "a/b", "a/library", "c")
UPSTREAM_PREFIXES = ("", "x", "a")
NAMES = [
    parse_repository_name(name)
    for name in ("app", "library/app", "a/app", "a/library/app", "a/b/app", "a/a/app", "c/app")
]
TAG = parse_tag("1")


def origin(host: str, name: str, account: str) -> str:
    """What an image says of where it came from."""
    return f"{account} at {host}: {name}"


def made(text: str) -> Sample:
    return image(b"", [], annotations={"origin": text})


class Registry(RuleBasedStateMachine):
    """A catalog and changing rules, with an upstream that has every name, for everybody another image.

    What is expected is worked out here from the rules alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.catalog = Catalog.open(Path(self.folder.name) / "catalog.sqlite")
        self.pushed = Pushed(self.catalog.database)
        self.repositories = Repositories(self.catalog.database)
        self.in_force: dict[str, Rule] = {}
        self.own: dict[RepositoryName, str] = {}
        self.now = 1.0

    @property
    def book(self) -> RuleBook:
        return RuleBook(self.in_force.values(), self.repositories.own_names(list(self.in_force)))

    # What happens

    @rule(
        prefix=st.sampled_from(PREFIXES),
        host=st.sampled_from(HOSTS),
        upstream_prefix=st.sampled_from(UPSTREAM_PREFIXES),
        account=st.sampled_from(ACCOUNTS),
    )
    def make(self, prefix: str, host: str, upstream_prefix: str, account: str) -> None:
        credential = CredentialSource(account, access_token_env="TOKEN") if account else None
        self.in_force[prefix] = Rule(prefix, host, upstream_prefix, credential=credential)

    @rule(prefix=st.sampled_from(PREFIXES))
    def remove(self, prefix: str) -> None:
        self.in_force.pop(prefix, None)

    @rule(name=st.sampled_from(NAMES))
    def push(self, name: RepositoryName) -> None:
        target = self.book.resolve(name).literal if self._is_resolved(name) else None
        if target is None or not target.is_own:
            return
        self.now += 1
        text = f"pushed at {self.now}"
        what = made(text)
        try:
            self.pushed.publish_blob(target.repository, what.manifest.blobs[0].digest, 0, boot_id="", now=self.now)
            self.pushed.put_manifest(target.repository, what.digest, what.body, what.manifest, tag=TAG, now=self.now)
        except PushRefused:  # what a rule that is gone has left
            assert target.repository not in self.own
            return
        self.own[target.repository] = text

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: RepositoryName) -> None:
        if Repositories(self.catalog.database).find_owner(name) is not None:
            self.repositories.delete(name, force=True)
        self.own.pop(name, None)

    @rule(name=st.sampled_from(NAMES))
    def create(self, name: RepositoryName) -> None:
        """An empty one, of which nobody is the owner yet."""
        if Repositories(self.catalog.database).find_owner(name) is None:
            self.repositories.create(name, RepositorySettings(), now=self.now)

    @rule(name=st.sampled_from(NAMES), ns=st.sampled_from((None, *HOSTS)))
    def pull(self, name: RepositoryName, ns: str | None) -> None:
        try:
            targets = self.book.resolve(name, ns=ns)
        except (RepositoryUnknown, Denied):
            return
        for target in targets.all:
            self._look(name, target, self._expected(name, target, ns))

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def pull_by_mirror(self, name: RepositoryName, data: st.DataObject) -> None:
        if not self.in_force:
            return
        mirror = data.draw(st.sampled_from(sorted(self.in_force)))
        try:
            target = self.book.resolve(name, mirror=mirror).literal
        except (RepositoryUnknown, Denied):
            return
        assert target.rule is self.in_force[mirror]
        self._look(name, target, self._of_rule(target.rule, name))

    # What is to be seen

    def _expected(self, name: RepositoryName, target: Target, ns: str | None) -> str | None:
        """What the name gives out; None for nothing."""
        if ns is not None:
            assert target.rule.upstream == ns
            means = {self._at(target.rule, name)}
            if name.startswith(f"{target.rule.prefix}/"):
                means.add(self._of_rule(target.rule, name.removeprefix(f"{target.rule.prefix}/")))
            wanted = origin(ns, target.upstream_repository, self._account(target.rule))
            assert wanted in means, "the literal name, or the one without the rule's prefix"
            return wanted
        if name in self.own:
            return self.own[name]
        longest = self._longest(name)
        if longest is None:
            assert target.is_own
            return None
        inner = name if longest.prefix == ROOT else name.removeprefix(f"{longest.prefix}/")
        stored = self._stored(longest, inner)
        if stored in self.own:
            return self.own[stored]
        return self._of_rule(longest, inner)

    def _look(self, name: RepositoryName, target: Target, expected: str | None) -> None:
        found = self.catalog.manifests.find_tag(target.repository, target.owner, TAG)
        if found is None and not target.is_own:
            what = made(origin(target.upstream, target.upstream_repository, self._account(target.rule)))
            try:
                self.catalog.manifests.save_manifest(
                    target.repository,
                    target.upstream_owner,
                    what.digest,
                    what.body,
                    what.manifest,
                    tag=TAG,
                    now=self.now,
                )
            except NotKept:
                raise AssertionError("what is pushed is known to the rules here") from None
            assert self._longest(target.repository) is target.rule, "a name is written by its own rule only"
            assert target.repository not in self.own
            found = self.catalog.manifests.find_tag(target.repository, target.owner, TAG)
        if expected is None:
            # Under no rule: what a rule that is gone has left, or nothing.
            assert found is None or not found.manifest.is_own
        else:
            assert found is not None, name
            assert found.manifest.digest == made(expected).digest, (name, found.manifest.body, expected)

    @invariant()
    def what_was_pushed_stays_as_it_was(self) -> None:
        assert set(self.own) == set(self.repositories.own_names([ROOT]))
        book = self.book
        for name, text in self.own.items():
            target = book.resolve(name).literal
            assert target.is_own
            found = self.catalog.manifests.find_tag(target.repository, target.owner, TAG)
            assert found is not None
            assert found.manifest.is_own
            assert found.manifest.digest == made(text).digest

    # The rules, once more

    def _is_resolved(self, name: RepositoryName) -> bool:
        try:
            self.book.resolve(name)
        except (RepositoryUnknown, Denied):
            return False
        return True

    def _longest(self, name: str) -> Rule | None:
        fit = [prefix for prefix in self.in_force if prefix != ROOT and name.startswith(f"{prefix}/")]
        return self.in_force[max(fit, key=len)] if fit else self.in_force.get(ROOT)

    def _stored(self, of: Rule, inner: str) -> RepositoryName:
        outer = "" if of.prefix == ROOT else f"{of.prefix}/"
        is_official = of.upstream == DOCKER_HUB and "/" not in inner and not of.upstream_repository_prefix
        return RepositoryName(f"{outer}library/{inner}" if is_official else f"{outer}{inner}")

    def _of_rule(self, of: Rule, inner: str) -> str:
        return self._at(of, f"{of.upstream_repository_prefix}/{inner}" if of.upstream_repository_prefix else inner)

    def _at(self, of: Rule, name: str) -> str:
        official = of.upstream == DOCKER_HUB and "/" not in name
        return origin(of.upstream, f"library/{name}" if official else name, self._account(of))

    def _account(self, of: Rule) -> str:
        return of.credential.account if of.credential is not None else ""

    def teardown(self) -> None:
        self.catalog.close()
        self.folder.cleanup()


TestRegistry = Registry.TestCase
