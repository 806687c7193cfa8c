# The story of one trace or unit (--arg id ID), from the event logs of all nodes: when, where, what, how long, how it ended.
[inputs | fromjson? | select((.trace_id? == $id) or (.correlation_id? == $id))]
| sort_by(.at)[]
| [.at, .node, .event, (.seconds // ""), (.verdict? // .peer? // "")] | @tsv
