//! What the tests and the benchmarks need from the system's package manager.

use std::path::Path;

use crate::fail::Fail;
use crate::run::Step;

/// Something the tests need: how to see that it is there, and the Debian package that brings it.
struct Need {
    what: &'static str,
    package: &'static str,
    probe: &'static [&'static str],
}

const NEEDS: &[Need] = &[
    Need {
        what: "mosquitto_pub and mosquitto_rr",
        package: "mosquitto-clients",
        probe: &["sh", "-c", "command -v mosquitto_pub && command -v mosquitto_rr"],
    },
    Need { what: "the openssl command", package: "openssl", probe: &["openssl", "version"] },
    Need { what: "swtpm", package: "swtpm", probe: &["swtpm", "--version"] },
    Need {
        what: "tpm2-tools",
        package: "tpm2-tools",
        probe: &["sh", "-c", "command -v tpm2_import && command -v tpm2_activatecredential"],
    },
    Need { what: "chromium", package: "chromium", probe: &["chromium", "--version"] },
    Need { what: "Python 3", package: "python3", probe: &["python3", "--version"] },
    Need { what: "Node.js", package: "nodejs", probe: &["node", "--version"] },
    Need { what: "npm", package: "npm", probe: &["npm", "--version"] },
    Need { what: "Python's venv module", package: "python3-venv", probe: &["python3", "-c", "import venv, ensurepip"] },
];

/// What the benchmarks compare with.
static MOSQUITTO: Need = Need {
    what: "mosquitto",
    package: "mosquitto",
    probe: &["sh", "-c", "command -v mosquitto && command -v mosquitto_passwd"],
};

/// Installs through apt-get what the tests need and is missing.
///
/// # Errors
/// [`Fail::Setup`] with everything that is missing and the one command that brings it, if this process may not install.
pub(crate) fn prepare(dir: &Path) -> Result<(), Fail> {
    install(dir, NEEDS)
}

/// Installs mosquitto if it is missing.
///
/// # Errors
/// As [`prepare`].
pub(crate) fn mosquitto(dir: &Path) -> Result<(), Fail> {
    install(dir, std::slice::from_ref(&MOSQUITTO))
}

fn install(dir: &Path, needs: &'static [Need]) -> Result<(), Fail> {
    let missing = missing(dir, needs);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|need| need.what).collect();
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    let fail = |why: String| {
        Fail::setup(
            format!("{} missing: {why}", names.join(", ")),
            format!("apt-get install {} as root, or your system's packages of them", packages.join(" ")),
        )
    };
    let prefix = privilege(dir).ok_or_else(|| fail("this user may not install packages".into()))?;
    let apt = |args: &[&str]| {
        let line: Vec<&str> = prefix.iter().copied().chain(["apt-get", "-o", "DPkg::Lock::Timeout=300"]).collect();
        Step::new(line[0], dir).args(&line[1..]).args(args).env("DEBIAN_FRONTEND", "noninteractive").run()
    };
    // A stale list of packages is often good enough, and the mirror may be out of reach: the install decides.
    if let Err(error) = apt(&["update", "-q"]) {
        eprintln!("{error}; trying with the lists that are there");
    }
    let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
    install.extend(&packages);
    apt(&install).map_err(|error| fail(error.to_string()))?;
    match self::missing(dir, needs).first() {
        None => Ok(()),
        Some(need) => Err(fail(format!("{} is still not there after the install", need.what))),
    }
}

fn missing(dir: &Path, needs: &'static [Need]) -> Vec<&'static Need> {
    needs.iter().filter(|need| !Step::new(need.probe[0], dir).args(&need.probe[1..]).succeeds()).collect()
}

/// What to put before apt-get, or `None` if there is no apt-get or no right to use it.
fn privilege(dir: &Path) -> Option<&'static [&'static str]> {
    if !Step::new("apt-get", dir).arg("--version").succeeds() {
        return None;
    }
    let is_root = Step::new("id", dir).arg("-u").output().is_ok_and(|id| id.trim() == "0");
    if is_root {
        Some(&[])
    } else if Step::new("sudo", dir).args(["-n", "true"]).succeeds() {
        Some(&["sudo", "-n"])
    } else {
        None
    }
}
