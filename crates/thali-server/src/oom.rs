//! `oom-score-adj`: how readily the kernel ends this process when memory runs out.

use std::io;

use parking_lot::Mutex;

use crate::config::Settings;

const FILE: &str = "/proc/self/oom_score_adj";

/// What the score was before it was changed; `None` while it is left alone.
#[derive(Debug, Default)]
pub(crate) struct OomScore(Mutex<Option<i32>>);

impl OomScore {
    /// Sets the score as `settings` say, or back to what it was.
    pub fn apply(&self, settings: &Settings) -> io::Result<()> {
        let mut before = self.0.lock();
        let score = match (settings.oom_score_adj.as_str(), *before) {
            ("no", None) => return Ok(()),
            ("no", Some(score)) => score,
            (mode, known) => {
                let base = known.map_or_else(read, Ok)?;
                let own = settings.oom_score_adj_value;
                write(if mode == "absolute" { own } else { base.saturating_add(own) })?;
                *before = Some(base);
                return Ok(());
            }
        };
        write(score)?;
        *before = None;
        Ok(())
    }
}

fn read() -> io::Result<i32> {
    let text = std::fs::read_to_string(FILE)?;
    text.trim().parse().map_err(|_| io::Error::other(format!("{FILE} holds no number")))
}

fn write(score: i32) -> io::Result<()> {
    std::fs::write(FILE, score.to_string())
}
