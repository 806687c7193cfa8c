"""A launchd for Linux that keeps the rules of Apple's as far as ../README.md says, to try plists and launchctl on."""
