# Rate, errors and duration by kind, from the metrics: how many an hour, percent that failed, mean and longest in seconds.
[inputs | fromjson? | select(.kinds? | type == "object")]
| (map(.seconds) | add // 0) as $watched
| [.[].kinds | to_entries[]] | group_by(.key)[]
| (map(.value.n) | add) as $n
| [.[0].key, ($n * 3600 / ([$watched, 1] | max) * 10 | round / 10), ((map(.value.errors) | add) * 1000 / $n | round / 10),
   ((map(.value.seconds) | add) / $n * 1000 | round / 1000), (map(.value.max) | max)] | @tsv
