//! `--scan`, and the walk over the keys that other modes share.

use std::io::Write;

use crate::client::Client;
use crate::format::{Form, quote};
use crate::interrupt::Halt;
use crate::options::number;
use crate::stop::Stop;
use crate::wire::Reply;

/// Lists the keys.
pub(crate) fn run(client: &mut Client) -> Result<(), Stop> {
    let halt = Halt::install()?;
    let mut walk = Walk::default();
    let mut stdout = std::io::stdout().lock();
    while let Some(keys) = walk.next(client)? {
        let mut text = Vec::new();
        for key in keys {
            match client.options.style.form {
                Form::Standard => quote(&key, &mut text),
                _ => text.extend_from_slice(&key),
            }
            text.push(b'\n');
        }
        stdout.write_all(&text)?;
        stdout.flush()?;
        if halt.is_raised() {
            break;
        }
        std::thread::sleep(client.options.interval);
    }
    Ok(())
}

/// A walk over the keys by SCAN with the arguments' pattern, count and type.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    cursor: Vec<u8>,
    done: bool,
    /// Calls of SCAN so far.
    pub calls: u64,
}

impl Walk {
    /// The keys of the next call; `None` at the end.
    pub fn next(&mut self, client: &mut Client) -> Result<Option<Vec<Vec<u8>>>, Stop> {
        if self.done {
            return Ok(None);
        }
        let cursor = if self.cursor.is_empty() { b"0".to_vec() } else { self.cursor.clone() };
        let mut args = vec![b"SCAN".to_vec(), cursor];
        if let Some(pattern) = &client.options.pattern {
            args.extend([b"MATCH".to_vec(), pattern.clone()]);
        }
        args.extend([b"COUNT".to_vec(), client.options.count.to_string().into_bytes()]);
        if let Some(key_type) = &client.options.key_type {
            args.extend([b"TYPE".to_vec(), key_type.clone()]);
        }
        let reply = client.ask(&args).map_err(|error| io_error(&error))?;
        if let Some(error) = reply.error() {
            return Err(Stop::failure(format_args!("SCAN error: {}", String::from_utf8_lossy(error))));
        }
        let [cursor, keys] = reply.items() else {
            return Err(Stop::failure("Non ARRAY response from SCAN!"));
        };
        self.cursor = cursor.text().unwrap_or_default().to_vec();
        self.done = self.cursor == b"0" || self.cursor.is_empty();
        self.calls += 1;
        Ok(Some(keys.items().iter().filter_map(Reply::text).map(<[u8]>::to_vec).collect()))
    }
}

/// How many keys the database has.
pub(crate) fn database_size(client: &mut Client) -> Result<u64, Stop> {
    let reply = client.ask(&["DBSIZE"]).map_err(|error| io_error(&error))?;
    match reply {
        Reply::Integer(text) => Ok(number(&String::from_utf8_lossy(&text)).unsigned_abs()),
        Reply::Error(text) => {
            Err(Stop::failure(format_args!("Couldn't determine DBSIZE: {}", String::from_utf8_lossy(&text))))
        }
        _ => Err(Stop::failure("Non INTEGER response from DBSIZE!")),
    }
}

pub(crate) fn io_error(error: &crate::wire::WireError) -> Stop {
    if error.is_lost() { Stop::failure("\nI/O error") } else { Stop::wire(error) }
}
