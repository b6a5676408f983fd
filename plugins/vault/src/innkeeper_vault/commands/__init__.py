"""The commands ``innkeeper secrets set``, ``list`` and ``delete``, each run in a process of its own."""
