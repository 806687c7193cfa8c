"""Outlast's runtime: what runs on every node and does the surviving.

``core`` decides and is pure; ``store`` keeps; ``net`` speaks; ``work`` runs agents; ``daemon`` wires them together;
``cli`` is what people type.
"""

__version__ = "0.1.0"
