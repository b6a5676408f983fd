"""What an operator writes: plugins.yaml and innkeeper.yaml, as records with their origins."""
