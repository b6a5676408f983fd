"""A provider with a process part, for tests: a module type in the host that needs a capability of the process."""
