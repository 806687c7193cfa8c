"""What the tests share: real nodes that are started and stopped, and waiting for a condition."""
