"""Files that go from node to node over SSH: what is said (wire), who answers (serve), who asks (fetch, receive)."""
