//! `unicity why`: the evidence behind a refusal, by the tracking id that the client was given.

use clap::Args;
use serde_json::Value;

use super::{Global, output};
use crate::client::{Audience, Client};
use crate::error::{Context as _, Outcome};

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The tracking id; without it, the newest refusals are listed.
    #[arg(value_name = "TRACKING_ID")]
    tracking_id: Option<String>,
}

pub(crate) async fn run(global: &Global, args: &WhyArgs) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    match &args.tracking_id {
        Some(text) => {
            let id: unicity_identity::TrackingId = text.parse().context("the tracking id")?;
            let found = client.get(&format!("/unicity/refusals/{id}?api-version=2021-10-01")).await?;
            if global.json { output::json(&found) } else { output::record(&found) }
        }
        None => {
            let page = client.get("/unicity/refusals?api-version=2021-10-01&limit=50").await?;
            let items = page.get("items").unwrap_or(&page);
            for item in items.as_array().into_iter().flatten() {
                if global.json { output::json(item)? } else { show(item)? }
            }
            Ok(())
        }
    }
}

fn show(item: &Value) -> Outcome {
    let cell = |name: &str| output::cell(item, name);
    output::line(&format!(
        "{} {} {} {} {}\n  {}\n  remedy: {}",
        cell("timestampUtc"),
        cell("trackingId"),
        cell("peer"),
        cell("subject"),
        cell("errorCode"),
        cell("cause"),
        cell("remedy")
    ))
}
