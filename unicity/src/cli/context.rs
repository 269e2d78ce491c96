//! `unicity ctx ...`: servers by name. Kept in `$XDG_CONFIG_HOME/unicity/contexts.toml` (else `~/.config/...`), for the owner alone,
//! since connection strings are keys.
//!
//! A command's server is, first found first: `--ctx`, `--data` or `--connection-string`; UNICITY_DATA or
//! UNICITY_CONNECTION_STRING; the context in use; `./unicity-data`. What makes or runs a data directory (`init`, `serve`, `demo`,
//! `restore`) does not look at contexts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::confirm::Yes;
use super::{Global, output};
use crate::client::ConnectionString;
use crate::datadir::write_private;
use crate::error::{CommandError, Context as _, Outcome};

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Keep a server under a name: --data DIR, or --connection-string CS with --ca FILE. The first one is used from then on.
    Add(AddArgs),
    /// List the servers.
    List,
    /// Use one from now on, where no other is named.
    Use(NameArgs),
    /// Show one; the one in use if none is named. Keys are not shown.
    Show(ShowArgs),
    /// Forget one. Nothing happens to the server.
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Its name: letters, digits and - . _
    name: String,
    /// The root certificate that the server's leads to (with --connection-string).
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Replace the one of this name.
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name.
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Its name.
    name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Its name.
    name: String,
    #[command(flatten)]
    yes: Yes,
}

/// A server: a data directory, or a connection string with the root to trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connection_string: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, StoredContext>,
}

fn place() -> Outcome<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    let config = config.ok_or_else(|| {
        CommandError::new("there is no place for contexts").hint("set HOME or XDG_CONFIG_HOME to an absolute path")
    })?;
    Ok(config.join("unicity").join("contexts.toml"))
}

impl Contexts {
    fn load(path: &Path) -> Outcome<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).context(format!("{} is damaged", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).context(format!("cannot read {}", path.display())),
        }
    }

    fn store(&self, path: &Path) -> Outcome {
        use std::os::unix::fs::DirBuilderExt as _;
        if let Some(folder) = path.parent() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.context(format!("cannot make the folder {}", folder.display()))?;
        }
        let text = toml::to_string(self).context("the contexts")?;
        write_private(path, text.as_bytes())
    }

    fn get(&self, name: &str) -> Outcome<&StoredContext> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let hint = match known.as_slice() {
                [] => "add one: unicity ctx add NAME --data DIR".to_owned(),
                known => format!("there are {}", known.join(", ")),
            };
            CommandError::new(format!("there is no context {name:?}")).hint(hint)
        })
    }
}

/// The context of a name, or the one in use, with its name.
pub(crate) fn find(name: Option<&str>) -> Outcome<Option<(String, StoredContext)>> {
    let contexts = match (place(), name) {
        (Ok(path), _) => Contexts::load(&path)?,
        (Err(error), Some(_)) => return Err(error),
        (Err(_), None) => return Ok(None),
    };
    let Some(name) = name.or(contexts.current.as_deref()) else { return Ok(None) };
    Ok(Some((name.to_owned(), contexts.get(name)?.clone())))
}

pub(crate) fn run(global: &Global, command: &ContextCommand) -> Outcome {
    let path = place()?;
    let mut contexts = Contexts::load(&path)?;
    match command {
        ContextCommand::Add(args) => {
            add(global, args, &mut contexts)?;
            contexts.store(&path)?;
            tell(global, &contexts, &args.name)
        }
        ContextCommand::List => list(global, &contexts),
        ContextCommand::Use(args) => {
            contexts.get(&args.name)?;
            contexts.current = Some(args.name.clone());
            contexts.store(&path)?;
            tell(global, &contexts, &args.name)
        }
        ContextCommand::Show(args) => {
            let name = args.name.clone().or_else(|| contexts.current.clone());
            let name = name.ok_or_else(|| {
                CommandError::new("no context is in use")
                    .hint("`unicity ctx list` shows them, `unicity ctx use NAME` takes one")
            })?;
            tell(global, &contexts, &name)
        }
        ContextCommand::Remove(args) => {
            let server = server(contexts.get(&args.name)?);
            args.yes.ask(&format!("this forgets {}: {server}; nothing happens to the server", args.name))?;
            contexts.contexts.remove(&args.name);
            contexts.current = contexts.current.filter(|current| *current != args.name);
            contexts.store(&path)?;
            if global.json { output::json(&json!({"removed": args.name})) } else { Ok(()) }
        }
    }
}

