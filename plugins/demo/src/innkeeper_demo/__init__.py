"""The demonstration of the Innkeeper plugin host."""
