"""Call sites: which line allocated what, as tables, flame graphs, and files for other tools."""
