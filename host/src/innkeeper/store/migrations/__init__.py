"""Alembic revisions, oldest first.

A new revision is a file ``versions/rYYYYMMDD_HHMMSS_what.py`` whose ``revision`` is that moment in UTC and whose
``down_revision`` is the newest one before it. It names columns by themselves and imports nothing of
``innkeeper.store.models``, which describes only the newest tables.
"""
