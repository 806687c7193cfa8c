"""OpenClaw beside the node: its gateway kept running, truly watched, fed, kept safe and brought back."""
