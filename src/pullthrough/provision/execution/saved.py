"""A plan in a file, and whether it is still the plan.

A saved plan is not trusted: the same plan is made anew, and applied if it is the same to the last attribute, fingerprints of
tokens included. The file holds no secret; it can be reviewed, and kept.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pullthrough.errors import ConfigurationError, PlanOutdated
from pullthrough.provision.model.plan import Options, Plan

MAX_PLAN_BYTES = 16 * 1024 * 1024


def write_plan(path: Path, plan: Plan) -> None:
    """Whole or not at all, with mode 0600. Raises ConfigurationError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(json.dumps(plan.as_json(), indent=2, ensure_ascii=False) + "\n")
        partial.replace(path)
    except OSError as error:
        raise ConfigurationError(f"the plan cannot be written to {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def read_plan(path: Path) -> dict[str, Any]:
    """Raises ConfigurationError for what is no plan of this version."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PLAN_BYTES + 1)
        document = json.loads(content)
    except OSError as error:
        raise ConfigurationError(f"the plan {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no plan", hint="`pullthrough plan --out FILE` writes one") from error
    if not isinstance(document, dict) or document.get("format") != 1 or "steps" not in document:
        raise ConfigurationError(f"{path} is no plan of this version", hint="`pullthrough plan --out FILE` writes one")
    return document


def options_of(document: dict[str, Any]) -> Options:
    """What the plan was made with. Raises ConfigurationError."""
    options = document.get("options")
    try:
        assert isinstance(options, dict)
        given: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
        return Options(**given)
    except (AssertionError, TypeError) as error:
        raise ConfigurationError("the plan's options are not those of this version") from error


def check_saved(document: dict[str, Any], plan: Plan) -> None:
    """Raises PlanOutdated where `plan`, made now, is not the saved one; says what differs."""
    # Through JSON and back, so that tuples and lists are the same.
    now = json.loads(json.dumps(plan.as_json()))
    if now == document:
        return
    if document.get("fingerprint_key") != now["fingerprint_key"]:
        why = (
            "it was made on another machine, or by another user, so that its fingerprints of tokens can not be compared"
        )
    elif document.get("target") != now["target"]:
        why = f"it was made for {_where(document.get('target'))}, and this is {_where(now['target'])}"
    elif document.get("purpose") != now["purpose"] or document.get("declaration") != now["declaration"]:
        why = "it is another declaration's, or for another purpose"
    else:
        why = f"the account, a credential or the declaration has changed since: {_differing(document, now)}"
    raise PlanOutdated(
        f"the saved plan is not applied: {why}", hint="make and read a new one: `pullthrough plan --out FILE`"
    )


def _where(target: Any) -> str:
    if not isinstance(target, dict):
        return "something else"
    return " ".join(str(target[name]) for name in ("account", "region", "endpoint") if target.get(name))


def _differing(document: dict[str, Any], now: dict[str, Any]) -> str:
    """The ids of the steps that are not the same in both."""
    listed = document["steps"] if isinstance(document["steps"], list) else []
    saved_steps = {str(step.get("id")): step for step in listed if isinstance(step, dict)}
    steps = {step["id"]: step for step in now["steps"]}
    ids = sorted(key for key in {*saved_steps, *steps} if saved_steps.get(key) != steps.get(key))
    return ", ".join(ids) or "what it says beside its steps"
