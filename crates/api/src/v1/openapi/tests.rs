use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::*;

fn document(version: Version) -> Value {
    let text = describe(version, "/x/api/v1", "1.2.3");
    wire::yaml(&text).unwrap()
}

/// Every operation as `method path`.
fn operations(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{method} {path}"))
        })
        .collect()
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let source = include_str!("../../v1.rs");
    let mut routes = BTreeSet::new();
    let flat: String = source.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in flat.split(".route(").skip(1) {
        let Some((path, rest)) = part
            .trim_start()
            .strip_prefix('"')
            .and_then(|p| p.split_once('"'))
        else {
            continue;
        };
        let call = rest.trim_start_matches([',', ' ']);
        let methods: &[&str] = match call.split('(').next() {
            Some("both") => &["get", "post"],
            Some("get") => &["get"],
            Some("post") => &["post"],
            Some("posted") => &["post", "put"],
            other => panic!("{path}: {other:?}"),
        };
        routes.extend(methods.iter().map(|m| format!("{m} {path}")));
    }
    // What is pushed comes from other rooms.
    routes.insert("post /write".to_owned());
    routes.insert("post /otlp/v1/metrics".to_owned());
    assert!(routes.len() > 40, "{routes:?}");
    assert_eq!(operations(&document(Version::V32)), routes);
}

#[test]
fn every_reference_leads_somewhere() {
    for version in [Version::V31, Version::V32] {
        let document = document(version);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut used = BTreeSet::new();
        fn look(value: &Value, used: &mut BTreeSet<String>) {
            match value {
                Value::Object(map) => {
                    if let Some(to) = map.get("$ref").and_then(Value::as_str) {
                        let name = to.strip_prefix("#/components/schemas/").unwrap();
                        used.insert(name.to_owned());
                    }
                    map.values().for_each(|v| look(v, used));
                }
                Value::Array(list) => list.iter().for_each(|v| look(v, used)),
                _ => {}
            }
        }
        look(&document, &mut used);
        for name in &used {
            assert!(schemas.contains_key(name), "{name} is nowhere");
        }
        for name in schemas.keys() {
            let live = name == "Notification" && version == Version::V31;
            assert!(used.contains(name) || live, "nobody uses {name}");
        }
    }
    for (name, text) in SCHEMAS {
        assert!(schemas::parse(text).is_some(), "{name}: {text}");
    }
}

#[test]
fn a_notation_that_is_wrong_is_noticed() {
    for text in [
        "",
        "{",
        "{a}",
        "{a: string",
        "[string",
        "(string)",
        "string string",
        "'a",
    ] {
        assert_eq!(schemas::parse(text), None, "{text}");
    }
    assert_eq!(
        schemas::parse("{a?: [A], b: 'x'|'y'}"),
        Some(json!({
            "type": "object",
            "properties": {
                "a": {"type": "array", "items": {"$ref": "#/components/schemas/A"}},
                "b": {"type": "string", "enum": ["x", "y"]},
            },
            "required": ["b"],
        }))
    );
}

#[test]
fn versions_differ_in_what_they_can_say() {
    let (old, new) = (document(Version::V31), document(Version::V32));
    assert_eq!(
        (&old["openapi"], &new["openapi"]),
        (&json!("3.1.0"), &json!("3.2.0"))
    );
    assert_eq!(old["servers"][0]["url"], "/x/api/v1");
    assert_eq!(old["info"]["version"], "1.2.3");
    assert!(old["paths"].get("/notifications/live").is_none());
    assert!(new["paths"].get("/notifications/live").is_some());
    assert!(old["tags"][0].get("summary").is_none());
}

/// Where Prometheus' own description is at hand: the same operations, names, parameters and schemas.
#[test]
fn it_has_all_that_prometheus_describes() {
    let data = std::env::var_os("EPIMETHEUS_DATA").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data").into(),
        std::path::PathBuf::from,
    );
    let path = data.join(Path::new("api/openapi_3.1_golden.yaml"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!(
            "SKIPPED it_has_all_that_prometheus_describes: no {}",
            path.display()
        );
        return;
    };
    let theirs: Value = wire::yaml(&text).unwrap();
    let ours = document(Version::V31);
    let missing: Vec<_> = operations(&theirs)
        .difference(&operations(&ours))
        .cloned()
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for name in theirs["components"]["schemas"].as_object().unwrap().keys() {
        let (theirs, ours) = (
            &theirs["components"]["schemas"][name],
            &ours["components"]["schemas"][name],
        );
        for part in ["properties", "required"] {
            let names = |v: &Value| -> BTreeSet<String> {
                match &v[part] {
                    Value::Object(map) => map.keys().cloned().collect(),
                    Value::Array(list) => list
                        .iter()
                        .map(|v| v.as_str().unwrap().to_owned())
                        .collect(),
                    _ => BTreeSet::new(),
                }
            };
            assert_eq!(names(ours), names(theirs), "{name}: {part}");
        }
    }
    for operation in operations(&theirs) {
        let (method, path) = operation.split_once(' ').unwrap();
        let (theirs, ours) = (&theirs["paths"][path][method], &ours["paths"][path][method]);
        assert_eq!(ours["operationId"], theirs["operationId"], "{operation}");
        assert_eq!(ours["tags"], theirs["tags"], "{operation}");
        let params = |v: &Value| -> BTreeSet<String> {
            let list = v["parameters"].as_array().into_iter().flatten();
            list.map(|p| format!("{} {} {}", p["in"], p["name"], p["required"]))
                .collect()
        };
        assert_eq!(params(ours), params(theirs), "{operation}");
    }
}
