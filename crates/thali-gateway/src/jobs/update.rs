//! One entry of an event stream, as clients see it.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::packet::json_string;

/// A stream entry's id; compares as the stream orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct StreamId {
    pub(super) ms: u64,
    pub(super) seq: u64,
}

impl StreamId {
    /// Reads `ms-seq`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// What is known of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct JobView<'a> {
    pub(super) state: Cow<'a, str>,
    /// JSON as BullMQ stores it.
    pub(super) progress: Option<Cow<'a, str>>,
    /// JSON as BullMQ stores it.
    pub(super) returnvalue: Option<Cow<'a, str>>,
    /// Plain text.
    pub(super) failed_reason: Option<Cow<'a, str>>,
}

impl JobView<'_> {
    /// The event's data.
    pub(super) fn to_json(&self, queue: &str, id: &str) -> String {
        let mut out = String::with_capacity(128);
        out.push_str("{\"queue\":");
        json_string(&mut out, queue);
        out.push_str(",\"id\":");
        json_string(&mut out, id);
        out.push_str(",\"state\":");
        json_string(&mut out, &self.state);
        out.push_str(",\"progress\":");
        stored_json(&mut out, self.progress.as_deref());
        out.push_str(",\"returnvalue\":");
        stored_json(&mut out, self.returnvalue.as_deref());
        out.push_str(",\"failedReason\":");
        match &self.failed_reason {
            Some(reason) => json_string(&mut out, reason),
            None => out.push_str("null"),
        }
        out.push('}');
        out
    }
}

/// Clients of other languages may store what is no JSON; it goes on as a string.
fn stored_json(out: &mut String, stored: Option<&str>) {
    match stored {
        None | Some("") => out.push_str("null"),
        Some(text) if serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok() => {
            let _ = write!(out, "{}", text.trim());
        }
        Some(text) => json_string(out, text),
    }
}

/// One entry of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) id: StreamId,
    pub(super) job: &'a str,
    pub(super) event: &'a str,
    fields: &'a [(String, String)],
}

impl<'a> Entry<'a> {
    /// Reads an entry that speaks of one job; entries about the whole queue give none.
    pub(super) fn read(id: StreamId, fields: &'a [(String, String)]) -> Option<Self> {
        let event = field(fields, "event")?;
        let job = field(fields, "jobId")?;
        Some(Self { id, job, event, fields })
    }

    /// Whether later progress makes it needless.
    pub(super) fn is_progress(&self) -> bool {
        self.event == "progress"
    }

    /// What it says; none for events that change nothing a client could show.
    pub(super) fn view(&self) -> Option<JobView<'a>> {
        let mut view = JobView { state: Cow::Borrowed(self.event), ..JobView::default() };
        match self.event {
            "progress" => {
                view.state = Cow::Borrowed("active");
                view.progress = field(self.fields, "data").map(Cow::Borrowed);
            }
            "completed" => view.returnvalue = field(self.fields, "returnvalue").map(Cow::Borrowed),
            "failed" => view.failed_reason = field(self.fields, "failedReason").map(Cow::Borrowed),
            "added" | "waiting" | "active" | "delayed" | "waiting-children" | "stalled" | "removed" => {}
            _ => return None,
        }
        Some(view)
    }
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(fields: &[(&str, &str)]) -> Option<String> {
        let fields: Vec<_> = fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let entry = Entry::read(StreamId::default(), &fields)?;
        Some(entry.view()?.to_json("q", entry.job))
    }

    #[test]
    fn entries_of_every_kind() {
        type Fields = &'static [(&'static str, &'static str)];
        let table: &[(Fields, Option<&str>)] = &[
            (
                &[("event", "completed"), ("jobId", "1"), ("returnvalue", "{\"a\":1}"), ("prev", "active")],
                Some(
                    r#"{"queue":"q","id":"1","state":"completed","progress":null,"returnvalue":{"a":1},"failedReason":null}"#,
                ),
            ),
            (
                &[("event", "failed"), ("jobId", "1"), ("failedReason", "a \"b\""), ("prev", "active")],
                Some(
                    r#"{"queue":"q","id":"1","state":"failed","progress":null,"returnvalue":null,"failedReason":"a \"b\""}"#,
                ),
            ),
            (
                &[("event", "progress"), ("jobId", "1"), ("data", "50")],
                Some(
                    r#"{"queue":"q","id":"1","state":"active","progress":50,"returnvalue":null,"failedReason":null}"#,
                ),
            ),
            (
                &[("event", "progress"), ("jobId", "1"), ("data", "half")],
                Some(
                    r#"{"queue":"q","id":"1","state":"active","progress":"half","returnvalue":null,"failedReason":null}"#,
                ),
            ),
            (&[("event", "drained")], None),
            (&[("event", "retries-exhausted"), ("jobId", "1")], None),
            (&[("jobId", "1")], None),
        ];
        for (fields, expected) in table {
            assert_eq!(shown(fields).as_deref(), *expected, "{fields:?}");
        }
    }

    #[test]
    fn stream_ids_order_as_numbers() {
        let id = |text| StreamId::parse(text).unwrap();
        assert!(id("9-1") < id("10-0"));
        assert!(id("10-9") < id("10-10"));
        assert_eq!(StreamId::parse("10"), None);
        assert_eq!(id("10-9").to_string(), "10-9");
    }
}
