"""Processors that judge documents one by one."""