fn add(global: &Global, args: &AddArgs, contexts: &mut Contexts) -> Outcome {
    let good = |char: char| char.is_ascii_alphanumeric() || "-._".contains(char);
    if args.name.is_empty() || args.name.len() > 64 || !args.name.chars().all(good) {
        return Err(CommandError::usage(format!("{:?} is no name: up to 64 letters, digits and - . _", args.name)));
    }
    if contexts.contexts.contains_key(&args.name) && !args.replace {
        return Err(
            CommandError::new(format!("there is a context {} already", args.name)).hint("replace it with --replace")
        );
    }
    let absolute = |path: &Path| std::path::absolute(path).context(path.display());
    let stored = match &global.connection_string {
        Some(text) => {
            ConnectionString::parse(text)?;
            let ca = args.ca.as_ref().or(global.server_ca.as_ref());
            let ca = ca.ok_or_else(|| {
                CommandError::usage("which root does the server's certificate lead to?")
                    .hint("give --ca FILE, pki/ca.pem of the server's data directory")
            })?;
            StoredContext { data: None, connection_string: Some(text.clone()), ca: Some(absolute(ca)?) }
        }
        None => {
            let ca = args.ca.as_deref().map(absolute).transpose()?;
            StoredContext { data: Some(absolute(&global.data)?), connection_string: None, ca }
        }
    };
    contexts.contexts.insert(args.name.clone(), stored);
    contexts.current.get_or_insert_with(|| args.name.clone());
    Ok(())
}

/// A server in words, without its key.
fn server(context: &StoredContext) -> String {
    match (&context.data, &context.connection_string) {
        (Some(data), _) => data.display().to_string(),
        (None, Some(text)) => match ConnectionString::parse(text) {
            Ok(parsed) => match &parsed.policy {
                Some(policy) => format!("{} as {policy}", parsed.host),
                None => parsed.host,
            },
            Err(_) => "a damaged connection string".to_owned(),
        },
        (None, None) => "nothing".to_owned(),
    }
}

fn describe(contexts: &Contexts, name: &str) -> Outcome<Value> {
    let context = contexts.get(name)?;
    let mut shown = json!({
        "name": name, "current": contexts.current.as_deref() == Some(name),
        "kind": if context.data.is_some() { "data" } else { "connectionString" }, "server": server(context),
    });
    if let Some(ca) = &context.ca {
        shown["ca"] = json!(ca);
    }
    Ok(shown)
}

fn tell(global: &Global, contexts: &Contexts, name: &str) -> Outcome {
    let shown = describe(contexts, name)?;
    if global.json { output::json(&shown) } else { output::record(&shown) }
}

fn list(global: &Global, contexts: &Contexts) -> Outcome {
    let mut rows = Vec::new();
    for name in contexts.contexts.keys() {
        let shown = describe(contexts, name)?;
        if global.json {
            output::json(&shown)?;
            continue;
        }
        let mark = if shown["current"] == true { "*" } else { "" };
        rows.push(vec![mark.to_owned(), name.clone(), output::cell(&shown, "server"), output::cell(&shown, "ca")]);
    }
    if global.json { Ok(()) } else { output::table(&["", "context", "server", "ca"], &rows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_stored_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unicity/contexts.toml");
        assert_eq!(Contexts::load(&path).unwrap(), Contexts::default());
        let text = "HostName=h;SharedAccessKeyName=owner;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
        let lab = StoredContext { data: Some("/lab".into()), connection_string: None, ca: None };
        let prod = StoredContext { data: None, connection_string: Some(text.into()), ca: Some("/ca.pem".into()) };
        assert_eq!((server(&lab).as_str(), server(&prod).as_str()), ("/lab", "h as owner"));
        let contexts = Contexts {
            current: Some("lab".into()),
            contexts: [("lab".to_owned(), lab), ("prod".to_owned(), prod)].into(),
        };
        contexts.store(&path).unwrap();
        assert_eq!(Contexts::load(&path).unwrap(), contexts);
        assert!(!describe(&contexts, "prod").unwrap().to_string().contains("AAEC"));
        assert!(contexts.get("none").unwrap_err().to_string().contains("lab, prod"));
        std::fs::write(&path, "current = 7").unwrap();
        assert!(Contexts::load(&path).unwrap_err().to_string().contains("damaged"));
    }
}
