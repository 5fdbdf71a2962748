//! Whether two servers said the same.

use serde_json::Value;

/// Whether two `data` objects are equal: the same series, values within the tolerance. The order of
/// series counts only where the query sorts, which the API's consumers cannot rely on elsewhere.
pub fn equal(query: &str, ours: &Value, theirs: &Value) -> Result<(), String> {
    let within = tolerance(query);
    if ours["resultType"] != theirs["resultType"] || ours.is_null() {
        return Err(format!(
            "types {} and {}",
            ours["resultType"], theirs["resultType"]
        ));
    }
    if ours["resultType"] == "scalar" || ours["resultType"] == "string" {
        return same_sample(&ours["result"], &theirs["result"], within);
    }
    let sorted = |v: &Value| {
        let mut series = v["result"].as_array().cloned().unwrap_or_default();
        series.sort_by_cached_key(|s| s["metric"].to_string());
        series
    };
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    if ours.len() != theirs.len() {
        return Err(format!("{} and {} series", ours.len(), theirs.len()));
    }
    for (a, b) in ours.iter().zip(&theirs) {
        if !close(&a["metric"], &b["metric"], within) {
            return Err(format!("series {} and {}", a["metric"], b["metric"]));
        }
        let samples = |s: &Value, one: &str, many: &str| match s[many].as_array() {
            Some(values) => values.clone(),
            None if s[one].is_null() => vec![],
            None => vec![s[one].clone()],
        };
        for (one, many) in [("value", "values"), ("histogram", "histograms")] {
            let (x, y) = (samples(a, one, many), samples(b, one, many));
            if x.len() != y.len() {
                return Err(format!(
                    "{}: {} and {} {many}",
                    a["metric"],
                    x.len(),
                    y.len()
                ));
            }
            for (x, y) in x.iter().zip(&y) {
                same_sample(x, y, within).map_err(|e| format!("{}: {e}", a["metric"]))?;
            }
        }
    }
    Ok(())
}

/// How far apart values may be, relative to the greater. The variance of large numbers that lie
/// close to each other depends on the order in which they come.
fn tolerance(query: &str) -> f64 {
    if query.contains("stddev") || query.contains("stdvar") {
        1e-6
    } else {
        1e-9
    }
}

fn same_sample(ours: &Value, theirs: &Value, within: f64) -> Result<(), String> {
    if ours[0].as_f64() == theirs[0].as_f64() && close(&ours[1], &theirs[1], within) {
        Ok(())
    } else {
        Err(format!("{ours} and {theirs}"))
    }
}

/// Equal trees whose numbers (texts that are numbers included) are close.
pub fn close(ours: &Value, theirs: &Value, within: f64) -> bool {
    match (ours, theirs) {
        (Value::String(a), Value::String(b)) => match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => {
                a == b
                    || (a.is_nan() && b.is_nan())
                    || (a - b).abs() <= within * a.abs().max(b.abs())
            }
            _ => a == b,
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b, within))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(k, a)| b.get(k).is_some_and(|b| close(a, b, within)))
        }
        _ => ours == theirs,
    }
}

/// A tree without these keys, at any depth.
pub fn without(mut tree: Value, keys: &[&str]) -> Value {
    fn walk(tree: &mut Value, keys: &[&str]) {
        match tree {
            Value::Object(map) => {
                keys.iter().for_each(|key| drop(map.remove(*key)));
                map.values_mut().for_each(|value| walk(value, keys));
            }
            Value::Array(list) => list.iter_mut().for_each(|value| walk(value, keys)),
            _ => {}
        }
    }
    walk(&mut tree, keys);
    tree
}

/// Whether two whole answers are equal: result, error and its type, warnings and infos.
pub fn equal_answers(query: &str, ours: &Value, theirs: &Value) -> Result<(), String> {
    if ours["status"] != theirs["status"] {
        return Err(format!(
            "{} and {}",
            said(ours).chars().take(300).collect::<String>(),
            said(theirs).chars().take(300).collect::<String>()
        ));
    }
    for field in ["errorType", "error"] {
        if ours[field] != theirs[field] && !is_same_error(&ours[field], &theirs[field]) {
            return Err(format!("{field} {} and {}", ours[field], theirs[field]));
        }
    }
    for field in ["warnings", "infos"] {
        let sorted = |v: &Value| {
            let mut all: Vec<String> = v[field]
                .as_array()
                .into_iter()
                .flatten()
                .map(|v| without_count(v.as_str().unwrap_or_default()))
                .collect();
            // Which ten of many are shown is up to chance.
            if all.len() > 10 {
                all.iter_mut().for_each(|text| {
                    if !text.contains("omitted") {
                        text.clear();
                    }
                });
            }
            all.sort();
            all
        };
        if sorted(ours) != sorted(theirs) {
            return Err(format!("{field} {} and {}", ours[field], theirs[field]));
        }
    }
    if ours["status"] == "success" {
        equal(query, &ours["data"], &theirs["data"])?;
    }
    Ok(())
}

/// Over several steps Prometheus adds the number of samples of a corrected histogram up more than
/// once.
fn without_count(text: &str) -> String {
    match text.split_once(", over ") {
        Some((head, tail)) if text.contains("monotonicity") => {
            format!(
                "{head}{}",
                tail.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit())
            )
        }
        _ => text.to_owned(),
    }
}

/// Of several series that cannot be matched, which are named first is up to the order of a hash
/// table.
fn is_same_error(ours: &Value, theirs: &Value) -> bool {
    let head = |v: &Value| {
        let text = v.as_str().unwrap_or_default();
        text.starts_with("found duplicate series for the match group")
            .then(|| text.contains("on the right hand-side"))
    };
    head(ours).is_some() && head(ours) == head(theirs)
}

fn said(answer: &Value) -> String {
    match answer["error"].as_str() {
        Some(error) => format!("error {} {error:?}", answer["errorType"]),
        None => answer["data"].to_string(),
    }
}
