"""Confidential workflows of the Innkeeper plugin host."""
