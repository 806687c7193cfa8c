# What went wrong in the last hour (--argjson hours N for another time), oldest first.
def moment: sub("\\.[0-9]+Z$"; "Z") | fromdateiso8601;
(now - 3600 * ($ARGS.named.hours // 1)) as $since
| inputs | fromjson?
| select(type == "object" and (.at? | type) == "string" and (.at | moment) >= $since)
| select(
    (.verdict? // "done") != "done" or .ok? == false or (.exit_code? // 0) != 0
    or (.event | test("\\.(failed|refused|undelivered|given_up|crashed|stuck|exited|gone|full)$")) or .event == "alert")
| [.at, .event, (.name? // .peer? // .correlation_id? // ""),
   ([.detail?, .reason?, .why?, .text?, .error?] | map(select(type == "string" and . != "")) | first // "")]
| @tsv
