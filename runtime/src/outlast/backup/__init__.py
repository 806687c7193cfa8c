"""Backups of a node: one file that makes it the same node again, on an empty machine or a broken one."""
