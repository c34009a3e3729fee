"""Recordings as what a browser draws."""
