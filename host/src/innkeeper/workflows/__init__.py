"""Deployed workflows: who they are, where they are listed, and how they are kept running."""
