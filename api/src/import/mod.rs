//! Factory import and export: a file of a million rows into the registry in one step, and out again.
//!
//! A file is CSV with a header (`columns`), or NDJSON, where a line is the body of a single enrollment; UTF-8, plain or gzip. It is
//! read as it comes (`guard`), its rows are parsed and checked on all cores (`rows`), and the store takes them in their order.
//! Memory holds a few blocks of rows here, and the store's digest of each.

mod columns;
mod export;
mod guard;
mod rows;

use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::bufread::MultiGzDecoder;
use unicity_identity::BatchLabel;
use unicity_provisioning::Actor;
use unicity_provisioning::factory::VerifiedManifest;
use unicity_provisioning::import::{ImportDraft, ImportError, ImportPhase, ImportProgress, ImportRecord, ImportReport};

use crate::api::{Api, Shared};
use crate::failure::Failure;

pub use export::exported;
pub(crate) use export::{head as export_head, part as export_part};
pub(crate) use guard::FileFault;

use guard::Guard;
use rows::Source;

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// With a header.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

impl FileFormat {
    /// From its word.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        crate::dps::word("format", text, &[("csv", Self::Csv), ("ndjson", Self::Ndjson)])
    }
}

/// What is imported, and how.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// `None`: NDJSON if the first character is a brace, else CSV.
    pub format: Option<FileFormat>,
    /// The label of rows that name none.
    pub batch: Option<BatchLabel>,
    /// Rows in order come in although others are refused.
    pub partial: bool,
    /// Nothing is kept.
    pub dry_run: bool,
    /// The idempotency key.
    pub key: String,
    /// What each line of the file is held against; its signature was checked.
    pub manifest: Option<VerifiedManifest>,
}

/// What is told while an import runs.
#[derive(Debug, Clone)]
pub enum ImportEvent {
    /// It has begun, or goes on.
    Begun(Box<ImportRecord>),
    /// How far it is.
    Progress(ImportProgress),
}

/// Why an import did not come to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The file; nothing came in.
    File(FileFault, Option<Box<ImportReport>>),
    /// The registry; what is in stays pending.
    Registry(ImportError),
    /// The server is stopping, or the client went.
    Stopped,
}

/// A line above this is refused: as long as the body of a single enrollment may be.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Refused rows after which the rest of a file is not looked at.
pub(crate) const REFUSED_MAX: u64 = 100_000;

impl Api {
    /// Imports a file, and blocks meanwhile; for measurements.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn import_file(
        &self,
        source: impl Read + Send,
        options: &ImportOptions,
        event: &mut (dyn FnMut(ImportEvent) + Send),
    ) -> Result<ImportReport, String> {
        run(&self.0, source, options, Actor::Server, event, &AtomicBool::new(false)).map_err(|broken| match broken {
            Broken::File(fault, _) => fault.to_string(),
            Broken::Registry(error) => error.to_string(),
            Broken::Stopped => "stopped".into(),
        })
    }
}

/// Imports what `source` gives.
pub(crate) fn run(
    shared: &Shared,
    source: impl Read + Send,
    options: &ImportOptions,
    actor: Actor,
    event: &mut (dyn FnMut(ImportEvent) + Send),
    stop: &AtomicBool,
) -> Result<ImportReport, Broken> {
    let unreadable = |error: &std::io::Error| Broken::File(FileFault::of(error, 1), None);
    let imports = shared.imports.as_ref().ok_or(Broken::Stopped)?;
    imports.yield_to_devices();
    let draft = ImportDraft {
        key: options.key.clone(),
        batch: options.batch.clone(),
        partial: options.partial,
        manifest: options.manifest.as_ref().map(Into::into),
    };
    let begun = imports.begin(draft, options.dry_run, actor, shared.environment.clone());
    let mut import = begun.map_err(Broken::Registry)?;
    event(ImportEvent::Begun(Box::new(import.record().clone())));
    let mut source = BufReader::with_capacity(1 << 18, source);
    let head = source.fill_buf().map_err(|error| unreadable(&error))?;
    let gzip = head.starts_with(&[0x1f, 0x8b]);
    let plain: Box<dyn Read + Send> = if gzip { Box::new(MultiGzDecoder::new(source)) } else { Box::new(source) };
    let mut guarded = BufReader::with_capacity(1 << 18, Guard::new(plain, LINE_BYTES_MAX));
    if !import.wants_rows() {
        // Only to see that it is the same file.
        let read = std::io::copy(&mut guarded, &mut std::io::sink());
        let content = guarded.get_ref().hash();
        let finished = import.finish(content, read.is_err(), &mut |progress| event(ImportEvent::Progress(progress)));
        return finished.map_err(Broken::Registry);
    }
    let format = match options.format {
        Some(format) => Ok(format),
        None => guarded.fill_buf().map(|head| match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => FileFormat::Ndjson,
            _ => FileFormat::Csv,
        }),
    };
    let read = match format {
        Ok(format) => {
            let label = import.record().batch.clone();
            let source = Source { format, label, manifest: options.manifest.as_ref() };
            rows::read_all(shared, &mut guarded, &source, &mut *import, event, stop)
        }
        Err(error) => Err(Broken::File(FileFault::of(&error, 1), None)),
    };
    let fault = match read {
        Ok(()) => None,
        Err(Broken::File(fault, _)) => Some(fault),
        Err(other) => return Err(other),
    };
    if stop.load(Ordering::Relaxed) {
        return Err(Broken::Stopped);
    }
    let content = guarded.get_ref().hash();
    let report = import
        .finish(content, fault.is_some(), &mut |progress| event(ImportEvent::Progress(progress)))
        .map_err(Broken::Registry)?;
    match fault {
        Some(fault) => Err(Broken::File(fault, Some(Box::new(report)))),
        None => Ok(report),
    }
}

/// The word for a phase in answers.
pub(crate) fn phase(phase: ImportPhase) -> &'static str {
    match phase {
        ImportPhase::Reading => "reading",
        ImportPhase::Comparing => "comparing",
        ImportPhase::LoadingIds => "loadingIds",
        ImportPhase::LoadingKeys => "loadingKeys",
        ImportPhase::Releasing => "releasing",
    }
}
