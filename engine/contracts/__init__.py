"""Declarations of plugins, and the interfaces of the objects that their factories return."""
