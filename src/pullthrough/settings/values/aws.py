"""What AWS names things by, and its tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.settings.values.base import PathBase, ValueType, texts_of
from pullthrough.settings.values.texts import Formed, FormedList

ACCOUNTS = FormedList(r"[0-9]{12}", "a list of account ids, 12 digits each in quotes")
#: https://docs.aws.amazon.com/organizations/latest/APIReference/API_Organization.html
ORGANIZATION = Formed(r"|o-[a-z0-9]{10,32}", "an organisation's id such as `o-a1b2c3d4e5`")
_ROLE = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/(?:[!-.0-~]{1,510}/)*"
_ROLE_NAME = r"[\w+=,.@-]{1,64}"
ROLE_ARN = Formed(f"|{_ROLE}{_ROLE_NAME}", "a role's ARN such as `arn:aws:iam::123456789012:role/name`")
ROLES = FormedList(rf"(?:{_ROLE})?{_ROLE_NAME}", "a list of names of IAM roles, or of their ARNs")


@dataclass(frozen=True, slots=True)
class Tags(ValueType[Mapping[str, str]]):
    """AWS's resource tags: https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html"""

    #: Whether they go on what also bears a mark of ours, and on IAM's roles, for which `Team` and `team` are one:
    #: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html#id_tags_rules
    marked: bool

    @property
    def accepted(self) -> str:
        return f'a table of up to {self._most} tags such as `{{ team = "platform" }}`'

    @property
    def _most(self) -> int:
        return 49 if self.marked else 50

    def parse(self, value: object, place: PathBase) -> Mapping[str, str]:
        if not isinstance(value, dict):
            raise ValueError("is not a table such as { team = 'platform' }")
        if len(value) > self._most:
            ours = ", and one is the mark of what is pullthrough's" if self.marked else ""
            raise ValueError(f"has more than {self._most} tags; AWS takes 50{ours}")
        for key, text in value.items():
            if not isinstance(text, str):
                raise ValueError(f"has a value for {key[:80]!r} that is not a text in quotes")
            if key.lower().startswith(("aws:", "pullthrough:")):
                raise ValueError(f"has the tag {key[:80]!r}, whose beginning is reserved")
            if re.fullmatch(r"[\w .:/=+@-]{1,128}", key) is None or re.fullmatch(r"[\w .:/=+@-]{0,256}", text) is None:
                raise ValueError(
                    f"has the tag {key[:80]!r}, which AWS does not take: letters, digits, spaces and any of _.:/=+-@, "
                    "up to 128 characters in its key and 256 in its value"
                )
        if self.marked and len({key.casefold() for key in value}) < len(value):
            raise ValueError("has two tags that differ in capitals only, which are one for IAM")
        return dict(value)

    def from_text(self, text: str, place: PathBase) -> Mapping[str, str]:
        pairs = [part.partition("=") for part in texts_of(text)]
        tags = {key.strip(): value.strip() for key, _, value in pairs}
        if not all(equals for _, equals, _ in pairs) or len(tags) < len(pairs):
            raise ValueError("is not a list of different tags such as 'team=platform,stage=test'")
        return self.parse(tags, place)
