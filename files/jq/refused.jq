# Messages that were refused, by reason: how many, the reason, and when last.
[inputs | fromjson? | select(.event? == "message.refused")]
| group_by(.reason)
| map({n: (map(1 + (.more_since_last // 0)) | add), reason: .[0].reason, last: (map(.at) | max)})
| sort_by(-.n)[] | [.n, .reason, .last] | @tsv
