"""`pullthrough keys`: the API keys that are kept in the data folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pullthrough.cli.engine.session import session
from pullthrough.cli.options import ConfigOption, DataOption, JsonOption
from pullthrough.cli.output import note, write, write_json, write_table
from pullthrough.errors import ConfigurationError
from pullthrough.operations.json_form import to_json
from pullthrough.operations.operation import NoInput
from pullthrough.units import counted

if TYPE_CHECKING:
    from pullthrough.access.api_keys.records import NewKey
    from pullthrough.operations.operation import AnswerT, CacheOperation, GroupT, RequestT

#: As IAM limits what is attached to a user.
_MAX_POLICY_BYTES = 10_240

keys_app = typer.Typer(
    name="keys", help="API keys, for the AWS APIs and for logging in as a registry client.", rich_markup_mode=None
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The key's name, which is its user's.")]


@keys_app.command("list")
def list_keys(
    context: typer.Context, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List the keys, those of the settings included; never their secret halves."""
    from pullthrough.operations.keys import LIST_KEYS

    answer = _perform(context, config, data, LIST_KEYS, NoInput())
    if as_json:
        write_json(to_json(answer))
    elif not answer.keys:
        write("there are no API keys; `pullthrough keys show` makes the first one")
    else:
        write_table(
            ("name", "access key id", "role", "made"),
            [(key.name, key.access_key_id, key.role, key.created_at or "in the settings") for key in answer.keys],
        )


@keys_app.command("show")
def show(
    context: typer.Context, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Show the first key, of the role admin. Once: its secret half is not shown again.

    It is made for that where there is no key at all. The output is what a shell can take:
    eval "$(pullthrough keys show)"
    """
    from pullthrough.operations.keys import SHOW_KEY

    _show_key(_perform(context, config, data, SHOW_KEY, NoInput()), as_json=as_json)


@keys_app.command("create")
def create(
    context: typer.Context,
    name: NameArgument,
    role: Annotated[str, typer.Option("--role", help="admin (everything) or pull (what a pull needs).")] = "pull",
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="An IAM policy document, instead of a role.")
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, and show its secret half, which is not shown again."""
    from pullthrough.operations.keys import CREATE_KEY, NewKeyRequest

    if policy is None and role not in ("admin", "pull"):
        raise ConfigurationError(
            f"there is no role {role[:80]!r}", hint="the roles are admin and pull; see --policy too"
        )
    text = role if policy is None else _read_policy(policy)
    _show_key(_perform(context, config, data, CREATE_KEY, NewKeyRequest(name, text)), as_json=as_json)


@keys_app.command("renew")
def renew(
    context: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key another secret half, and show it. The old one, and logins made with it, end at once."""
    from pullthrough.operations.keys import RENEW_KEY, KeyRequest

    _show_key(_perform(context, config, data, RENEW_KEY, KeyRequest(name)), as_json=as_json)


@keys_app.command("remove")
def remove(
    context: typer.Context,
    name: NameArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a key. Logins made with it end at once."""
    from pullthrough.operations.keys import REMOVE_KEY, KeyRequest

    answer = _perform(context, config, data, REMOVE_KEY, KeyRequest(name))
    if as_json:
        write_json(to_json(answer))
    else:
        write(f"{answer.name} is removed")


@keys_app.command("rotate")
def rotate(
    context: typer.Context, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Make a new encryption key, and encrypt all secrets and API keys with it.

    They stay what they are. A backup of the data folder that was made before needs the key of that time, so keep that
    key with it. Where the key is in the environment, nothing is made: start the engine with
    PULLTHROUGH_ECR_ENCRYPTION_KEY="NEW OLD", rotate, and leave OLD out from then on.
    """
    from pullthrough.operations.keys import ROTATE_KEYS

    answer = _perform(context, config, data, ROTATE_KEYS, NoInput())
    if as_json:
        write_json(to_json(answer))
    else:
        values = counted(answer.values, "value")
        write(f"encrypted anew: {values}, with the new key in {answer.key}; back it up")


def _perform(
    context: typer.Context,
    config: Path | None,
    data: Path | None,
    operation: CacheOperation[GroupT, RequestT, AnswerT],
    request: RequestT,
) -> AnswerT:
    with session(context, config, data) as cache:
        return cache.perform(operation, request)


def _show_key(key: NewKey, *, as_json: bool) -> None:
    if as_json:
        write_json(to_json(key))
        return
    write(f"export AWS_ACCESS_KEY_ID={key.access_key_id}\nexport AWS_SECRET_ACCESS_KEY={key.secret_access_key}")
    note(f"the key {key.name}, role {key.role}; its secret half is not shown again")


def _read_policy(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_POLICY_BYTES + 1)
        if len(content) > _MAX_POLICY_BYTES:
            raise ConfigurationError(f"{path} is larger than a policy may be, {_MAX_POLICY_BYTES} bytes")
        return content.decode()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text") from error
