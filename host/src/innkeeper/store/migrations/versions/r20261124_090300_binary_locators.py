"""Finding a binary by where it came from."""

from __future__ import annotations

from alembic import op

revision = "20261124_090300"
down_revision = "20261124_090200"


def upgrade() -> None:
    """Index ``binary_url`` of ``workflow_specs_v2``: behind a binary in its row, it is far to be looked at."""
    op.create_index("ix_workflow_specs_v2_binary_url", "workflow_specs_v2", ["binary_url"])
