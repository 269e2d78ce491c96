//! The description of our own calls (OpenAPI 3.1), made of the table that requests are found in, so that it cannot name a path
//! that is none, nor leave one out.

mod shape;
pub(crate) mod shapes;

use serde_json::{Map, Value, json};

pub(crate) use shape::Shape;

use crate::route::own::{OwnRoute, ROUTES, segments};
use crate::route::{BodyRule, Call};

/// What is told of a call, beside its method and path.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) summary: &'static str,
    pub(crate) query: &'static [Parameter],
    pub(crate) body: Option<Shape>,
    pub(crate) answer: Answer,
}

/// A parameter of the query; none is required.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    name: &'static str,
    shape: Shape,
    about: &'static str,
}

pub(crate) const fn query(name: &'static str, shape: Shape, about: &'static str) -> Parameter {
    Parameter { name, shape, about }
}

/// What a call that is done answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// 200 with JSON.
    Json(Shape),
    /// 200 with this media type.
    Text(&'static str),
    /// 204.
    Empty,
}

/// The document.
pub(crate) fn document(version: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut schemas = Map::new();
    Shape::Named(&shapes::ERROR).names(&mut schemas);
    for route in ROUTES {
        let about = &route.about;
        about.body.iter().for_each(|shape| shape.names(&mut schemas));
        if let Answer::Json(shape) = &about.answer {
            shape.names(&mut schemas);
        }
        let path = route.path.replace("...}", "}");
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Unicity",
            "version": version,
            "summary": "What the provisioning service and the hub offer beyond the APIs that they are compatible with.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "sas": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "A SAS token of a shared access policy, `SharedAccessSignature sr=...&sig=...&se=...&skn=...`; \
                        `unicity sas --connection-string CS` prints one.",
                },
            },
        },
    })
}

fn operation(route: &OwnRoute) -> Value {
    let about = &route.about;
    let needs = Call::Own((route.call)("x".into())).needs();
    let rights: Vec<&str> = needs.rights.iter().map(|right| right.as_str()).collect();
    let mut parameters: Vec<Value> = segments(route.path)
        .filter_map(|segment| segment.strip_prefix('{'))
        .map(|name| {
            let name = name.trim_end_matches('}').trim_end_matches("...");
            json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
        })
        .collect();
    parameters.extend(about.query.iter().map(|parameter| {
        let mut shown = json!({"name": parameter.name, "in": "query", "schema": parameter.shape.schema()});
        if !parameter.about.is_empty() {
            shown["description"] = json!(parameter.about);
        }
        shown
    }));
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": about.summary,
        "parameters": parameters,
        "responses": responses(&about.answer),
        // A key of a policy that has all of these rights.
        "security": [{"sas": []}],
        "x-unicity-rights": rights,
    });
    if let Some(body) = &about.body {
        debug_assert_eq!(needs.body, BodyRule::Read, "{}", route.path);
        operation["requestBody"] = json!({"content": {"application/json": {"schema": body.schema()}}});
    }
    operation
}

fn responses(answer: &Answer) -> Value {
    let refused = json!({
        "description": "It was not done.",
        "content": {"application/json": {"schema": Shape::Named(&shapes::ERROR).schema()}},
    });
    match answer {
        Answer::Json(shape) => json!({
            "200": {"description": "Done.", "content": {"application/json": {"schema": shape.schema()}}},
            "default": refused,
        }),
        Answer::Text(media) => json!({
            "200": {"description": "Done.", "content": {*media: {}}},
            "default": refused,
        }),
        Answer::Empty => json!({"204": {"description": "Done."}, "default": refused}),
    }
}

/// `get-certificates-name`: from method and path, so that it is one of a kind and stays.
fn operation_id(route: &OwnRoute) -> String {
    let path: Vec<&str> =
        segments(route.path).skip(1).map(|part| part.trim_matches(['{', '}']).trim_end_matches("...")).collect();
    format!("{}-{}", route.method.to_ascii_lowercase(), path.join("-").replace('.', "-"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_route_is_in_the_document_with_an_id_of_its_own() {
        let document = document("0.0.0");
        let mut ids = HashSet::new();
        for route in ROUTES {
            let operation = &document["paths"][route.path.replace("...}", "}")][route.method.to_ascii_lowercase()];
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{}", route.path);
        }
        assert_eq!(ids.len(), ROUTES.len());
    }

    #[test]
    fn each_reference_has_a_schema() {
        let document = document("0.0.0");
        let text = document.to_string();
        for (place, _) in text.match_indices("#/components/schemas/") {
            let name = text[place..].split('"').next().unwrap().rsplit('/').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
        assert!(document["components"]["schemas"]["Standing"]["properties"]["evidence"].is_object());
    }
}
