# Which mode the node was in, since when, and why.
inputs | fromjson? | select(.event? == "mode.changed") | [.at, .before, "->", .mode, .why] | @tsv
