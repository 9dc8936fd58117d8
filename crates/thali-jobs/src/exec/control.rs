//! What a command says on descriptor 3, without I/O: bytes in, the newest progress and log lines out.
//!
//! Lines that are too long, not JSON or of no known shape become one log line that says so.

use serde_json::Value;

const LINE_BYTES_MAX: usize = 16 * 1024;
/// Log lines of one job; further ones are counted only.
const LOGS_MAX: u32 = 1000;

#[derive(Debug, PartialEq)]
pub enum Said {
    Progress(Value),
    Log(String),
}

/// Cuts bytes into lines and reads them.
#[derive(Default)]
pub struct Reader {
    line: Vec<u8>,
    too_long: bool,
    complained: bool,
    logs: u32,
    logs_dropped: u32,
}

impl Reader {
    pub fn read(&mut self, bytes: &[u8], said: &mut dyn FnMut(Said)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if self.line.len() + text.len() > LINE_BYTES_MAX {
                self.too_long = true;
            } else {
                self.line.extend_from_slice(text);
            }
            if ended {
                self.end_line(said);
            }
        }
    }

    /// The command has ended: the last line may lack its end.
    pub fn finish(&mut self, said: &mut dyn FnMut(Said)) {
        if !self.line.is_empty() {
            self.end_line(said);
        }
        if self.logs_dropped > 0 {
            said(Said::Log(format!("{} further log lines were dropped", self.logs_dropped)));
        }
    }

    fn end_line(&mut self, said: &mut dyn FnMut(Said)) {
        let line = std::mem::take(&mut self.line);
        let too_long = std::mem::take(&mut self.too_long);
        if line.is_empty() && !too_long {
            return;
        }
        match serde_json::from_slice::<Value>(&line) {
            Ok(Value::Object(mut fields)) if !too_long => {
                let progress = fields.remove("progress");
                let log = fields.remove("log");
                if progress.is_none() && log.is_none() {
                    self.complain(said);
                }
                if let Some(progress) = progress {
                    said(Said::Progress(progress));
                }
                match log {
                    Some(Value::String(text)) => self.log(text, said),
                    Some(other) => self.log(other.to_string(), said),
                    None => {}
                }
            }
            _ => self.complain(said),
        }
    }

    fn log(&mut self, text: String, said: &mut dyn FnMut(Said)) {
        if self.logs < LOGS_MAX {
            self.logs += 1;
            said(Said::Log(text));
        } else {
            self.logs_dropped += 1;
        }
    }

    fn complain(&mut self, said: &mut dyn FnMut(Said)) {
        if !std::mem::replace(&mut self.complained, true) {
            let text =
                "descriptor 3 takes lines like {\"progress\":50} or {\"log\":\"text\"} of up to 16 KiB";
            said(Said::Log(text.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(pieces: &[&str]) -> Vec<Said> {
        let mut heard = Vec::new();
        let mut reader = Reader::default();
        for piece in pieces {
            reader.read(piece.as_bytes(), &mut |said| heard.push(said));
        }
        reader.finish(&mut |said| heard.push(said));
        heard
    }

    #[test]
    fn lines_may_come_in_pieces_and_lack_the_last_end() {
        let heard = read(&["{\"progr", "ess\":1}\n{\"log\":\"a\"}\n", "{\"progress\":{\"n\":2}}"]);
        let expected = [Said::Progress(json!(1)), Said::Log("a".into()), Said::Progress(json!({"n": 2}))];
        assert_eq!(heard, expected);
    }

    #[test]
    fn nonsense_is_told_once() {
        let heard = read(&["what\n[]\n{\"x\":1}\n", &"y".repeat(LINE_BYTES_MAX + 1), "\n"]);
        assert_eq!(heard.len(), 1);
        assert!(matches!(&heard[0], Said::Log(text) if text.starts_with("descriptor 3")));
    }

    #[test]
    fn logs_are_bounded_and_the_rest_is_counted() {
        let heard = read(&[&"{\"log\":\"x\"}\n".repeat(1005)]);
        assert_eq!(heard.len(), 1001);
        assert_eq!(heard[1000], Said::Log("5 further log lines were dropped".into()));
    }
}
