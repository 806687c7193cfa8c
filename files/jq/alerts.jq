# What a person was told: when, until when (empty while it holds), which, how urgent, and the text.
[inputs | fromjson? | select(.event? == "alert" or .event? == "alert.over")] as $all
| $all | to_entries[] | select(.value.event == "alert") | .key as $place | .value
| . as $alert
| ([$all[$place:][] | select(.event == "alert.over" and .name == $alert.name) | .at] | first // "") as $until
| [.at, $until, .name, .urgency, .text] | @tsv
