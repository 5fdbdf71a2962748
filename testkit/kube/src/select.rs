//! Selectors by label and by field.

use serde_json::Value;

/// Whether an object has these labels, as `a=b,c!=d,e in (f,g),h,!i` says.
pub(crate) fn by_label(selector: &str, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    terms(selector).iter().all(|term| {
        let of = |name: &str| labels[name.trim()].as_str();
        let set = |list: &str| -> Vec<String> {
            let inner = list.trim().trim_start_matches('(').trim_end_matches(')');
            inner.split(',').map(|v| v.trim().to_owned()).collect()
        };
        if let Some((name, list)) = term.split_once(" notin ") {
            of(name).is_none_or(|v| !set(list).iter().any(|s| s == v))
        } else if let Some((name, list)) = term.split_once(" in ") {
            of(name).is_some_and(|v| set(list).iter().any(|s| s == v))
        } else if let Some((name, value)) = term.split_once("!=") {
            of(name) != Some(value.trim())
        } else if let Some((name, value)) = term.split_once('=') {
            of(name) == Some(value.trim_start_matches('=').trim())
        } else if let Some(name) = term.strip_prefix('!') {
            of(name).is_none()
        } else {
            of(term).is_some()
        }
    })
}

/// Whether an object has these fields, as `spec.nodeName=a,status.phase!=b` says.
pub(crate) fn by_field(selector: &str, object: &Value) -> bool {
    terms(selector).iter().all(|term| {
        let (path, value, same) = match term.split_once("!=") {
            Some((path, value)) => (path, value, false),
            None => match term.split_once('=') {
                Some((path, value)) => (path, value.trim_start_matches('='), true),
                None => return false,
            },
        };
        let mut at = object;
        for part in path.trim().split('.') {
            at = &at[part];
        }
        (at.as_str().unwrap_or("") == value.trim()) == same
    })
}

/// Terms between commas that do not stand in brackets.
fn terms(selector: &str) -> Vec<String> {
    let (mut terms, mut depth) = (vec![String::new()], 0);
    for c in selector.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = terms.last_mut() {
            last.push(c);
        }
    }
    let terms = terms.into_iter().map(|t| t.trim().to_owned());
    terms.filter(|t| !t.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors() {
        let pod = json!({"metadata": {"labels": {"app": "a", "tier": "b"}},
                         "spec": {"nodeName": "n1"}});
        for yes in [
            "",
            "app=a",
            "app==a,tier",
            "app in (a, x),tier!=c",
            "!none",
            "x notin (y)",
        ] {
            assert!(by_label(yes, &pod), "{yes}");
        }
        for no in [
            "app=b",
            "!app",
            "app notin (a)",
            "none",
            "app in (x,y)",
            "app!=a",
        ] {
            assert!(!by_label(no, &pod), "{no}");
        }
        assert!(by_field("spec.nodeName=n1,status.phase!=Failed", &pod));
        assert!(!by_field("spec.nodeName!=n1", &pod));
    }
}
