"""What crosses a wire: the HTTP server and client, the ingress and the outbox."""
