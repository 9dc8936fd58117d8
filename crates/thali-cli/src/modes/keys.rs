//! `--bigkeys`, `--memkeys`, `--hotkeys`: walks over all keys that end in a summary, as they do on Ctrl-C.

use crate::client::{Client, print_now};
use crate::format::quote;
use crate::interrupt::Halt;
use crate::modes::scan::{Walk, database_size, io_error};
use crate::options::number;
use crate::stop::Stop;
use crate::wire::{Reply, write_request};

/// Keys after which a line of progress is written.
const MILESTONE_KEYS: u64 = 1_000_000;
/// SCAN calls between pauses of `-i`.
const PAUSE_CALLS: u64 = 100;
/// Hot keys that are kept.
const HOT_KEYS_MAX: usize = 16;

/// What sizes are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    Elements,
    /// Bytes, looking at so many elements of a key where said.
    Memory(Option<i64>),
}

/// One type of values and what was found of it.
#[derive(Default)]
struct Kind {
    name: String,
    /// The command that counts a value's elements; none for a type that only a module knows.
    counter: Option<&'static str>,
    unit: &'static str,
    biggest: u64,
    biggest_key: Option<String>,
    count: u64,
    total: u64,
}

struct Survey {
    measure: Measure,
    kinds: Vec<Kind>,
    progress: Progress,
    key_bytes: u64,
}

/// The biggest key of each type.
pub(crate) fn biggest(client: &mut Client, measure: Measure) -> Result<(), Stop> {
    let halt = Halt::install()?;
    let progress = Progress::begin(client, "biggest")?;
    let kinds = [
        ("list", "LLEN", "items"),
        ("hash", "HLEN", "fields"),
        ("string", "STRLEN", "bytes"),
        ("stream", "XLEN", "entries"),
        ("set", "SCARD", "members"),
        ("zset", "ZCARD", "members"),
    ];
    let kind = |&(name, counter, unit): &(&str, _, _)| Kind {
        name: name.to_owned(),
        counter: Some(counter),
        unit,
        ..Kind::default()
    };
    let mut survey = Survey { measure, kinds: kinds.iter().map(kind).collect(), progress, key_bytes: 0 };
    let mut walk = Walk::default();
    while let Some(keys) = walk.next(client)? {
        survey.progress.round();
        survey.take(client, &keys)?;
        if survey.progress.pause(client, &walk, &halt) {
            break;
        }
    }
    print_now(&survey.summary())
}

impl Survey {
    fn take(&mut self, client: &mut Client, keys: &[Vec<u8>]) -> Result<(), Stop> {
        let kinds = self.kinds_of(client, keys)?;
        let sizes = self.sizes_of(client, keys, &kinds)?;
        for ((key, kind), size) in keys.iter().zip(kinds).zip(sizes) {
            // It went between SCAN and TYPE.
            let Some(kind) = kind.map(|at| &mut self.kinds[at]) else { continue };
            kind.total += size;
            kind.count += 1;
            self.key_bytes += key.len() as u64;
            self.progress.sampled += 1;
            if size > kind.biggest {
                let name = quoted(key);
                let unit = unit_of(kind, self.measure);
                print_now(&format!(
                    "[{:05.2}%] Biggest {:<6} found so far '{name}' with {size} {unit}\n",
                    self.progress.percent, kind.name
                ))?;
                kind.biggest = size;
                kind.biggest_key = Some(name);
            }
            self.progress.milestone()?;
        }
        Ok(())
    }

