//! `--stat`: a line of figures from INFO each second.

use std::time::Duration;

use crate::client::{Client, print_now};
use crate::options::number;
use crate::stop::Stop;
use crate::wire::Reply;

const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// Lines between headings.
const PAGE_LINES: u64 = 20;
const HEADING: &str = "\
------- data ------ --------------------- load -------------------- - child -
keys       mem      clients blocked requests            connections          \n";

pub(crate) fn run(client: &mut Client) -> Result<(), Stop> {
    let interval = match client.options.interval {
        Duration::ZERO => INTERVAL_DEFAULT,
        given => given,
    };
    let mut requests_before = 0;
    for line in 0.. {
        let reply = client.ask_patiently(&["INFO"])?;
        let info = match &reply {
            Reply::Error(text) => {
                return Err(Stop::failure(format_args!("ERROR: {}", String::from_utf8_lossy(text))));
            }
            other => String::from_utf8_lossy(other.text().unwrap_or_default()).into_owned(),
        };
        if line % PAGE_LINES == 0 {
            print_now(HEADING)?;
        }
        print_now(&figures(&info, &mut requests_before))?;
        std::thread::sleep(interval);
    }
    Ok(())
}

fn figures(info: &str, requests_before: &mut i64) -> String {
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or(0, number)
    };
    let keys: i64 = info
        .lines()
        .filter_map(|line| line.strip_prefix("db")?.split_once(":keys="))
        .map(|(_, rest)| number(rest))
        .sum();
    let requests = field("total_commands_processed");
    let grown = if *requests_before == 0 { 0 } else { requests - *requests_before };
    *requests_before = requests;
    let child = match (field("rdb_bgsave_in_progress"), field("aof_rewrite_in_progress"), field("loading")) {
        (0, 0, 0) => "",
        (1, 0, 0) => "SAVE",
        (0, 1, 0) => "AOF",
        (1, 1, 0) => "SAVE+AOF",
        _ => "LOAD",
    };
    format!(
        "{keys:<11}{:<8} {:<8}{:<8}{:<19} {:<12}{child}\n",
        bytes_for_people(field("used_memory")),
        field("connected_clients"),
        field("blocked_clients"),
        format!("{requests} (+{grown})"),
        field("total_connections_received"),
    )
}

/// `1003B`, `4.03K`, `100.00M`.
fn bytes_for_people(bytes: i64) -> String {
    let units = ["K", "M", "G", "T"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut size = bytes as f64;
    let mut unit = "B";
    for next in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    format!("{size:.2}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_in_columns() {
        let info = "used_memory:1048576\r\nconnected_clients:3\r\nblocked_clients:1\r\n\
                    total_commands_processed:120\r\ntotal_connections_received:9\r\nloading:0\r\n\
                    rdb_bgsave_in_progress:1\r\naof_rewrite_in_progress:0\r\n\
                    db0:keys=7,expires=0,avg_ttl=0\r\ndb3:keys=5,expires=0\r\n";
        let mut before = 100;
        let line = figures(info, &mut before);
        assert_eq!(line, "12         1.00M    3       1       120 (+20)           9           SAVE\n");
        assert_eq!(before, 120);
        assert_eq!(bytes_for_people(1003), "1003B");
    }
}
