# One trace (--arg id TRACE_ID) as a tree, from the traces of all nodes: ms since its beginning, how many ms, node, span.
[inputs | fromjson? | .resourceSpans[]
 | (.resource.attributes | map({(.key): .value.stringValue}) | add | .["service.instance.id"]) as $node
 | .scopeSpans[].spans[] | select(.traceId == $id) | . + {node: $node}]
| unique_by(.spanId) | sort_by(.startTimeUnixNano) as $all
| (($all[0].startTimeUnixNano // "0") | tonumber) as $began
| def times:
    [((.startTimeUnixNano | tonumber) - $began) / 1e6, ((.endTimeUnixNano | tonumber) - (.startTimeUnixNano | tonumber)) / 1e6]
    | map(round);
  def tree($depth):
    . as $span
    | (times + [$span.node, ([range($depth) | "  "] | add // "") + $span.name + (if $span.status.code == 2 then " FAILED" else "" end)]),
      ($all[] | select(.parentSpanId? == $span.spanId) | tree($depth + 1));
  $all[] | . as $span | select($span.parentSpanId == null or ($all | all(.spanId != $span.parentSpanId)))
  | tree(0) | @tsv
