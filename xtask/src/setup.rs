//! What the tests need from the machine: programs, cargo's helpers, npm and pip packages.
//!
//! Missing Debian packages are installed when run as root, else named. npm packages come from the
//! lock files; nothing is installed outside of the checkout except Debian packages and cargo-nextest.

use std::path::Path;
use std::process::Command;
use std::{fs, path::PathBuf};

use anyhow::{Result, bail};

use crate::{root, shell};

/// Program → the Debian package that has it.
const PROGRAMS: [(&str, &str); 10] = [
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("chromium", "chromium"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("python3", "python3-venv"),
    ("gcc", "gcc"),
    ("make", "make"),
    ("openssl", "openssl"),
    ("valgrind", "valgrind"),
];

/// Folders with a package.json and a lock file that tests run in.
pub const NPM_FOLDERS: [&str; 3] = ["tests", "bench/peers", "examples/classic"];

/// Brings the machine to where the tests can run; says what it did.
pub fn prepare() -> Result<()> {
    install_programs()?;
    install_nextest()?;
    for folder in NPM_FOLDERS {
        npm_ci(&root().join(folder))?;
    }
    python_venv()
}

fn install_programs() -> Result<()> {
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| shell::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !rustix::process::geteuid().is_root() {
        bail!("the tests need programs that are not here; install them: apt-get install {list}");
    }
    println!("installing {list}");
    succeed(Command::new("apt-get").args(["update", "-qq"]))?;
    // A package that starts a server would take port 6379; the tests start their own.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let ours = !policy.exists();
    if ours {
        fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        succeed(Command::new("chmod").arg("755").arg(policy))?;
    }
    let installed = succeed(
        Command::new("apt-get")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    );
    if ours {
        fs::remove_file(policy)?;
    }
    installed
}

fn install_nextest() -> Result<()> {
    if shell::find("cargo-nextest").is_some() {
        return Ok(());
    }
    println!("installing cargo-nextest");
    succeed(shell::cargo().args(["install", "--locked", "cargo-nextest"]))
}

/// `npm ci`, unless the packages there came from this very lock file.
pub fn npm_ci(folder: &Path) -> Result<()> {
    let lock = fs::read(folder.join("package-lock.json"))?;
    let stamp = folder.join("node_modules/.lock-installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    println!("npm ci in {}", folder.display());
    succeed(
        Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder),
    )?;
    Ok(fs::write(stamp, lock)?)
}

/// A virtual environment with the Python clients, at `tests/.venv`.
fn python_venv() -> Result<()> {
    let folder = root().join("tests");
    let wanted = fs::read(folder.join("requirements.txt"))?;
    let venv = folder.join(".venv");
    let stamp = venv.join(".requirements-installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("pip install in {}", venv.display());
    let python = shell::find("python3").unwrap_or_else(|| PathBuf::from("python3"));
    succeed(Command::new(python).args(["-m", "venv", "--clear"]).arg(&venv))?;
    succeed(
        Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet", "-r"])
            .arg(folder.join("requirements.txt")),
    )?;
    Ok(fs::write(stamp, wanted)?)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
