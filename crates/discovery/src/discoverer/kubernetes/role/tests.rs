//! Objects of which something is missing, or null, or of another type.

use std::sync::Arc;

use serde_json::Value;

use super::super::around::{Around, Lookup};
use super::super::object::{
    EndpointSlice, Endpoints, Ingress, Node, Object, Pod, ReplicaSet, Service, Stored,
};
use super::*;

#[path = "../../../../tests/it/kubernetes/objects.rs"]
mod objects;

/// The object without the value at each of its places, and with null there.
fn damaged(whole: &Value) -> Vec<Value> {
    fn places(value: &Value, at: &mut Vec<String>, out: &mut Vec<String>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v)).collect(),
            Value::Array(list) => list
                .iter()
                .enumerate()
                .map(|(i, v)| (i.to_string(), v))
                .collect(),
            _ => return,
        };
        for (key, child) in children {
            at.push(key.replace('~', "~0").replace('/', "~1"));
            out.push(format!("/{}", at.join("/")));
            places(child, at, out);
            at.pop();
        }
    }
    let mut pointers = Vec::new();
    places(whole, &mut Vec::new(), &mut pointers);
    let mut all = vec![whole.clone()];
    for pointer in pointers {
        let mut nulled = whole.clone();
        *nulled.pointer_mut(&pointer).unwrap() = Value::Null;
        all.push(nulled);
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let mut removed = whole.clone();
        let parent = if parent.is_empty() {
            Some(&mut removed)
        } else {
            removed.pointer_mut(parent)
        };
        if let Some(Value::Object(map)) = parent {
            map.remove(&key.replace("~1", "/").replace("~0", "~"));
            all.push(removed);
        }
    }
    all
}

fn survives<K: Primary>(whole: Value) {
    let around = Around::default();
    let (mut targets, mut refused) = (0, Vec::new());
    for damaged in damaged(&whole) {
        match serde_json::from_value::<K>(damaged.clone()) {
            Ok(object) => {
                let (_, stored) = Stored::new(object);
                let made = K::targets(&stored, &mut Lookup::new(&around));
                targets += made.map_or(0, |(_, targets)| targets.len());
            }
            // Only a null within a list or a map of texts is no object of the API.
            Err(error) => refused.push(format!("{error}: {damaged}")),
        }
    }
    assert!(targets >= 10, "{targets} targets");
    assert!(refused.iter().all(|r| r.contains("null")), "{refused:#?}");
}

#[test]
fn damaged_objects_are_read_as_far_as_they_go() {
    survives::<Node>(objects::node());
    survives::<Pod>(objects::pod());
    survives::<Pod>(objects::small_pod("a", "1.2.3.4"));
    survives::<Service>(objects::service());
    let to_pod = serde_json::json!({"kind": "Pod", "namespace": "shop", "name": "a"});
    survives::<Endpoints>(serde_json::json!({
        "metadata": {"name": "a", "namespace": "b"},
        "subsets": [{"addresses": [{"ip": "1.1.1.1", "nodeName": "n", "targetRef": to_pod}],
            "notReadyAddresses": [{"ip": "1.1.1.2", "hostname": "h"}],
            "ports": [{"name": "p", "port": 1, "protocol": "TCP"}]}],
    }));
    survives::<EndpointSlice>(serde_json::json!({
        "metadata": {"name": "a", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["1.1.1.1"], "targetRef": to_pod,
            "conditions": {"ready": true}, "deprecatedTopology": {"a": "b"}, "zone": "z"}],
        "ports": [{"name": "p", "port": 1, "protocol": "TCP", "appProtocol": "x"}],
    }));
    survives::<Ingress>(serde_json::json!({
        "metadata": {"name": "a"},
        "spec": {"ingressClassName": "c", "tls": [{"hosts": ["*.a"]}],
            "rules": [{"host": "b.a", "http": {"paths": [{"path": "/"}]}}]},
    }));
}

#[test]
fn only_what_is_needed_is_kept() {
    let set: ReplicaSet = serde_json::from_value(objects::owned("a", "Deployment", "d")).unwrap();
    let (key, stored) = Stored::new(set);
    assert_eq!(&*key, "shop/a");
    assert_eq!(stored.meta.controlled_by("Deployment"), Some("d"));
    assert_eq!(stored.meta.controlled_by("Other"), None);
    assert!(stored.meta.labels.is_empty() && !ReplicaSet::LABELLED);
    let namespace = serde_json::from_value::<super::super::object::Namespace>(objects::namespace());
    let (key, stored) = Stored::new(namespace.unwrap());
    assert_eq!((&*key, stored.meta.label("env")), ("shop", Some("prod")));
    assert_eq!(Arc::new(stored).meta.label("none"), None);
}