    /// For each key the place of its type among the kinds.
    fn kinds_of(&mut self, client: &mut Client, keys: &[Vec<u8>]) -> Result<Vec<Option<usize>>, Stop> {
        let requests = keys.iter().map(|key| vec![b"TYPE".to_vec(), key.clone()]).collect();
        let mut places = Vec::new();
        for reply in pipeline(client, requests)? {
            let name = match reply {
                Reply::Status(name) => String::from_utf8_lossy(&name).into_owned(),
                Reply::Error(text) => {
                    let words = String::from_utf8_lossy(&text).into_owned();
                    return Err(Stop::failure(format_args!("TYPE returned an error: {words}")));
                }
                _ => return Err(Stop::failure("Invalid reply type for TYPE!")),
            };
            let place = self.kinds.iter().position(|kind| kind.name == name);
            places.push(match place {
                None if name == "none" => None,
                None => {
                    self.kinds.push(Kind { name, unit: "?", ..Kind::default() });
                    Some(self.kinds.len() - 1)
                }
                found => found,
            });
        }
        Ok(places)
    }

    fn sizes_of(
        &self,
        client: &mut Client,
        keys: &[Vec<u8>],
        kinds: &[Option<usize>],
    ) -> Result<Vec<u64>, Stop> {
        let mut requests = Vec::new();
        let mut asked = Vec::new();
        for (at, (key, kind)) in keys.iter().zip(kinds).enumerate() {
            let Some(kind) = kind.map(|place| &self.kinds[place]) else { continue };
            let request = match (self.measure, kind.counter) {
                (Measure::Elements, None) => continue,
                (Measure::Elements, Some(counter)) => vec![counter.into(), key.clone()],
                (Measure::Memory(samples), _) => {
                    let mut request = vec![b"MEMORY".to_vec(), b"USAGE".to_vec(), key.clone()];
                    if let Some(samples) = samples {
                        request.extend([b"SAMPLES".to_vec(), samples.to_string().into_bytes()]);
                    }
                    request
                }
            };
            let what = if let Measure::Memory(_) = self.measure {
                "MEMORY USAGE"
            } else {
                kind.counter.unwrap_or("")
            };
            asked.push((at, what));
            requests.push(request);
        }
        let mut sizes = vec![0; keys.len()];
        for ((at, what), reply) in asked.into_iter().zip(pipeline(client, requests)?) {
            match reply {
                Reply::Integer(text) => sizes[at] = number(&String::from_utf8_lossy(&text)).unsigned_abs(),
                _ => eprintln!("Warning:  {what} on {} failed (may have changed type)", quoted(&keys[at])),
            }
        }
        Ok(sizes)
    }

    fn summary(&self) -> String {
        let sampled = self.progress.sampled;
        let mut text = self.progress.summary();
        let average = ratio(self.key_bytes, sampled);
        text += &format!("Total key length in bytes is {} (avg len {average:.2})\n\n", self.key_bytes);
        for kind in &self.kinds {
            if let Some(key) = &kind.biggest_key {
                let unit = unit_of(kind, self.measure);
                text += &format!("Biggest {:>6} found '{key}' has {} {unit}\n", kind.name, kind.biggest);
            }
        }
        text.push('\n');
        for kind in &self.kinds {
            text += &format!(
                "{} {}s with {} {} ({:05.2}% of keys, avg size {:.2})\n",
                kind.count,
                kind.name,
                kind.total,
                unit_of(kind, self.measure),
                100.0 * ratio(kind.count, sampled),
                ratio(kind.total, kind.count)
            );
        }
        text
    }
}

fn unit_of(kind: &Kind, measure: Measure) -> &'static str {
    if let Measure::Memory(_) = measure { "bytes" } else { kind.unit }
}

