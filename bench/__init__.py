"""``make bench``: what Outlast costs and how fast it is, each figure beside its goal and a peer measured in the same run."""
