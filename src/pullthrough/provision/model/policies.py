"""Policy documents as values: read, and compared by their meaning. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from pullthrough.provision.model.resources import Attributes, Json


def parse_document(text: object) -> Json:
    """A policy document as a value; None for none. The SDK parses IAM's; what is not JSON stays a text."""
    if not isinstance(text, str):
        return cast("Json", text or None)
    if not text:
        return None
    try:
        document: Json = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return document


def normal_document(document: Json) -> Json:
    """A policy in a form that compares by meaning: a list of one equals its element, and order does not count."""
    if not isinstance(document, Mapping):
        return document
    if "rules" in document:
        rules: list[Attributes] = [rule for rule in listed(document["rules"]) if isinstance(rule, Mapping)]
        ordered: list[Attributes] = sorted(rules, key=_priority)
        return {**document, "rules": ordered}
    statements = [
        {key: _normal_part(key, value) for key, value in statement.items()}
        if isinstance(statement, Mapping)
        else statement
        for statement in listed(document.get("Statement"))
    ]
    return {**document, "Statement": statements}


def _priority(rule: Attributes) -> str:
    return str(rule.get("rulePriority"))


def _normal_part(key: str, value: Json) -> Json:
    if key in ("Action", "NotAction", "Resource", "NotResource"):
        return sorted(str(entry) for entry in listed(value))
    if key in ("Principal", "NotPrincipal") and isinstance(value, Mapping):
        return {kind: sorted(str(entry) for entry in listed(names)) for kind, names in value.items()}
    return value


def listed(value: Json) -> list[Json]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
