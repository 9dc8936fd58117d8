//! `bench flame`: where a server's time goes in a case of the store's bench, as a flame graph.
//!
//! `perf record` looks at the server's stacks from the moment from which its CPU is counted, `perf script` writes them
//! down, and what many share is drawn once: a box above its caller, as wide as its share of all looks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use thali_testkit::{Process, thali_bin};

use super::cases::{CASES, SETTINGS, Scale};
use super::measure::measure;
use super::plot::{STYLE, escaped};
use super::server::{Contender, Server};

#[derive(Args)]
pub struct FlameArguments {
    /// A case of the store's bench that counts CPU; `store --list` shows them.
    #[arg(long)]
    case: String,
    /// The server; Thali as it was built just now where none is named.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Further settings of the server: --setting=--loops --setting=1.
    #[arg(long, allow_hyphen_values = true)]
    setting: Vec<String>,
    /// What the picture is of, behind the case's name.
    #[arg(long, default_value = "")]
    label: String,
    /// The picture, an SVG.
    #[arg(long)]
    out: PathBuf,
}

/// Looks a second: not a divisor of what servers do in even intervals.
const LOOKS: &str = "997";
/// How callers are found, and how many bytes of a stack are kept for that.
const CALLERS: &str = "dwarf,16384";
/// To write down what was recorded.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(arguments: &FlameArguments) -> Result<()> {
    let case = CASES.iter().find(|case| case.name == arguments.case);
    let case = case.context("no case has this name; `store --list` shows them")?;
    let settings = SETTINGS.iter().chain(case.settings).map(|word| (*word).to_owned());
    let contender = Contender {
        name: case.name.to_owned(),
        program: arguments.program.clone().map_or_else(thali_bin, Ok)?,
        settings: settings.chain(arguments.setting.iter().cloned()).collect(),
    };
    let server = Server::start(&contender, None)?;
    let folder = tempfile::tempdir()?;
    let recorded = folder.path().join("perf.data");
    let recorder = RefCell::new(None);
    let begin = || {
        let mut perf = Command::new("perf");
        perf.args(["record", "-F", LOOKS, "--call-graph", CALLERS, "-p", &server.pid().to_string(), "-o"]);
        *recorder.borrow_mut() = Some(Process::spawn("perf", perf.arg(&recorded), folder.path())?);
        Ok(())
    };
    measure(case, &server, Scale::new(false), &begin)?;
    let mut perf = recorder.into_inner().context("this case counts no CPU")?;
    // It ends by the signal, after it has written all down.
    perf.terminate(PATIENCE)?;
    let script = Command::new("perf")
        .args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"])
        .arg(&recorded)
        .output()
        .context("the Debian package linux-perf has what this needs")?;
    let stacks = Stacks::of_script(&String::from_utf8_lossy(&script.stdout));
    ensure!(
        stacks.root.looks > 0,
        "perf has seen nothing: {}{}",
        perf.log(),
        String::from_utf8_lossy(&script.stderr)
    );
    let title = format!("{} {}", case.name, arguments.label);
    fs::write(&arguments.out, stacks.svg(title.trim()))
        .with_context(|| format!("write {}", arguments.out.display()))
}

/// All looks, by what they have in common from the thread on.
#[derive(Default)]
struct Stacks {
    root: Frame,
}

/// A function under certain callers.
#[derive(Default)]
struct Frame {
    looks: u64,
    is_kernel: bool,
    callees: BTreeMap<String, Frame>,
}

impl Stacks {
    /// From blocks of lines: a thread's name, then the function it was in and its callers, each behind its address.
    fn of_script(script: &str) -> Self {
        let mut stacks = Self::default();
        for block in script.split("\n\n") {
            let mut lines = block.lines();
            let Some(thread) = lines.next().map(str::trim).filter(|name| !name.is_empty()) else { continue };
            let functions = lines.filter_map(|line| line.trim().split_once(' '));
            let mut functions: Vec<(&str, &str)> =
                functions.filter(|(_, name)| *name != "[unknown]").collect();
            functions.push(("0", thread));
            stacks.add(functions.iter().rev().map(|(address, name)| (is_kernel(address), *name)));
        }
        stacks
    }

