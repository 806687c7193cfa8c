"""What the node does: tasks that it was given, hand-offs that it made, agents that it runs."""
