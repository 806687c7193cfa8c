# LOAD_STATUS.json in one line, for a prompt or a watch: node, mode, ready or why not, open work, what is not up, alerts.
"\(.node): \(.mode), \(if .ready then "ready" else "not ready (\(.reasons | join(", ")))" end)"
+ ", \(.queue.tasks) tasks, \(.queue.messages) messages wait"
+ ([.services | to_entries[] | select(.value | IN("up", "ready", "working", "running") | not) | ", \(.key) \(.value)"] | join(""))
+ (if .alerts == [] then "" else ", alerts: \([.alerts[].name] | join(", "))" end)
