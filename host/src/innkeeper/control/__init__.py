"""The control protocol, host side: what a command, a provider's command or a test speaks to."""
