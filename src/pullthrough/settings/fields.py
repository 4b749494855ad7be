"""How a setting is declared: one field of a table, with the type of its value, its default and, below it, its text.

    @table
    class ServeSettings:
        workers: int = setting(Number(1, 256), default=1)
        \"\"\"Processes that serve, sharing one data folder and each transfer.\"\"\"

That is all that a setting needs. Its key in the file, its environment variable, what is said of a wrong value or of a
misspelt key, `config show` and the reference page docs/configuration.md come from the field. The text below the field
says the unit, what none means, and why this default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar, cast, dataclass_transform, overload

from pullthrough.settings.values.base import ValueType

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
C = TypeVar("C")
R = TypeVar("R", bound="DataclassInstance")

_SETTING = "setting"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a table."""

    key: str
    #: The attribute that it fills.
    attribute: str
    type: ValueType[Any]
    is_required: bool
    #: None where it is required.
    default: object


@overload
def setting(type: ValueType[T], *, default: T, key: str = "") -> T: ...


@overload
def setting(type: ValueType[T], *, default: None, key: str = "") -> T | None: ...


@overload
def setting(type: ValueType[T], *, default_factory: Callable[[], T], key: str = "") -> T: ...


@overload
def setting(type: ValueType[T], *, key: str = "") -> T: ...


def setting(
    type: ValueType[Any], *, default: Any = MISSING, default_factory: Any = MISSING, key: str = ""
) -> Any:  # what a dataclass makes of the field, as for `dataclasses.field`
    """A field that a setting fills. `key` is its key in the file where that is not the attribute's name: attributes carry
    units in their names, keys carry them in their values."""
    return field(
        default=default, default_factory=default_factory, repr=not type.private, metadata={_SETTING: (key, type)}
    )


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting,))
def table(cls: type[C]) -> type[C]:
    """A frozen dataclass whose fields are settings: one table of the file."""
    return dataclass(frozen=True, kw_only=True)(cls)


def settings_of(model: type) -> Mapping[str, Setting]:
    """The settings of a table by their keys, in the order of the class."""
    found = {}
    for one in fields(model):
        key, type = cast("tuple[str, ValueType[Any]]", one.metadata[_SETTING])
        is_required = one.default is MISSING and one.default_factory is MISSING
        default = one.default if one.default_factory is MISSING else one.default_factory()
        found[key or one.name] = Setting(key or one.name, one.name, type, is_required, None if is_required else default)
    return found


def record_of(record: type[R], table: object, **more: object) -> R:
    """A record of the domain with what the table says under the same names. `more` is what it has beside, or instead."""
    known = {one.name for one in fields(record)} - set(more)
    return record(**{name: getattr(table, name) for name in known if hasattr(table, name)}, **more)
