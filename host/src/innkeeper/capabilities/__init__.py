"""Who may use which capability, and within which limits: the only way from a caller to a capability."""
