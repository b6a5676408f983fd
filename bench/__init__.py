"""The yardsticks; each prints one JSON object on one line."""
