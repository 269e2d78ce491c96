//! Rules of the house that no other tool knows: which crate may depend on what, how long a file may be, plain text.
//!
//! Kept short on purpose: a rule belongs here only if breaking it has a cost that a reviewer would not see at once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fail::Fail;
use crate::workspace::{Package, Workspace};

/// A longer Rust file says in its module doc why it is one thing, in a sentence that begins with [`LONG_MARK`].
const LONGEST: usize = 900;
const LONG_MARK: &str = "Long because";

/// What each crate may depend on within the workspace: from the edge to the core. The binary and xtask may use anything.
const LAYERS: &[(&str, &[&str])] = &[
    ("unicity-identity", &[]),
    ("unicity-provisioning", &["unicity-identity"]),
    ("unicity-hub", &["unicity-identity"]),
    ("unicity-audit", &["unicity-identity"]),
    ("unicity-store", &["unicity-identity", "unicity-provisioning", "unicity-hub", "unicity-audit"]),
    ("unicity-listener", &[]),
    ("unicity-broker", &["unicity-identity", "unicity-provisioning", "unicity-hub", "unicity-listener"]),
    ("unicity-api", &["unicity-identity", "unicity-provisioning", "unicity-hub", "unicity-audit", "unicity-listener"]),
    ("unicity-outbound", &["unicity-identity", "unicity-provisioning"]),
    ("unicity-device-sim", &["unicity-identity"]),
    ("unicity-loadtest", &["unicity-identity", "unicity-device-sim"]),
];

/// Crates that a layer never knows: the core has no IO because it cannot, and the edge never meets the database.
const UNKNOWN_TO: &[(&str, &[&str])] = &[
    ("unicity-identity", &["tokio", "redb", "rumqttd", "axum", "hyper", "socket2"]),
    ("unicity-provisioning", &["tokio", "redb", "rumqttd", "axum", "hyper", "socket2"]),
    ("unicity-hub", &["tokio", "redb", "rumqttd", "axum", "hyper", "socket2"]),
    ("unicity-audit", &["tokio", "redb", "rumqttd", "axum", "hyper", "socket2"]),
    ("unicity-broker", &["redb"]),
    ("unicity-api", &["redb", "rumqttd"]),
    ("unicity-outbound", &["redb", "rumqttd", "axum"]),
];

/// Checks every rule over the whole tree.
///
/// # Errors
/// With one line for each place that breaks a rule.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Fail> {
    let mut found: Vec<String> = workspace.packages.iter().flat_map(layering).collect();
    for package in &workspace.packages {
        let manifest = read(&package.manifest)?;
        if !manifest.contains("[lints]\nworkspace = true") {
            found.push(format!("{}: its manifest does not take over the workspace's lints", package.name));
        }
    }
    let mut files = Vec::new();
    walk(&workspace.root, &workspace.target, &mut files)?;
    for path in &files {
        let name = path.strip_prefix(&workspace.root).unwrap_or(path).display().to_string();
        found.extend(text_rules(&name, &read(path)?));
    }
    if found.is_empty() {
        println!("{} files, {} packages: tidy", files.len(), workspace.packages.len());
        return Ok(());
    }
    Err(Fail::Found(found.join("\n")))
}

fn layering(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let mut found = Vec::new();
    if let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) {
        let inner = package.dependencies.iter().filter(|d| d.starts_with("unicity"));
        found.extend(inner.filter(|d| !allowed.contains(&d.as_str())).cloned());
    }
    if let Some((_, unknown)) = UNKNOWN_TO.iter().find(|(layer, _)| *layer == name) {
        found.extend(package.dependencies.iter().filter(|d| unknown.contains(&d.as_str())).cloned());
    }
    found
        .iter()
        .map(|dependency| format!("{name} must not depend on {dependency}: see LAYERS and UNKNOWN_TO"))
        .collect()
}

fn text_rules(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.is_empty() && !text.ends_with('\n') {
        found.push(format!("{name}: the last line has no end"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if line.ends_with([' ', '\t', '\r']) {
            found.push(format!("{name}:{number}: blank at the end of the line"));
        }
        if names_a_home(line) {
            found.push(format!("{name}:{number}: a path of somebody's machine"));
        }
    }
    let lines = text.lines().count();
    let module_doc = || text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains(LONG_MARK));
    if Path::new(name).extension().is_some_and(|ext| ext == "rs") && lines > LONGEST && !module_doc() {
        found.push(format!("{name}: {lines} lines; cut it, or say in its module doc `{LONG_MARK} ...`"));
    }
    found
}

/// Whether a line holds a path below a home directory. Put together here, so that this file does not hold one.
fn names_a_home(line: &str) -> bool {
    ["home", "root", "Users"].iter().any(|home| {
        let path = format!("/{home}/");
        line.match_indices(&path).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| c.is_whitespace() || "\"'`=(:".contains(c))
        })
    })
}

fn walk(dir: &Path, target: &Path, files: &mut Vec<PathBuf>) -> Result<(), Fail> {
    const HIDDEN_BUT_OURS: [&str; 3] = [".ci", ".config", ".cargo"];
    let unreadable = |error| Fail::Found(format!("{}: {error}", dir.display()));
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            let skipped = path == target
                || (name.starts_with('.') && !HIDDEN_BUT_OURS.contains(&name.as_str()))
                || ["target", "unicity-data", "__pycache__", "node_modules"].contains(&name.as_str());
            if !skipped {
                walk(&path, target, files)?;
            }
        } else if kind.is_file() && is_text(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_text(path: &Path) -> bool {
    match path.extension().and_then(|ext| ext.to_str()) {
        Some(ext) => ["rs", "toml", "md", "py", "txt", "ini", "sh", "yml", "yaml", "html", "css", "js"].contains(&ext),
        None => path.parent().and_then(Path::file_name).is_some_and(|dir| dir == ".ci"),
    }
}

fn read(path: &Path) -> Result<String, Fail> {
    fs::read_to_string(path).map_err(|error| Fail::Found(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.into(),
            manifest: PathBuf::new(),
            dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
            examples: Vec::new(),
        }
    }

    #[test]
    fn the_core_knows_neither_the_edge_nor_io() {
        assert_eq!(layering(&package("unicity-identity", &["unicity-hub", "tokio", "serde"])).len(), 2);
        assert_eq!(layering(&package("unicity-broker", &["unicity-store", "redb"])).len(), 2);
        assert!(layering(&package("unicity", &["unicity-store", "redb", "tokio"])).is_empty());
    }

    #[test]
    fn a_long_file_needs_its_reason_in_the_module_doc() {
        let long = "let x = 1;\n".repeat(LONGEST + 1);
        assert_eq!(text_rules("a.rs", &long).len(), 1);
        assert!(text_rules("a.rs", &format!("//! {LONG_MARK} it is one machine.\n{long}")).is_empty());
        assert!(text_rules("a.py", &long).is_empty());
    }

    #[test]
    fn blanks_ends_and_homes_are_seen() {
        assert_eq!(text_rules("a.md", "x \ny").len(), 2);
        let home = format!("see {}{}/me/x\n", "/", "home");
        assert_eq!(text_rules("a.md", &home).len(), 1);
        assert!(text_rules("a.md", "https://example.org/home/x\n").is_empty());
    }
}