    fn add<'f>(&mut self, functions: impl Iterator<Item = (bool, &'f str)>) {
        let mut frame = &mut self.root;
        frame.looks += 1;
        for (is_kernel, name) in functions {
            frame = frame.callees.entry(name.to_owned()).or_default();
            frame.is_kernel = is_kernel;
            frame.looks += 1;
        }
    }

    fn svg(&self, title: &str) -> String {
        let height = TOP + ROW * self.root.depth() as f64 + 10.0;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
             <title>{}</title>\n<style>{STYLE}text.f{{font-size:10px;fill:#222}}</style>\n\
             <text class=\"t\" x=\"10\" y=\"20\">{0}</text>\n",
            escaped(title)
        );
        let mut drawing = Drawing { all: self.root.looks, bottom: height - 10.0, out: &mut out };
        drawing.callees(&self.root, 0.0, 0);
        out.push_str("</svg>\n");
        out
    }
}

/// The upper half of the address space is the kernel's.
fn is_kernel(address: &str) -> bool {
    u64::from_str_radix(address, 16).is_ok_and(|address| address >> 63 == 1)
}

impl Frame {
    /// Of what is drawn; nothing is less than a look.
    fn depth(&self) -> usize {
        self.callees.values().map(|callee| 1 + callee.depth()).max().unwrap_or(0)
    }
}

const WIDTH: f64 = 1200.0;
const TOP: f64 = 34.0;
const ROW: f64 = 15.0;
/// What is narrower is left out.
const NARROWEST: f64 = 0.8;
/// Of a letter.
const LETTER: f64 = 5.6;
const KERNEL: &str = "#b7c4d6";
const OWN: [&str; 4] = ["#f2a65a", "#eeb868", "#f0935b", "#f5c07a"];

struct Drawing<'o> {
    all: u64,
    bottom: f64,
    out: &'o mut String,
}

impl Drawing<'_> {
    /// Those whom a frame calls side by side from `x` on, in row `row` from the bottom.
    fn callees(&mut self, frame: &Frame, mut x: f64, row: usize) {
        for (name, callee) in &frame.callees {
            let width = WIDTH * callee.looks as f64 / self.all as f64;
            if width >= NARROWEST {
                self.one(name, callee, (x, width), row);
                self.callees(callee, x, row + 1);
            }
            x += width;
        }
    }

    fn one(&mut self, name: &str, frame: &Frame, (x, width): (f64, f64), row: usize) {
        let y = self.bottom - ROW * (row + 1) as f64;
        let colour = if frame.is_kernel { KERNEL } else { OWN[name.len() % OWN.len()] };
        let share = 100.0 * frame.looks as f64 / self.all as f64;
        let _ = write!(
            self.out,
            "<g><title>{} {share:.1}%</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"14\" \
             fill=\"{colour}\"/>",
            escaped(name),
            width - 0.3,
        );
        let letters = (width / LETTER) as usize;
        if letters > 3 {
            let words: String = short(name).chars().take(letters).collect();
            let (x, y) = (x + 2.0, y + 11.0);
            let _ =
                write!(self.out, "<text class=\"f\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(&words));
        }
        self.out.push_str("</g>\n");
    }
}

/// A function's name with its type's, without the path to it.
fn short(name: &str) -> &str {
    let of_type = name.rmatch_indices("::").map(|(at, _)| at).find(|at| {
        let before = name[..*at].rsplit("::").next().unwrap_or_default();
        !before.starts_with(|letter: char| letter.is_ascii_uppercase())
    });
    of_type.map_or(name, |at| &name[at + 2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "store-0 \n\
        \t         1369042 thali::Batch::run\n\
        \t         12f8572 thali::run_requests\n\
        \tffffffffffffffff [unknown]\n\
        \n\
        store-0 \n\
        \tffffffff816ae8e5 tcp_sendmsg\n\
        \t         12f8572 thali::run_requests\n\
        \n";

    #[test]
    fn what_stacks_share_is_one_box() {
        let stacks = Stacks::of_script(SCRIPT);
        assert_eq!(stacks.root.looks, 2);
        let thread = &stacks.root.callees["store-0"];
        let shared = &thread.callees["thali::run_requests"];
        assert_eq!((thread.looks, shared.looks, shared.callees.len()), (2, 2, 2));
        assert!(shared.callees["tcp_sendmsg"].is_kernel && !shared.is_kernel);
        assert_eq!(stacks.root.depth(), 3);
        let svg = stacks.svg("get & set");
        assert_eq!(svg.matches("<rect").count(), 4, "{svg}");
        assert!(svg.contains("tcp_sendmsg 50.0%") && svg.contains("get &amp; set"), "{svg}");
    }

    #[test]
    fn a_name_is_shown_with_its_type() {
        assert_eq!(short("thali_server::batch::Batch::run"), "Batch::run");
        assert_eq!(short("thali_server::unit::perform"), "perform");
        assert_eq!(short("tcp_ack"), "tcp_ack");
    }
}
