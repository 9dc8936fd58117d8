//! The languages: how a program is checked or compiled, and how it is run.

use std::path::Path;

use serde::{Deserialize, Serialize};
use thali_sandbox::Command;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Python,
    C,
    Shell,
    JavaScript,
}

impl Language {
    pub const ALL: [Self; 4] = [Self::Python, Self::C, Self::Shell, Self::JavaScript];

    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::C => "c",
            Self::Shell => "shell",
            Self::JavaScript => "javascript",
        }
    }

    /// The program that the language needs on this machine.
    pub fn tool(self) -> &'static str {
        match self {
            Self::Python => "/usr/bin/python3",
            Self::C => "/usr/bin/gcc",
            Self::Shell => "/bin/sh",
            Self::JavaScript => "/usr/bin/node",
        }
    }

    pub fn is_installed(self) -> bool {
        Path::new(self.tool()).exists()
    }

    pub(crate) fn source_name(self) -> &'static str {
        match self {
            Self::Python => "main.py",
            Self::C => "main.c",
            Self::Shell => "main.sh",
            Self::JavaScript => "main.js",
        }
    }

    /// Compiles, or only looks whether the program could be run at all.
    pub(crate) fn compile(self) -> Command {
        let tool = Command::new(self.tool());
        match self {
            Self::Python => tool.args(["-I", "-m", "py_compile", "main.py"]),
            Self::C => {
                tool.args(["-O2", "-std=c11", "-fdiagnostics-color=never", "-o", "main", "main.c", "-lm"])
            }
            Self::Shell => tool.args(["-n", "main.sh"]),
            Self::JavaScript => tool.args(["--check", "main.js"]),
        }
    }

    pub(crate) fn run(self, memory_mib: u64) -> Command {
        match self {
            Self::Python => Command::new(self.tool()).args(["-I", "main.py"]),
            Self::C => Command::new("./main"),
            Self::Shell => Command::new(self.tool()).args(["main.sh"]),
            Self::JavaScript => Command::new(self.tool())
                .args([format!("--max-old-space-size={memory_mib}").as_str(), "main.js"]),
        }
    }

    /// What the language's own runtime takes before the program has done anything.
    pub(crate) fn runtime_mib(self) -> u64 {
        match self {
            Self::Python => 16,
            Self::C | Self::Shell => 0,
            Self::JavaScript => 96,
        }
    }
}
