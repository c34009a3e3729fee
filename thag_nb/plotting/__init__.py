"""Recordings as pictures on matplotlib axes, and in words."""
