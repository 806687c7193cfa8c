# The tasks that took longest (--argjson most N for more than ten): seconds, when, verdict, unit, trace.
[inputs | fromjson? | select(.event? == "task.closed" and (.seconds? | type) == "number")]
| sort_by(-.seconds) | .[:($ARGS.named.most // 10)][]
| [.seconds, .at, .verdict, .correlation_id, .trace_id] | @tsv