/// The keys with the highest counters of use.
pub(crate) fn hottest(client: &mut Client) -> Result<(), Stop> {
    let halt = Halt::install()?;
    let mut progress = Progress::begin(client, "hot")?;
    let mut hot: Vec<(u64, String)> = Vec::new();
    let mut walk = Walk::default();
    while let Some(keys) = walk.next(client)? {
        progress.round();
        let requests =
            keys.iter().map(|key| vec![b"OBJECT".to_vec(), b"FREQ".to_vec(), key.clone()]).collect();
        for (key, reply) in keys.iter().zip(pipeline(client, requests)?) {
            let used = match reply {
                Reply::Integer(text) => number(&String::from_utf8_lossy(&text)).unsigned_abs(),
                Reply::Error(text) => {
                    return Err(Stop::failure(format_args!("Error: {}", String::from_utf8_lossy(&text))));
                }
                _ => {
                    eprintln!("Warning: OBJECT freq on {} failed (may have been deleted)", quoted(key));
                    0
                }
            };
            progress.sampled += 1;
            progress.milestone()?;
            // Ordered by use; equal ones in the order in which they came, the first one hottest.
            let place = hot.partition_point(|(other, _)| *other < used);
            let is_full = hot.len() == HOT_KEYS_MAX;
            if used == 0 || is_full && place == 0 {
                continue;
            }
            let name = quoted(key);
            print_now(&format!(
                "[{:05.2}%] Hot key '{name}' found so far with counter {used}\n",
                progress.percent
            ))?;
            hot.insert(place, (used, name));
            if is_full {
                hot.remove(0);
            }
        }
        if progress.pause(client, &walk, &halt) {
            break;
        }
    }
    let mut text = progress.summary();
    for (used, name) in hot.iter().rev() {
        text += &format!("hot key found with counter: {used}\tkeyname: {name}\n");
    }
    print_now(&text)
}

/// How far a walk has come.
struct Progress {
    total_keys: u64,
    sampled: u64,
    /// At the last call of SCAN.
    percent: f64,
    halted: bool,
}

impl Progress {
    fn begin(client: &mut Client, what: &str) -> Result<Self, Stop> {
        let total_keys = database_size(client)?;
        print_now(&format!(
            "\n# Scanning the entire keyspace to find {what} keys as well as\n\
             # average sizes per key type.  You can use -i 0.1 to sleep 0.1 sec\n\
             # per 100 SCAN commands (not usually needed).\n\n"
        ))?;
        // A replica of a cluster answers reads only then; who has no cluster refuses, which is no harm.
        client.ask(&["READONLY"]).map_err(|error| io_error(&error))?;
        Ok(Self { total_keys, sampled: 0, percent: 0.0, halted: false })
    }

    fn round(&mut self) {
        self.percent = 100.0 * ratio(self.sampled, self.total_keys);
    }

    fn milestone(&self) -> Result<(), Stop> {
        if self.sampled.is_multiple_of(MILESTONE_KEYS) && self.sampled > 0 {
            print_now(&format!("[{:05.2}%] Sampled {} keys so far\n", self.percent, self.sampled))?;
        }
        Ok(())
    }

    /// Pauses where `-i` says so; `true`: somebody wants the walk to end.
    fn pause(&mut self, client: &Client, walk: &Walk, halt: &Halt) -> bool {
        if walk.calls.is_multiple_of(PAUSE_CALLS) {
            std::thread::sleep(client.options.interval);
        }
        self.halted = halt.is_raised();
        self.halted
    }

    fn summary(&self) -> String {
        let halted = if self.halted { format!("[{:05.2}%] ", self.percent) } else { String::new() };
        format!("\n-------- summary -------\n\n{halted}Sampled {} keys in the keyspace!\n", self.sampled)
    }
}

/// Sends all requests and gives their replies. A batch is what one SCAN found.
fn pipeline(client: &mut Client, requests: Vec<Vec<Vec<u8>>>) -> Result<Vec<Reply>, Stop> {
    let Some(link) = client.link.as_mut() else { return Err(Stop::failure("\nI/O error")) };
    let mut bytes = Vec::new();
    requests.iter().for_each(|request| write_request(request, &mut bytes));
    link.send_bytes(&bytes).map_err(|error| io_error(&error))?;
    let mut replies = Vec::new();
    while replies.len() < requests.len() {
        match link.receive().map_err(|error| io_error(&error))? {
            Reply::Push(_) => {}
            reply => replies.push(reply),
        }
    }
    Ok(replies)
}

fn quoted(key: &[u8]) -> String {
    let mut text = Vec::new();
    quote(key, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
