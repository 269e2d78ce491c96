//! `unicity audit verify`: a whole log, offline.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use unicity_audit::directory::Directory;
use unicity_audit::{Reader, Source, VerifyError, verify};

use super::{KeyArgs, source};
use crate::cli::{Global, output};
use crate::error::{CommandError, Context as _, Outcome};

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The log's directory; audit/ of the data directory if not given.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArgs,
    /// An older checkpoint that was kept elsewhere: the log has to go on from it. Without one, a log that lost its newest part is
    /// not told from one that never had it.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// Counts the bundles that are read.
struct Counted {
    files: Directory,
    bar: ProgressBar,
    newest: Cell<u64>,
}

impl Source for Counted {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if path.starts_with("tile/entries/") {
            self.newest.set(self.newest.get() + 1);
            self.bar.set_position(self.newest.get());
        }
        self.files.read(path)
    }
}

pub(crate) fn run(global: &Global, args: &VerifyArgs) -> Outcome {
    let directory = args.directory.clone().unwrap_or_else(|| source::default_directory(global));
    if !directory.is_dir() {
        return Err(CommandError::new(format!("{} is no directory", directory.display()))
            .hint("name the audit log's directory: audit/ below the server's data directory, or a copy of it"));
    }
    let key = args.key.load(global)?;
    let from = args.from.as_ref().map(|path| {
        std::fs::read_to_string(path).context(format!("cannot read the older checkpoint {}", path.display()))
    });
    let from = from.transpose()?;
    let files = Directory(directory.clone());
    let size = Reader::at_checkpoint(files.clone()).map_or(0, |(reader, _)| reader.size());
    let counted = Counted { files, bar: bar(size.div_ceil(256), global.json), newest: Cell::new(0) };
    let result = verify(&counted, &key, from.as_deref());
    counted.bar.finish_and_clear();
    let error = match result {
        Ok(report) => {
            let (head, bytes) = (&report.checkpoint, report.entry_bytes);
            if global.json {
                let mut shown = json!({
                    "verified": true, "origin": head.origin, "size": head.size, "root": head.root.to_base64(),
                    "entryBytes": bytes,
                });
                if let Some(old) = report.continues {
                    shown["continues"] = json!(old);
                }
                return output::json(&shown);
            }
            output::line(&format!("verified  {} leaves of {}, {bytes} bytes", head.size, head.origin))?;
            output::line(&format!("root      {}", head.root))?;
            match report.continues {
                Some(old) => output::line(&format!("goes on   from the older checkpoint at {old} leaves"))?,
                None => eprintln!(
                    "without --from OLD_CHECKPOINT a log whose newest part was taken away, with its checkpoint, looks the same"
                ),
            }
            return Ok(());
        }
        Err(error) => error,
    };
    if global.json
        && let VerifyError::Wrong(finding) = &error
    {
        let mut shown = json!({"verified": false, "file": finding.file, "reason": finding.what.to_string()});
        if let Some(entry) = finding.entry {
            shown["entry"] = json!(entry);
        }
        output::json(&shown)?;
    }
    let hint = match &error {
        VerifyError::Wrong(_) => {
            "the log is not what was signed; compare with a copy or a backup before anything is repaired"
        }
        VerifyError::From(_) => {
            "the older checkpoint has to be a signed note of this log, as `unicity audit checkpoint` prints it"
        }
        _ => "nothing was found out about the log",
    };
    let what = format!("{} is not verified", directory.display());
    Err::<(), _>(error).context(what).map_err(|error| error.hint(hint))
}

fn bar(bundles: u64, quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(bundles), target);
    if let Ok(style) = ProgressStyle::with_template("bundles  [{bar:30}] {pos}/{len}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
