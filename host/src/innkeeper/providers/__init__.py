"""Providers: found without importing them, loaded so that a bad one harms nobody."""
