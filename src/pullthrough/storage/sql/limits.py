"""Tables of which there may be only so many rows."""

from __future__ import annotations

from sqlalchemy import Connection, Table, func, select

from pullthrough.errors import AlreadyExists, LimitReached


def refuse_another(connection: Connection, table: Table, key: str, most: int, what: str) -> None:
    column = next(iter(table.primary_key))
    if connection.execute(select(column).where(column == key)).first() is not None:
        raise AlreadyExists(f"{key} is there already")
    if connection.execute(select(func.count()).select_from(table)).scalar_one() >= most:
        raise LimitReached(f"there may be no more than {most} {what}")
