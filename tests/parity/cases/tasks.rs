//! `tasks`.

use serde_json::{Value, json};

use super::super::{Asks, Case};
use super::containers::ENDED;
use super::{CREATE, LOOK_ENDS, RUN, case};

const LIMITED: &str = "run --detach --null-io --memory-limit 67108864 $IMAGE web sleep 600";
const TERMINAL: &str = "@run --detach --tty $IMAGE web sh";
const LOOK: &str = "tasks exec --detach --exec-id look web sleep 600";

/// How many processes a list of ctr has below its heading.
fn rows(text: &str) -> Value {
    json!(text.lines().skip(1).filter(|line| !line.trim().is_empty()).count())
}

fn items(value: &Value) -> Value {
    json!(value.as_array().map_or(0, Vec::len))
}

/// The messages of JSON metrics, and the limits in them. Counters move, and are left out while they are 0.
fn measured(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let steady = fields.iter().filter(|(name, field)| field.is_object() || name.contains("limit"));
            steady.map(|(name, field)| (name.clone(), measured(field))).collect()
        }
        other => other.clone(),
    }
}

/// The table of metrics: all names in their order, and the limits.
fn listed(text: &str) -> Value {
    let table = text.split_once("METRIC").map_or("", |(_, table)| table);
    let rows = table.lines().skip(1).filter_map(|line| line.trim().split_once(' '));
    rows.map(|(name, value)| json!([name, name.contains("limit").then(|| value.trim())])).collect()
}

pub fn cases() -> Vec<Case> {
    vec![
        case("tasks start", "tasks start web").after(&["containers create $IMAGE web true"]),
        case("tasks start --detach", "tasks start --detach --null-io web").after(&[CREATE]),
        case("tasks start --null-io", "tasks start --null-io web").after(&["containers create $IMAGE web true"]),
        case("tasks start --log-uri", "tasks start --detach --log-uri file://$FILE web")
            .after(&["containers create $IMAGE web echo hello"])
            .asks(Asks::File)
            .ends(),
        case("tasks start --pid-file", "t start -d --null-io --pid-file $FILE web").after(&[CREATE]).asks(Asks::Pid),
        case("tasks start --no-pivot", "tasks start --detach --null-io --no-pivot web").after(&[CREATE]),
        case("tasks list", "tasks list").after(&[RUN]).words(&["web"]),
        case("tasks list --quiet", "tasks ls -q").after(&[RUN]).asks(Asks::Lines),
        case("tasks exec", "tasks exec --exec-id one web echo hello").after(&[RUN]).asks(Asks::Lines),
        case("tasks exec --exec-id", "t exec --exec-id look web sh -c 'echo $$ > /tmp/it'").after(&[RUN]),
        case("tasks exec --tty", "t exec --tty --exec-id look web sh").after(&[RUN]).types("echo a$((1+1))b\r", "a2b"),
        case("tasks exec --detach", LOOK).after(&[RUN]),
        case("tasks exec --cwd", "t exec --exec-id one --cwd /tmp web test -d ../tmp").after(&[RUN]),
        case("tasks exec --user", "t exec --exec-id one --user 1000 web id -u").after(&[RUN]).words(&["1000"]),
        case("tasks exec --log-uri", "t exec --exec-id look --log-uri file://$FILE web echo hello")
            .after(&[RUN])
            .asks(Asks::File),
        case("tasks kill", "tasks kill web")
            .after(&[
                "run -d --null-io $IMAGE web sh -c 'trap exit TERM; touch /up; while true; do sleep 0.1; done'",
                "tasks exec --exec-id up web sh -c 'for i in $(seq 600); do [ -e /up ] && exit; sleep 0.05; done; exit 1'",
            ])
            .ends(),
        case("tasks kill --signal", "tasks kill --signal SIGKILL web").after(&[RUN]).ends(),
        case("tasks kill --all", "tasks kill -a -s KILL web").after(&[RUN]).ends(),
        case("tasks kill --exec-id", "tasks kill --exec-id look -s KILL web").after(&[RUN, LOOK]),
        case("tasks delete", "tasks rm web").after(&ENDED),
        case("tasks delete --force", "tasks delete -f web").after(&[RUN]),
        case("tasks delete --exec-id", "tasks delete --exec-id look web").after(&[
            RUN,
            "tasks exec --detach --exec-id look web true",
            LOOK_ENDS,
        ]),
        case("tasks attach", "tasks attach web").after(&[TERMINAL]).types("echo a$((1+1))b\r", "a2b"),
        case("tasks pause", "tasks pause web").after(&[RUN]),
        case("tasks resume", "tasks resume web").after(&[RUN, "tasks pause web"]),
        case("tasks ps", "tasks ps web").after(&[RUN, LOOK]).asks(Asks::Read(rows, items)),
        case("tasks metrics", "tasks metrics web")
            .after(&[LIMITED])
            .asks(Asks::Read(listed, |value| {
                let row = |row: &Value| {
                    let name = row["metric"].as_str().unwrap();
                    json!([name, name.contains("limit").then(|| row["value"].to_string())])
                };
                value.as_array().unwrap().iter().map(row).collect()
            }))
            .shows("67108864"),
        case("tasks metrics --format", "tasks metrics --format json web")
            .after(&[LIMITED])
            .asks(Asks::Read(|text| measured(&serde_json::from_str(text).unwrap()), measured))
            .shows("67108864"),
    ]
}
