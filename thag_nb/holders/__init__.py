"""Who still holds what a context allocated."""
