//! `/api/v1/openapi.yaml`: the API described for programs (OpenAPI 3.1 or 3.2).
//!
//! Paths, parameters, names of operations and of schemas are those of Prometheus' own description, so that
//! clients made from either fit both; what we serve beside it is added. [`paths`] is the table of endpoints,
//! [`schemas`] that of what they answer.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Map, Value, json};

use super::Api;
use crate::params::Params;

mod paths;
mod schemas;

use paths::{ENDPOINTS, Endpoint, Gives, Method, TAGS};
use schemas::{SCHEMAS, schema};

/// Which OpenAPI is spoken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V31,
    V32,
}

pub(super) async fn document(State(api): State<Api>, params: Params) -> Response {
    let version = match params.get("openapi_version") {
        "3.2" | "3.2.0" => Version::V32,
        _ => Version::V31,
    };
    // Below where browsers see us, on whatever host that is.
    let server = format!("{}/api/v1", api.external_path);
    let text = describe(version, &server, &api.build.version);
    let headers = [
        (CONTENT_TYPE, "application/yaml; charset=utf-8"),
        (CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    ];
    (headers, text).into_response()
}

/// The document, as YAML.
fn describe(version: Version, server: &str, program: &str) -> String {
    let tags = TAGS.iter().map(|(name, summary, about)| {
        let mut tag = json!({"name": name, "description": about});
        if version == Version::V32 {
            tag["summary"] = (*summary).into();
        }
        tag
    });
    let document = json!({
        "openapi": match version {
            Version::V31 => "3.1.0",
            Version::V32 => "3.2.0",
        },
        "info": {
            "title": "Prometheus API",
            "description": "Prometheus' HTTP API, as Epimetheus serves it.",
            "version": program,
        },
        "servers": [{"url": server}],
        "tags": tags.collect::<Vec<_>>(),
        "paths": paths_of(version),
        "components": {"schemas": components()},
    });
    // A tree of texts and numbers can be written.
    serde_saphyr::to_string(&document).unwrap_or_else(|e| format!("# {e}\n"))
}

fn paths_of(version: Version) -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for endpoint in ENDPOINTS {
        // Only OpenAPI 3.2 has words for a stream of events.
        if matches!(endpoint.gives, Gives::Events(_)) && version == Version::V31 {
            continue;
        }
        let item = paths.entry(endpoint.path).or_default();
        for method in endpoint.methods {
            item.insert(method.name().to_owned(), operation(endpoint, *method));
        }
    }
    json!(paths)
}

fn operation(endpoint: &Endpoint, method: Method) -> Value {
    let mut operation = json!({
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "operationId": endpoint.id(method),
        "responses": {
            endpoint.gives.status(): endpoint.gives.response(endpoint.schemas),
            "default": {
                "description": "It failed.",
                "content": {"application/json": {"schema": reference("Error")}},
            },
        },
    });
    let as_form = method == Method::Post && endpoint.is_form();
    if as_form {
        operation["requestBody"] = json!({
            "required": true,
            "content": {"application/x-www-form-urlencoded": {
                "schema": reference(&format!("{}PostInputBody", endpoint.schemas)),
            }},
        });
        return operation;
    }
    let parameters: Vec<Value> = endpoint.params().map(|p| p.describe()).collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

/// Every schema: those of the table, and of what each endpoint takes and gives.
fn components() -> Map<String, Value> {
    let mut all = Map::new();
    for (name, text) in SCHEMAS {
        all.insert((*name).to_owned(), schema(text));
    }
    for endpoint in ENDPOINTS {
        if let Gives::Data(data) = endpoint.gives {
            let mut body =
                schema("{status: 'success'|'error', warnings?: [string], infos?: [string]}");
            if !data.is_empty() {
                body["properties"]["data"] = schema(data);
                body["required"] = json!(["status", "data"]);
            }
            all.insert(format!("{}OutputBody", endpoint.schemas), body);
        }
        if endpoint.is_form() {
            let params = endpoint.params();
            let fields: Map<String, Value> =
                params.map(|p| (p.name.to_owned(), p.field())).collect();
            let needed = endpoint.params().filter(|p| p.required).map(|p| p.name);
            let mut form = json!({"type": "object", "properties": fields});
            let needed: Vec<&str> = needed.collect();
            if !needed.is_empty() {
                form["required"] = json!(needed);
            }
            all.insert(format!("{}PostInputBody", endpoint.schemas), form);
        }
    }
    all
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

impl Gives {
    fn status(self) -> &'static str {
        match self {
            Self::Nothing => "204",
            Self::Data(_) | Self::Lines | Self::Events(_) | Self::Raw(_) => "200",
        }
    }

    fn response(self, schemas: &str) -> Value {
        match self {
            Self::Nothing => json!({"description": "It is done."}),
            Self::Data(_) => json!({
                "description": "It is answered.",
                "content": {"application/json": {"schema": reference(&format!("{schemas}OutputBody"))}},
            }),
            Self::Lines => json!({
                "description": "What was found, batch by batch: a JSON object a line.",
                "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
            }),
            Self::Events(item) => json!({
                "description": "Events, as they come.",
                "content": {"text/event-stream": {"itemSchema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": reference(item),
                    }},
                }}},
            }),
            Self::Raw(kind) => json!({
                "description": "It is answered.",
                "content": {kind: {"schema": {"type": "string"}}},
            }),
        }
    }
}

#[cfg(test)]
mod tests;
