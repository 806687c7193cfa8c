# How scheduled jobs went: name, runs, how many were done, longest in seconds, last verdict and when.
[inputs | fromjson? | select(.event? == "job.ended")]
| group_by(.name)[]
| [.[0].name, length, (map(select(.verdict == "done")) | length), (map(.seconds) | max), .[-1].verdict, .[-1].at] | @tsv
