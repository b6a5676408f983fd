"""The local vault of the Innkeeper plugin host."""
