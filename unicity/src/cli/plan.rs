//! `unicity plan FILE.toml`: what a change would move, before it is made. `config/plan-fourth-hub.toml` shows the file.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Global, files, output};
use crate::client::{Audience, Client, read_answer};
use crate::error::{CommandError, Context as _, Outcome};

const PATH: &str = "/unicity/plan";

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// What is to be assumed: hubs with other terms, new ones, ones to be removed, another policy (TOML). Without one:
    /// what a rebalance would move now.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write each move to this file, a JSON object a line.
    #[arg(long, value_name = "OUT")]
    moves: Option<PathBuf>,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    policy: Option<String>,
    sticky_by: Option<String>,
    from: Option<String>,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    hub: Vec<HubChange>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HubChange {
    name: String,
    host: Option<String>,
    weight: Option<u32>,
    apply_allocation: Option<bool>,
    draining: Option<bool>,
    labels: Option<Vec<String>>,
    region: Option<String>,
    /// Latitude and longitude.
    coordinates: Option<[f64; 2]>,
    capacity: Option<u64>,
}

/// An object of those members that are there.
fn object(members: Vec<(&str, Option<Value>)>) -> Value {
    members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

impl PlanFile {
    fn parse(text: &str, path: &Path) -> Outcome<Self> {
        toml::from_str(text).context(format!("{}", path.display()))
    }

    fn body(self) -> Value {
        let hubs = self.hub.into_iter().map(|hub| {
            object(vec![
                ("name", Some(json!(hub.name))),
                ("hostName", hub.host.map(Value::from)),
                ("weight", hub.weight.map(Value::from)),
                ("applyAllocation", hub.apply_allocation.map(Value::from)),
                ("draining", hub.draining.map(Value::from)),
                ("labels", hub.labels.map(Value::from)),
                ("region", hub.region.map(Value::from)),
                ("coordinates", hub.coordinates.map(|[lat, lon]| json!({"latitude": lat, "longitude": lon}))),
                ("capacity", hub.capacity.map(Value::from)),
            ])
        });
        object(vec![
            ("hubs", Some(hubs.collect())),
            ("remove", Some(json!(self.remove))),
            ("allocationPolicy", self.policy.map(Value::from)),
            ("stickyBy", self.sticky_by.map(Value::from)),
            ("from", self.from.map(Value::from)),
        ])
    }
}

pub(crate) async fn run(global: &Global, args: &PlanArgs) -> Outcome {
    let plan = args.file.as_ref().map(|file| PlanFile::parse(&files::text(file)?, file)).transpose()?;
    let body = plan.unwrap_or_default().body();
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let forecast = match &args.moves {
        Some(out) => write_moves(&client, &body, out).await?,
        None => client.call(Method::POST, PATH, &[], Some(&body)).await?.body,
    };
    if global.json { output::json(&forecast) } else { show(&forecast) }
}

/// Writes the moves as they come, and gives the forecast that ends them.
async fn write_moves(client: &Client, body: &Value, out: &Path) -> Outcome<Value> {
    let response = client.send(Method::POST, &format!("{PATH}?moves=true"), &[], Some(body)).await?;
    if !response.status().is_success() {
        read_answer(response).await?;
        return Err(CommandError::new("the server answered something else"));
    }
    let file = std::fs::File::create(out).context(format!("cannot write {}", out.display()))?;
    let mut file = std::io::BufWriter::new(file);
    let (mut answer, mut pending) = (response.into_body(), Vec::new());
    let mut last = None;
    while let Some(frame) = answer.frame().await {
        let frame = frame.context("the server's stream broke off")?;
        let Some(data) = frame.data_ref() else { continue };
        pending.extend_from_slice(data);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if line.starts_with(b"{\"registrationId\"") || line.starts_with(b"{\"from\"") {
                file.write_all(&line).context(format!("cannot write {}", out.display()))?;
            } else {
                last = serde_json::from_slice::<Value>(&line).ok();
            }
        }
    }
    file.flush().context(format!("cannot write {}", out.display()))?;
    let last = last.ok_or_else(|| CommandError::new("the server's stream broke off"))?;
    match last.get("forecast") {
        Some(forecast) => Ok(forecast.clone()),
        None => Err(CommandError::new(output::cell(&last, "message"))),
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Loads by hub, and who goes where.
fn tables(forecast: &Value) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
    let loads = items(forecast, "hubs").iter().map(|hub| {
        let (before, after) = (number(hub, "before"), number(hub, "after"));
        let change = if after >= before { format!("+{}", after - before) } else { format!("-{}", before - after) };
        vec![output::cell(hub, "hub"), before.to_string(), after.to_string(), change]
    });
    let moves = items(forecast, "matrix").iter();
    let moves = moves.map(|it| ["from", "to", "moves"].iter().map(|name| output::cell(it, name)).collect());
    (loads.collect(), moves.collect())
}

fn show(forecast: &Value) -> Outcome {
    let cell = |name: &str| output::cell(forecast, name);
    let about = if forecast["isEstimate"] == json!(true) { "about " } else { "" };
    output::line(&format!(
        "{about}{} of {} registrations would move; {} are where they belong",
        cell("moves"),
        cell("registrations"),
        cell("stay")
    ))?;
    let (loads, moves) = tables(forecast);
    output::line("")?;
    output::table(&["hub", "before", "after", "change"], &loads)?;
    if !moves.is_empty() {
        output::line("")?;
        output::table(&["from", "to", "moves"], &moves)?;
    }
    for it in items(forecast, "cannot") {
        output::line(&format!("{} stay: {}", output::cell(it, "registrations"), output::cell(it, "why")))?;
    }
    for it in items(forecast, "estimated") {
        output::line(&format!(
            "an estimate for {}: {} goes by what is so at the moment of the move",
            output::cell(it, "registrations"),
            output::cell(it, "policy")
        ))?;
    }
    output::line("")?;
    output::line(&format!("digest  {}", cell("digest")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotated_example_is_a_plan() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/plan-fourth-hub.toml"));
        let body = PlanFile::parse(&std::fs::read_to_string(path).unwrap(), path).unwrap().body();
        assert_eq!((&body["hubs"][0]["name"], &body["hubs"][0]["weight"]), (&json!("hub-4"), &json!(1)));
        assert_eq!(body["allocationPolicy"], "hashed");
    }

    #[test]
    fn a_file_says_what_it_means_or_is_refused() {
        let body = |text: &str| PlanFile::parse(text, Path::new("p.toml")).map(PlanFile::body);
        assert_eq!(body("").unwrap(), json!({"hubs": [], "remove": []}));
        let text = "policy = \"sticky\"\nsticky_by = \"tag:site\"\nremove = [\"b\"]\nfrom = \"b\"\n[[hub]]\nname = \"a\"\n\
            draining = true\ncoordinates = [52.4, 4.9]\ncapacity = 7\n";
        let wanted = json!({"allocationPolicy": "sticky", "stickyBy": "tag:site", "remove": ["b"], "from": "b",
            "hubs": [{"name": "a", "draining": true, "coordinates": {"latitude": 52.4, "longitude": 4.9}, "capacity": 7}]});
        assert_eq!(body(text).unwrap(), wanted);
        for wrong in ["[[hub]]\nweight = 1\n", "[[hub]]\nname = \"a\"\nwieght = 1\n", "polices = \"hashed\"\n"] {
            assert!(body(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn loads_and_moves_are_told_by_hub() {
        let forecast = json!({"hubs": [{"hub": "a", "before": 9, "after": 4}, {"hub": "b", "before": 0, "after": 5}],
            "matrix": [{"from": "a", "to": "b", "moves": 5}]});
        let (loads, moves) = tables(&forecast);
        assert_eq!(loads, [["a", "9", "4", "-5"], ["b", "0", "5", "+5"]]);
        assert_eq!(moves, [["a", "b", "5"]]);
    }
}
