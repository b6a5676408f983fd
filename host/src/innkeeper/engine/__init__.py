"""The engine: it runs one workflow, from its triggers to its executions' results."""
