//! Builds the console's pages into OUT_DIR, where `console.rs` embeds them from.
//!
//! With npm: the sources are copied to OUT_DIR first, so that the source tree stays clean, and `npm ci` and
//! `npm run build` run there. Without npm, or without a registry to install from, one warning is printed
//! and a small page is embedded that says how to get the console. `THALI_CONSOLE_DIST` names a folder with
//! pages that were built elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

const SOURCES: &str = "../../console";
const PREBUILT: &str = "THALI_CONSOLE_DIST";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={PREBUILT}");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let pages = out.join("console-pages");
    remove_folder(&pages).expect("OUT_DIR can be written");
    if env::var_os("CARGO_FEATURE_CONSOLE").is_none() {
        return embed_notice(&pages, "This Thali was built without the feature 'console'.");
    }
    let built = match env::var_os(PREBUILT) {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => build(&out.join("console-work")),
    };
    match built {
        Ok(folder) => copy_folder(&folder, &pages).expect("the built pages can be copied"),
        Err(reason) => {
            println!("cargo::warning=the console is not built in: {reason}");
            embed_notice(&pages, &format!("This Thali was built without its console: {reason}."));
        }
    }
}

/// Builds the pages in `work` and returns the folder they are in, or why there are none.
fn build(work: &Path) -> Result<PathBuf, String> {
    let sources = Path::new(SOURCES);
    let inputs = inputs(sources)?;
    for input in &inputs {
        println!("cargo::rerun-if-changed={}", input.display());
    }
    if !npm_is_there() {
        return Err("npm was not found; install Node 20 or later and build again".to_owned());
    }
    let lock = sources.join("package-lock.json");
    let installed = work.join("installed-lock.json");
    for input in &inputs {
        let to = work.join(input.file_name().expect("an entry of a folder has a name"));
        remove_folder(&to).and_then(|()| copy(input, &to)).map_err(|error| error.to_string())?;
    }
    // Installing takes far longer than building, and changes only with the lock file.
    if fs::read(&lock).ok() != fs::read(&installed).ok() || !work.join("node_modules").is_dir() {
        npm(work, &["ci", "--no-audit", "--no-fund"])
            .map_err(|log| format!("'npm ci' failed ({})", last_line(&log)))?;
        fs::copy(&lock, &installed).map_err(|error| error.to_string())?;
    }
    // Sources that do not build are a mistake, not a circumstance.
    npm(work, &["run", "build"]).unwrap_or_else(|log| panic!("the console does not build:\n{log}"));
    Ok(work.join("dist"))
}

/// The console's own files: not what npm or Vite made of them.
fn inputs(sources: &Path) -> Result<Vec<PathBuf>, String> {
    if !sources.join("package-lock.json").is_file() || !sources.join("index.html").is_file() {
        return Err("its sources are not there".to_owned());
    }
    let entries = fs::read_dir(sources).map_err(|error| error.to_string())?;
    let mut inputs = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| error.to_string())?;
        let made = ["node_modules", "dist"].iter().any(|made| entry.file_name() == *made);
        if !made && !entry.file_name().to_string_lossy().starts_with('.') {
            inputs.push(entry.path());
        }
    }
    Ok(inputs)
}

fn npm_is_there() -> bool {
    Command::new("npm").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Runs npm; fails with what it said.
fn npm(folder: &Path, args: &[&str]) -> Result<(), String> {
    let output =
        Command::new("npm").args(args).current_dir(folder).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err([output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n"))
}

fn last_line(log: &str) -> &str {
    log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message").trim()
}

fn embed_notice(pages: &Path, reason: &str) {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Thali</title>\n\
         <style>body{{font:1rem/1.5 sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}}</style>\n\
         <h1>Thali is running</h1>\n<p>{reason}</p>\n\
         <p>To get the console: install Node 20 or later, with npm on the path, and run \
         <code>cargo build --release</code> again.</p>\n\
         <p>The API works without it: see <a href=\"/openapi.json\">/openapi.json</a>.</p>\n</html>\n"
    );
    fs::create_dir_all(pages).expect("OUT_DIR can be written");
    fs::write(pages.join("index.html"), page).expect("OUT_DIR can be written");
}

fn remove_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { Ok(()) }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        return copy_folder(from, to);
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).map(drop)
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
