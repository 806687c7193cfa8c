# What the runtime used over time, from the metrics: when, memory in MiB, processor in percent, lag of the loop in ms, disk in percent.
inputs | fromjson? | select(.rss?) | [.at, (.rss / 1048576 * 10 | round / 10), .cpu, (.lag * 1000 | round), .disk] | @tsv
