"""Every operation that can be called, and the handler that does it: one table.

Each group of operations is made here, with exactly the parts that it uses. This module and those of the groups are
imported when the first request of the APIs comes: a start of the engine should not wait for what only they need.
"""

from __future__ import annotations

from collections.abc import Mapping

from pullthrough.access.authentication import Authenticator
from pullthrough.access.authorization import Authorizer
from pullthrough.declaration import Rule
from pullthrough.engine.configuration import Configuration
from pullthrough.engine.keep.lifecycle_runs import LifecycleRuns
from pullthrough.engine.pull.listings import Listings
from pullthrough.engine.pull.manifests.manifests import Manifests
from pullthrough.engine.pull.pull_times import PullTimes
from pullthrough.engine.push.admission import PushAdmission
from pullthrough.engine.push.blobs import BlobPushes
from pullthrough.engine.push.manifests import ManifestPushes
from pullthrough.engine.tell.events import Events
from pullthrough.faces.ecr.calls import Handler, HandlerGroup, Handlers
from pullthrough.faces.ecr.images.image_handlers import ImageHandlers
from pullthrough.faces.ecr.images.image_ids import KnownImages
from pullthrough.faces.ecr.images.image_manifests import ManifestHandlers
from pullthrough.faces.ecr.images.layers import LayerHandlers
from pullthrough.faces.ecr.images.lifecycle_policies import LifecycleHandlers
from pullthrough.faces.ecr.images.referrers import ReferrerHandlers
from pullthrough.faces.ecr.images.repository_names import RepositoryNames
from pullthrough.faces.ecr.registry.account import AccountHandlers, ExclusionHandlers
from pullthrough.faces.ecr.registry.cache_rules import RuleHandlers
from pullthrough.faces.ecr.registry.documents import RegistryDocuments
from pullthrough.faces.ecr.registry.login import IdentityHandlers, LoginHandlers
from pullthrough.faces.ecr.registry.policies import PolicyHandlers
from pullthrough.faces.ecr.registry.replication import ReplicationHandlers
from pullthrough.faces.ecr.registry.repository_handlers import RepositoryHandlers
from pullthrough.faces.ecr.registry.scanning import ScanningHandlers
from pullthrough.faces.ecr.registry.signing import SigningHandlers
from pullthrough.faces.ecr.registry.tags import TagHandlers
from pullthrough.faces.ecr.registry.templates import TemplateHandlers
from pullthrough.faces.ecr.registry.validation import RuleChecks
from pullthrough.faces.ecr.rights import Rights
from pullthrough.faces.ecr.secrets.lists import SecretListHandlers
from pullthrough.faces.ecr.secrets.policies import SecretPolicyHandlers
from pullthrough.faces.ecr.secrets.secret_handlers import SecretHandlers
from pullthrough.faces.ecr.secrets.secret_ids import KnownSecrets
from pullthrough.faces.ecr.secrets.values import SecretValueHandlers
from pullthrough.storage.catalog.manifest_rows import ManifestRows
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.catalog.referrers import Referrers
from pullthrough.storage.catalog.templates import CreationTemplates
from pullthrough.storage.registry.cache_rules import CacheRules
from pullthrough.storage.registry.documents import DocumentRows
from pullthrough.storage.registry.exclusions import PullTimeExclusions
from pullthrough.storage.registry.images import Images
from pullthrough.storage.registry.lifecycles import Lifecycles
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.storage.secrets.secrets import Secrets
from pullthrough.threads import Runner
from pullthrough.upstream.interfaces import Upstreams


def make_handlers(
    *,
    strict: bool,
    written: Mapping[str, Rule],
    authenticator: Authenticator,
    authorizer: Authorizer,
    run: Runner,
    cache_rules: CacheRules,
    configuration: Configuration,
    document_rows: DocumentRows,
    events: Events,
    exclusions: PullTimeExclusions,
    images: Images,
    lifecycle_runs: LifecycleRuns,
    lifecycles: Lifecycles,
    listings: Listings,
    manifest_rows: ManifestRows,
    manifests: Manifests,
    pull_times: PullTimes,
    pushed: Pushed,
    push_admission: PushAdmission,
    blob_pushes: BlobPushes,
    manifest_pushes: ManifestPushes,
    referrers: Referrers,
    repositories: Repositories,
    secrets: Secrets,
    templates: CreationTemplates,
    upstreams: Upstreams,
) -> Handlers:
    """`written` are the rules of pullthrough.toml, by prefix."""
    rights = Rights(authorizer)
    names = RepositoryNames(run, repositories, configuration, rights, pushed, push_admission)
    documents = RegistryDocuments(run, document_rows, configuration)
    known_images = KnownImages(run, images, names)
    known_secrets = KnownSecrets(run, secrets, rights)
    checks = RuleChecks(run, secrets, known_secrets, upstreams, strict)
    lists = SecretListHandlers(run, secrets)
    return {
        "ecr": _merged(
            AccountHandlers(run, document_rows, configuration),
            ExclusionHandlers(run, exclusions, configuration),
            ImageHandlers(run, names, images, events),
            LayerHandlers(run, authenticator, names, images, pushed, blob_pushes),
            LifecycleHandlers(run, repositories, names, images, lifecycles, lifecycle_runs),
            LoginHandlers(authenticator),
            ManifestHandlers(
                run,
                manifest_rows,
                repositories,
                configuration,
                rights,
                names,
                images,
                manifests,
                pull_times,
                manifest_pushes,
            ),
            PolicyHandlers(run, repositories, document_rows, configuration),
            ReferrerHandlers(run, rights, names, referrers, listings),
            ReplicationHandlers(documents, known_images),
            RepositoryHandlers(run, repositories, rights),
            RuleHandlers(run, written, strict, cache_rules, repositories, configuration, events, checks),
            ScanningHandlers(run, repositories, documents, known_images),
            SigningHandlers(documents, known_images),
            TagHandlers(run, repositories, configuration),
            TemplateHandlers(run, templates, rights),
        ),
        "secretsmanager": _merged(
            lists,
            SecretHandlers(run, secrets, known_secrets, rights),
            SecretPolicyHandlers(run, secrets, known_secrets),
            SecretValueHandlers(run, secrets, known_secrets, lists, rights),
        ),
        "sts": _merged(IdentityHandlers()),
    }


def _merged(*groups: HandlerGroup) -> dict[str, Handler]:
    handlers: dict[str, Handler] = {}
    for group in groups:
        added = group.handlers()
        if twice := handlers.keys() & added.keys():
            raise AssertionError(f"{', '.join(sorted(twice))} has two handlers")
        handlers |= added
    return handlers
