//! A job as it stands in the store, in BullMQ's words.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::options::JobState;

/// Everything that a job's hash says. JSON that others wrote goes through as it is.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    pub id: String,
    pub name: String,
    pub state: Option<JobState>,
    #[cfg_attr(feature = "schema", schema(value_type = serde_json::Value))]
    pub data: Json,
    #[cfg_attr(feature = "schema", schema(value_type = serde_json::Value))]
    pub opts: Json,
    #[cfg_attr(feature = "schema", schema(value_type = serde_json::Value))]
    pub progress: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<serde_json::Value>))]
    pub returnvalue: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_reason: Option<String>,
    #[cfg_attr(feature = "schema", schema(value_type = serde_json::Value))]
    pub stacktrace: Json,
    pub attempts_made: u64,
    pub attempts_started: u64,
    pub stalled_counter: u64,
    pub timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processed_on: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_on: Option<u64>,
    pub delay: u64,
    pub priority: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<serde_json::Value>))]
    pub parent: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_job_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deduplication_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processed_by: Option<String>,
}

/// JSON text out of the store; text that is no JSON shows as a string.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    fn from_text(text: String) -> Self {
        if serde_json::from_str::<&RawValue>(&text).is_err() {
            return Self::of(&Value::String(text));
        }
        Self(RawValue::from_string(text).expect("the text was just found to be JSON"))
    }

    fn null() -> Self {
        Self(RawValue::from_string("null".to_owned()).expect("null is JSON"))
    }

    fn of(value: &Value) -> Self {
        Self(serde_json::value::to_raw_value(value).expect("a JSON value prints"))
    }

    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::null()
    }
}

/// BullMQ's short names for options, and what they stand for.
const SHORT_NAMES: [(&str, &str); 6] = [
    ("de", "deduplication"),
    ("fpof", "failParentOnFailure"),
    ("cpof", "continueParentOnFailure"),
    ("idof", "ignoreDependencyOnFailure"),
    ("kl", "keepLogs"),
    ("rdof", "removeDependencyOnFailure"),
];

impl JobView {
    /// Reads a job's hash; `None` where there is none. Fields of later BullMQ versions are passed over.
    pub(crate) fn from_hash(
        id: &str,
        state: Option<JobState>,
        fields: Vec<(String, Vec<u8>)>,
    ) -> Option<Self> {
        if fields.is_empty() {
            return None;
        }
        let mut view = Self { id: id.to_owned(), state, ..Self::default() };
        for (name, value) in fields {
            let value = String::from_utf8(value)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
            view.set(&name, value);
        }
        Some(view)
    }

    fn set(&mut self, name: &str, value: String) {
        match name {
            "name" => self.name = value,
            "data" => self.data = Json::from_text(value),
            "opts" => self.opts = long_names(value),
            "progress" => self.progress = Json::from_text(value),
            "returnvalue" => self.returnvalue = Some(Json::from_text(value)),
            "failedReason" => self.failed_reason = Some(value),
            "stacktrace" => self.stacktrace = Json::from_text(value),
            "atm" | "attemptsMade" => self.attempts_made = number(&value),
            "ats" => self.attempts_started = number(&value),
            "stc" => self.stalled_counter = number(&value),
            "timestamp" => self.timestamp = number(&value),
            "processedOn" => self.processed_on = Some(number(&value)),
            "finishedOn" => self.finished_on = Some(number(&value)),
            "delay" => self.delay = number(&value),
            "priority" => self.priority = number(&value),
            "parent" => self.parent = Some(Json::from_text(value)),
            "parentKey" => self.parent_key = Some(value),
            "rjk" => self.repeat_job_key = Some(value),
            "deid" => self.deduplication_id = Some(value),
            "pb" => self.processed_by = Some(value),
            _ => {}
        }
    }
}

/// Milliseconds and counts that other programs wrote may carry a fraction.
fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| text.parse::<f64>().map_or(0, |value| value as u64))
}

fn long_names(text: String) -> Json {
    let Ok(Value::Object(options)) = serde_json::from_str(&text) else { return Json::from_text(text) };
    let mut long = serde_json::Map::with_capacity(options.len());
    let mut telemetry = serde_json::Map::new();
    for (name, value) in options {
        match name.as_str() {
            "tm" => drop(telemetry.insert("metadata".to_owned(), value)),
            "omc" => drop(telemetry.insert("omitContext".to_owned(), value)),
            _ => {
                let long_name = SHORT_NAMES.iter().find(|(short, _)| *short == name).map(|(_, long)| *long);
                long.insert(long_name.map_or(name, str::to_owned), value);
            }
        }
    }
    if !telemetry.is_empty() {
        long.insert("telemetry".to_owned(), Value::Object(telemetry));
    }
    Json::of(&Value::Object(long))
}
