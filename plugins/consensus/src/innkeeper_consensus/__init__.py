"""The consensus capability of Innkeeper, for one node."""
