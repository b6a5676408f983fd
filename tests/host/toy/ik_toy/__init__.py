"""A provider for tests: binaries are JSON that says what a workflow does."""
