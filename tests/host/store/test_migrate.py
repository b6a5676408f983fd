"""Revisions: they lead from an old database with rows to the tables that the models describe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine import Connection

from innkeeper.store import migrate
from innkeeper.store.database import Database
from innkeeper.store.errors import DatabaseError
from innkeeper.store.models import metadata
from innkeeper.store.specs import SpecStatus
from innkeeper.store.stores import Stores
from innkeeper.store.urls import parse_url

WITHOUT_ATTRIBUTES = "20261124_090000"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """Return a connection pool that begins its transactions itself, as the host's does."""
    parsed = parse_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    engine = create_engine(parsed.set(drivername="sqlite") if sqlite else parsed)
    if sqlite:
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    yield engine
    engine.dispose()


def insert_old_row(connection: Connection, workflow_id: str, name: str) -> None:
    connection.execute(
        text(
            "INSERT INTO workflow_specs_v2 (workflow, workflow_id, workflow_owner, workflow_name, status, created_at,"
            " updated_at, spec_type, workflow_tag) VALUES ('00ff', :id, :owner, :name, 'active',"
            " '2026-01-01 00:00:00+00:00', '2026-01-01 00:00:00+00:00', 'some', 'v1')"
        ),
        {"id": workflow_id, "owner": "22" * 20, "name": name},
    )


async def test_rows_of_a_database_without_attributes_get_empty_bytes(engine: Engine, url: str) -> None:
    with engine.begin() as connection:
        migrate.upgrade(connection, "it", target=WITHOUT_ATTRIBUTES)
        insert_old_row(connection, "00" * 32, "first")
        insert_old_row(connection, "00" * 31 + "01", "second")
    assert "attributes" not in {column["name"] for column in inspect(engine).get_columns("workflow_specs_v2")}

    database = Database(url)
    await database.open()
    headers = await Stores.of(database).specs.headers()
    artifacts = await Stores.of(database).specs.artifacts("00" * 32)
    await database.close()

    assert [(header.name, header.attributes) for header in headers] == [("first", b""), ("second", b"")]
    assert headers[0].status is SpecStatus.ACTIVE
    assert artifacts is not None
    assert (artifacts.binary, artifacts.config) == (b"\x00\xff", b"")


def test_attributes_are_bytes_never_null_and_empty_by_default(engine: Engine) -> None:
    with engine.begin() as connection:
        migrate.upgrade(connection, "it")
        insert_old_row(connection, "00" * 32, "first")
        found = connection.execute(text("SELECT attributes FROM workflow_specs_v2")).scalar_one()
    assert type(found) is bytes
    assert found == b""
    with pytest.raises(Exception, match=r"(?i)not.null"), engine.begin() as connection:
        connection.execute(text("UPDATE workflow_specs_v2 SET attributes = NULL"))


def test_models_and_revisions_agree(engine: Engine) -> None:
    with engine.begin() as connection:
        migrate.upgrade(connection, "it")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "target_metadata": metadata, "include_object": _ours}
        )
        assert compare_metadata(context, metadata) == []


def _ours(item: object, name: str | None, kind: str, reflected: bool, compare_to: object) -> bool:
    del item, reflected, compare_to
    return not (kind == "table" and name == "alembic_version")


def test_the_models_defaults_are_those_of_the_revisions(engine: Engine) -> None:
    def defaults() -> dict[tuple[str, str], tuple[object, bool]]:
        inspector = inspect(engine)
        return {
            (table, column["name"]): (column["default"], column["nullable"])
            for table in metadata.tables
            for column in inspector.get_columns(table)
        }

    with engine.begin() as connection:
        migrate.upgrade(connection, "it")
    by_revisions = defaults()
    with engine.begin() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    assert defaults() == by_revisions


def test_an_upgrade_that_fails_changes_nothing(engine: Engine) -> None:
    with engine.begin() as connection:
        migrate.upgrade(connection, "it", target=WITHOUT_ATTRIBUTES)
        insert_old_row(connection, "00" * 32, "first")
        # The last revision will find its table made already.
        connection.execute(text("CREATE TABLE audit_log (id INTEGER)"))
    with pytest.raises(Exception, match="already exists"), engine.begin() as connection:
        migrate.upgrade(connection, "it")
    with engine.connect() as connection:
        assert migrate.current_revision(connection) == WITHOUT_ATTRIBUTES
        assert not inspect(connection).has_table("executions")
        columns = {column["name"] for column in inspect(connection).get_columns("workflow_specs_v2")}
    assert "attributes" not in columns


async def test_a_host_that_cannot_upgrade_says_why(engine: Engine, url: str) -> None:
    with engine.begin() as connection:
        migrate.upgrade(connection, "it", target=WITHOUT_ATTRIBUTES)
        connection.execute(text("CREATE TABLE audit_log (id INTEGER)"))
    with pytest.raises(DatabaseError, match="audit_log"):
        await Database(url).open()


def test_revisions_are_one_line_and_named_by_their_moment() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    line = [revision.revision for revision in script.walk_revisions()]
    assert script.get_heads() == [migrate.head()]
    assert list(reversed(line)) == migrate.revisions()
    for revision in script.walk_revisions():
        assert Path(revision.path).name.startswith(f"r{revision.revision}_")


def test_a_database_that_is_up_to_date_needs_no_alembic(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine.begin() as connection:
        migrate.upgrade(connection, "it")
    monkeypatch.setattr(migrate, "_run_alembic", lambda *_: pytest.fail("Alembic was run"))
    with engine.begin() as connection:
        migrate.upgrade(connection, "it")
