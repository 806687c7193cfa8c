"""Pure decisions: no os, socket, time or random inside; clock and randomness are passed in."""
