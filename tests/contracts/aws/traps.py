"""Where moto does not do what AWS does. A test marked `moto_trap("name")` must fail against moto, and pass against us."""

from __future__ import annotations

TRAPS: dict[str, str] = {
    "paging": "moto ignores maxResults of ECR's lists and gives everything at once",
    "token-expiry": "moto's authorization tokens expired in 2015",
    "manifest-digest": "moto hashes the layers' digests, or a random number, instead of the manifest's bytes",
    "image-size": "moto gives the config's size, or 50 MiB, as an image's size",
    "put-image-unknown-repository": "moto answers 500 to PutImage into a repository that is not there",
    "one-replication-rule": "moto takes one replication rule; AWS takes ten",
    "lifecycle-rules": "moto looks at each member of a lifecycle rule alone: not at what goes together, nor at priorities",
    "lifecycle-grammar": "moto's validator knows neither `transition` nor `sinceImagePulled`",
    "registry-policy-actions": "moto lets a registry policy name CreateRepository and ReplicateImage only",
    "absent-layer": "moto gives a failure for a layer that is not there; AWS says UNAVAILABLE",
    "layer-digest": "moto does not compare the digest that CompleteLayerUpload is given",
    "layers-not-there": "moto puts images without looking for their layers",
    "children-not-there": "moto puts indexes without looking for their images",
    "malformed-manifest": "moto answers 500 to a manifest that is not JSON",
    "untagged-by-a-move": "moto deletes the image whose tag was moved to another",
    "immutable-tag": "moto raises ImageAlreadyExistsException where AWS has ImageTagAlreadyExistsException",
    "failed-image-id": "moto gives a failed image's tag, 'null' where it was asked for by digest",
    "index-protection": "moto deletes the images of an index",
    "versions-of-an-unknown-secret": "moto answers 500",
    "stage-move": "moto gives the older value as AWSCURRENT after that stage was moved",
    "arn-of-versions": "moto's ListSecretVersionIds gives the name as the ARN",
    "secret-not-found-status": "moto answers 404 for a secret that is not there; AWS 400",
    "deleted-secret-words": "moto has sentences of its own for secrets that wait for their deletion",
}
