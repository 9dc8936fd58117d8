//! The sample programs, embedded: 24 real ones, each with the verdict that it deserves.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rust_embed::RustEmbed;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::language::Language;
use crate::problem::Problem;
use crate::verdict::Kind;

#[derive(RustEmbed)]
#[folder = "../../examples/judge"]
pub(crate) struct Files;

impl Files {
    /// A file that is known to be there, for its path came from a listing or from the manifest.
    pub(crate) fn bytes(path: &str) -> Cow<'static, [u8]> {
        Self::get(path).unwrap_or_else(|| panic!("examples/judge/{path} is missing")).data
    }
}

/// One line of `programs.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub id: String,
    pub title: String,
    pub language: Language,
    pub problem: String,
    pub file: String,
    pub verdict: Kind,
}

impl Sample {
    pub fn code(&self) -> Vec<u8> {
        Files::bytes(&format!("programs/{}", self.file)).into_owned()
    }

    /// As a job's data: `{language, problem, code}`, or `code_base64` where the code is not UTF-8.
    pub fn submission(&self) -> Value {
        let mut submission = json!({ "language": self.language, "problem": self.problem });
        match String::from_utf8(self.code()) {
            Ok(code) => submission["code"] = code.into(),
            Err(error) => submission["code_base64"] = STANDARD.encode(error.as_bytes()).into(),
        }
        submission
    }
}

pub fn samples() -> Vec<Sample> {
    serde_json::from_slice(&Files::bytes("programs.json")).expect("a test reads the manifest")
}

/// What the demo's page needs to know:
/// `{languages: [{id, installed}], problems: [{id, title, statement, example}], samples: [{id, title, language,
/// problem, code | code_base64, expected}]}`. The cases stay here.
pub fn samples_json() -> String {
    let languages =
        Language::ALL.map(|language| json!({ "id": language, "installed": language.is_installed() }));
    let problems: Vec<Value> = Problem::all()
        .into_iter()
        .map(|problem| {
            let (id, title, statement) = (&problem.id, &problem.title, &problem.statement);
            json!({ "id": id, "title": title, "statement": statement, "example": problem.cases[0] })
        })
        .collect();
    let samples: Vec<Value> = samples()
        .into_iter()
        .map(|sample| {
            let mut entry = sample.submission();
            entry["id"] = sample.id.into();
            entry["title"] = sample.title.into();
            entry["expected"] = json!(sample.verdict);
            entry
        })
        .collect();
    json!({ "languages": languages, "problems": problems, "samples": samples }).to_string()
}
