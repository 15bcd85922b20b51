//! Which events are wanted: topics, and filters of containerd's own (containerd `pkg/filters`).

use crate::containerd::events::TOPICS;
use crate::ops::error::nearest;
use crate::ops::{Error, Result};

/// Filters, as the daemon takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters {
    /// An event is wanted that matches any of them; without any, every event of every namespace is.
    pub sent: Vec<String>,
    /// The topic, when exactly one is wanted.
    pub topic: Option<&'static str>,
    /// What was written, for messages.
    pub shown: String,
}

/// Reads what a user wrote: topics and beginnings of topics, such as `tasks/exit` and `tasks`, and containerd's filters, such
/// as `topic=="/tasks/exit",event.container_id=="web"`. With a namespace, events of others are not wanted, but for filters
/// that name the namespace themselves.
///
/// # Errors
/// When something is neither a filter nor a known topic.
pub fn filters(written: &[String], namespace: Option<&str>) -> Result<Filters> {
    let mut wanted = Vec::new();
    let mut topics = Vec::new();
    for text in written.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        if is_filter(text) {
            wanted.push(text.to_owned());
        } else {
            let (known, filter) = topic(text)?;
            topics.extend(known);
            wanted.push(filter);
        }
    }
    let everything = wanted.is_empty() || written.iter().any(|text| text.trim().is_empty());
    let narrow = namespace.map(|namespace| format!("namespace==\"{namespace}\""));
    let sent = match narrow {
        None if everything => Vec::new(),
        None => wanted.clone(),
        Some(narrow) if everything => vec![narrow],
        Some(narrow) => {
            let narrowed = |filter: &String| {
                if names_namespace(filter) { filter.clone() } else { format!("{narrow},{filter}") }
            };
            wanted.iter().map(narrowed).collect()
        }
    };
    let topic = if written.len() == 1 && topics.len() == 1 { topics.first().copied() } else { None };
    let shown = if everything { "any event".to_owned() } else { written.join(" or ") };
    Ok(Filters { sent, topic, shown })
}

/// A filter has an operator; one without tests whether the details have a field.
fn is_filter(text: &str) -> bool {
    text.contains('=') || text.starts_with("event.")
}

fn names_namespace(filter: &str) -> bool {
    filter.split(',').any(|selector| selector.trim_start().starts_with("namespace"))
}

/// Returns the known topics at or below a topic, and the filter for them.
fn topic(text: &str) -> Result<(Vec<&'static str>, String)> {
    let name = text.trim_matches('/');
    let below = |topic: &&'static str| {
        let rest = topic[1..].strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let known: Vec<&'static str> = TOPICS.iter().copied().filter(below).collect();
    if name.is_empty() || known.is_empty() {
        let groups = TOPICS.iter().filter_map(|topic| topic[1..].split('/').next());
        let near = nearest(name, TOPICS.iter().map(|topic| &topic[1..]).chain(groups.clone()));
        let mut groups: Vec<&str> = groups.collect();
        groups.dedup();
        return Err(Error::Argument {
            name: format!("'{text}'"),
            problem: "is neither a topic of containerd nor a filter".into(),
            cure: Some(match near {
                Some(near) => format!("did you mean {near}?"),
                None => format!(
                    "topics begin with {}; what plugins publish is found by a filter like topic==\"/{name}\"",
                    groups.join(", ")
                ),
            }),
        });
    }
    // Where exactly one is meant, equality costs the daemon less than an expression.
    let filter = match known[..] {
        [only] if only[1..] == *name => format!("topic==\"{only}\""),
        _ => format!("topic~=\"^/{name}/\""),
    };
    Ok((known, filter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Failure;

    fn sent(written: &[&str], namespace: Option<&str>) -> Vec<String> {
        filters(&written.iter().map(|&text| text.to_owned()).collect::<Vec<_>>(), namespace).unwrap().sent
    }

    #[test]
    fn topics_become_filters_and_filters_stay() {
        assert_eq!(sent(&[], None), [""; 0]);
        assert_eq!(sent(&[], Some("k8s.io")), [r#"namespace=="k8s.io""#]);
        assert_eq!(sent(&["tasks/exit"], None), [r#"topic=="/tasks/exit""#]);
        assert_eq!(sent(&["/tasks/", "images"], None), [r#"topic~="^/tasks/""#, r#"topic~="^/images/""#]);
        assert_eq!(sent(&["tasks/exit"], Some("a")), [r#"namespace=="a",topic=="/tasks/exit""#]);
        let own = r#"topic~="^/tasks",event.container_id==web"#;
        assert_eq!(sent(&[own], None), [own]);
        assert_eq!(sent(&[own], Some("a")), [format!(r#"namespace=="a",{own}"#)]);
        // Whoever names the namespace means it.
        assert_eq!(sent(&["namespace==b"], Some("a")), ["namespace==b"]);
        assert_eq!(sent(&["event.container_id"], None), ["event.container_id"]);
        assert_eq!(sent(&["", "tasks"], None), [""; 0]);
    }

    #[test]
    fn the_topic_is_told_when_it_is_one() {
        let topic = |text: &str| filters(&[text.to_owned()], None).unwrap().topic;
        assert_eq!(topic("tasks/exit"), Some("/tasks/exit"));
        assert_eq!(topic("tasks"), None);
        assert_eq!(topic("topic==x"), None);
    }

    #[test]
    fn a_misspelt_topic_names_the_right_one() {
        let hint = |text: &str| filters(&[text.to_owned()], None).unwrap_err().hint().unwrap();
        assert_eq!(hint("task"), "did you mean tasks?");
        assert_eq!(hint("image/create"), "did you mean images/create?");
        assert_eq!(hint("snapshots"), "did you mean snapshot?");
        assert!(hint("zebra").contains("topics begin with containers, content, images"), "{}", hint("zebra"));
        assert!(hint("/").contains("topics begin with"));
    }
}
