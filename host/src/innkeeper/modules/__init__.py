"""Which module runs a workflow: attributes, kinds, requirements, restrictions, and the messages of providers."""
