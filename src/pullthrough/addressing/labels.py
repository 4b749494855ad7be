"""What rules and roles are called in addresses and exports: readable, stable, and never the same for two of them.

A name depends on its own prefix alone, so that a rule that is added later renames nothing; what has no readable form of
its own, or would share it, gets six digits of its hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable

_DIGITS = 6

#: The readable form of a name, and whether no other name has the same.
Style = Callable[[str], tuple[str, bool]]


def terraform_style(name: str) -> tuple[str, bool]:
    """`docker-hub` is `docker_hub`, `team/a` is `team__a`, `2024` is `_2024`; ROOT stays in capitals."""
    label = re.sub(r"[^A-Za-z0-9_]", "_", name.replace("/", "__"))
    plain = re.fullmatch(r"[A-Za-z0-9]+(?:[-/][A-Za-z0-9]+)*", name, re.ASCII) is not None
    return (label if label[:1].isalpha() else f"_{label}"), plain


def cloudformation_style(name: str) -> tuple[str, bool]:
    """`docker-hub` is `DockerHub`; ROOT stays in capitals. Letters and digits are all that a logical id may have."""
    words = re.findall(r"[A-Za-z0-9]+", name)
    plain = re.fullmatch(r"[a-z][a-z0-9]*(?:-[a-z][a-z0-9]*)*|ROOT", name, re.ASCII) is not None
    return "".join(word[:1].upper() + word[1:] for word in words), plain


def labels(names: Iterable[str], style: Style, *, separator: str = "", reserved: Iterable[str] = ()) -> dict[str, str]:
    """The label of each name. `reserved`: labels that are somebody else's."""
    taken = set(reserved)
    found: dict[str, str] = {}
    # Those with a form of their own come first, whatever their order: what others are there must not rename them.
    for name in sorted(dict.fromkeys(names), key=lambda name: (not style(name)[1], name)):
        label, plain = style(name)
        if not plain or label in taken:
            digest = hashlib.sha256(name.encode()).hexdigest()
            digits = _DIGITS
            while (longer := f"{label}{separator}{digest[:digits]}") in taken:
                digits += 1
            label = longer
        taken.add(label)
        found[name] = label
    return found
