//! `unicity enroll export`: all individual enrollments, as `enroll import` reads them.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::Args;
use http_body_util::BodyExt as _;
use hyper::Method;
use unicity_identity::sas::percent_encode;

use super::Global;
use crate::client::{Audience, Client, read_answer};
use crate::error::{Context as _, Outcome};

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The form.
    #[arg(long, value_parser = ["csv", "ndjson"], default_value = "ndjson")]
    format: String,
    /// The file, readable for its owner only; stdout if not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Symmetric keys in the clear. Without them an import makes new ones.
    #[arg(long)]
    with_keys: bool,
    /// Rows of this batch only.
    #[arg(long, value_name = "LABEL")]
    batch: Option<String>,
}

pub(crate) async fn run(global: &Global, args: &ExportArgs) -> Outcome {
    let client = Client::open(&global.target(), &Audience::Dps)?;
    let mut path = format!("/unicity/enrollments?format={}&keys={}", args.format, args.with_keys);
    if let Some(batch) = &args.batch {
        path.push_str(&format!("&batch={}", percent_encode(batch)));
    }
    let response = client.send(Method::GET, &path, &[], None).await?;
    if !response.status().is_success() {
        read_answer(response).await?;
        return Ok(());
    }
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
            Box::new(file.context(format!("cannot write {}", path.display()))?)
        }
        None => Box::new(std::io::stdout()),
    };
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.context("the server's answer broke off; the export is not whole")?.into_data() {
            out.write_all(&data).context("cannot write the export")?;
        }
    }
    out.flush().context("cannot write the export")
}
