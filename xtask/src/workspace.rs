//! Where things are, as cargo says it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fail::Fail;
use crate::run::Step;

/// The workspace and its packages.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// A package of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest: PathBuf,
    /// The names of what it depends on when it is built, without what only its tests or its build script need.
    pub(crate) dependencies: Vec<String>,
    /// The names of its examples.
    pub(crate) examples: Vec<String>,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// If `cargo metadata` fails or its answer is not what it is documented to be.
    pub(crate) fn find() -> Result<Self, Fail> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = Step::cargo(here).args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
        let strange = || Fail::Found("`cargo metadata` answered in a form that xtask does not know".into());
        let json: Value = serde_json::from_str(&text).map_err(|_| strange())?;
        let path = |value: &Value| value.as_str().map(PathBuf::from).ok_or_else(strange);
        let packages = json["packages"].as_array().ok_or_else(strange)?;
        Ok(Self {
            root: path(&json["workspace_root"])?,
            target: path(&json["target_directory"])?,
            packages: packages.iter().map(package).collect::<Option<_>>().ok_or_else(strange)?,
        })
    }

    /// A binary as cargo leaves it.
    pub(crate) fn binary(&self, name: &str, release: bool) -> PathBuf {
        self.target.join(if release { "release" } else { "debug" }).join(name)
    }
}

fn package(json: &Value) -> Option<Package> {
    let name = |value: &Value| value["name"].as_str().map(str::to_owned);
    let is_example =
        |target: &&Value| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "example"));
    Some(Package {
        name: name(json)?,
        manifest: json["manifest_path"].as_str()?.into(),
        dependencies: json["dependencies"]
            .as_array()?
            .iter()
            .filter(|d| d["kind"].is_null())
            .filter_map(name)
            .collect(),
        examples: json["targets"].as_array()?.iter().filter(is_example).filter_map(name).collect(),
    })
}
