"""The host's side of processes: what starts them, what keeps them, and what ends them."""
