# Which services ended, how often, how they last ended, and when.
[inputs | fromjson? | select(.event? == "service.exited")]
| group_by(.name)[] | [.[0].name, length, .[-1].reason, .[-1].at] | @tsv
