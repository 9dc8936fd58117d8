//! What directives take: words in, the canonical text that CONFIG GET shows out, or Redis's words of refusal.
//!
//! SOURCE for the wording: redis-server 7.0.15, asked.

use thali_commands::EventClass;

/// The type of a directive's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Bool,
    /// Least and greatest.
    Int(i64, i64),
    /// Bytes with a unit; least and greatest.
    Memory(i64, i64),
    /// Bytes, or a percentage of maxmemory.
    MemoryOrPercent,
    Octal,
    Enum(&'static [&'static str]),
    /// One or more of these.
    EnumSet(&'static [&'static str]),
    Text,
    /// A folder, kept as an absolute path.
    Dir,
    /// A name without slashes.
    FileName,
    Bind,
    Save,
    OutputLimits,
    OomScores,
    Percentiles,
    Events,
    ReplicaOf,
}

use Kind::*;

/// SOURCE: redis 7.0 `server.h`, `CONFIG_BINDADDR_MAX`.
const BIND_ADDRESSES_MAX: usize = 16;

impl Kind {
    /// Whether a value is several words, which CONFIG SET takes as one.
    pub fn is_list(self) -> bool {
        matches!(self, EnumSet(_) | Bind | Save | OutputLimits | OomScores | Percentiles | ReplicaOf)
    }

    /// Canonical text of `words`, for the directive `name` that has the value `old`.
    pub fn parse(self, name: &str, words: &[&str], old: &str) -> Result<String, String> {
        if self.is_list() {
            return self.parse_list(words, old);
        }
        let [word] = words else { return Err("wrong number of arguments".into()) };
        match self {
            Bool => one_of(&["yes", "no"], word).ok_or("argument must be 'yes' or 'no'".into()),
            Int(min, max) => {
                let value = word.parse::<i64>();
                in_range(value.map_err(|_| "argument couldn't be parsed into an integer")?, min, max)
            }
            Memory(min, max) => in_range(memory(word).ok_or("argument must be a memory value")?, min, max),
            MemoryOrPercent => match word.strip_suffix('%') {
                Some(percent) => match percent.parse::<u64>() {
                    Ok(percent) if percent <= 100 => Ok(format!("{percent}%")),
                    Ok(_) => Err("percentage argument must be less or equal to 100".into()),
                    Err(_) => Err("argument must be a memory or percent value".into()),
                },
                None => Ok(memory(word).ok_or("argument must be a memory or percent value")?.to_string()),
            },
            Octal => match u32::from_str_radix(word, 8) {
                Ok(mode) if mode <= 0o777 => Ok(format!("{mode:o}")),
                Ok(_) => Err("argument must be between 0 and 777 inclusive".into()),
                Err(_) => Err("argument couldn't be parsed as an octal number".into()),
            },
            Enum(choices) => one_of(choices, word).ok_or_else(|| choices_text(choices)),
            Text => Ok((*word).to_owned()),
            Dir => absolute(word),
            FileName if word.is_empty() => Err(format!("{name} can't be empty")),
            FileName if word.contains('/') => {
                let what = if name.ends_with("dirname") { "dirname" } else { "filename" };
                Err(format!("{name} can't be a path, just a {what}"))
            }
            FileName => Ok((*word).to_owned()),
            Events => Ok(events_text(events(word)?)),
            _ => unreachable!("lists are parsed above"),
        }
    }

    fn parse_list(self, words: &[&str], old: &str) -> Result<String, String> {
        let words: Vec<&str> = if words == [""] { Vec::new() } else { words.to_vec() };
        match self {
            EnumSet(choices) => {
                let found: Option<Vec<String>> = words.iter().map(|word| one_of(choices, word)).collect();
                let found = found.filter(|f| !f.is_empty()).ok_or_else(|| choices_text(choices))?;
                let in_order = choices.iter().filter(|choice| found.iter().any(|word| word == *choice));
                Ok(in_order.copied().collect::<Vec<_>>().join(" "))
            }
            Bind if words.len() > BIND_ADDRESSES_MAX => Err("Too many bind addresses specified.".into()),
            Bind => Ok(words.join(" ")),
            Save => save(&words),
            OutputLimits => output_limits(&words, old),
            OomScores if words.len() != 3 => Err("wrong number of arguments".into()),
            OomScores => {
                let fits = |word: &&str| word.parse::<i32>().is_ok_and(|n| (-2000..=2000).contains(&n));
                let why = "Invalid oom-score-adj-values, elements must be between -2000 and 2000.";
                if words.iter().all(fits) { Ok(words.join(" ")) } else { Err(why.into()) }
            }
            Percentiles => {
                let parse = |word: &&str| {
                    word.parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p)).map(|p| p.to_string())
                };
                let why = "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
                let found: Option<Vec<String>> = words.iter().map(parse).collect();
                found.map(|f| f.join(" ")).ok_or(why.into())
            }
            ReplicaOf => match words.as_slice() {
                [] => Ok(String::new()),
                [a, b] if a.eq_ignore_ascii_case("no") && b.eq_ignore_ascii_case("one") => Ok(String::new()),
                [_, port] if port.parse::<u16>().is_ok() => Ok(words.join(" ")),
                [_, _] => Err("Invalid primary port".into()),
                _ => Err("wrong number of arguments".into()),
            },
            _ => unreachable!("single words are parsed above"),
        }
    }
}

fn one_of(choices: &[&str], word: &str) -> Option<String> {
    choices.iter().find(|choice| choice.eq_ignore_ascii_case(word)).map(|choice| (*choice).to_owned())
}

fn choices_text(choices: &[&str]) -> String {
    format!("argument(s) must be one of the following: {}", choices.join(", "))
}

fn in_range(value: i64, min: i64, max: i64) -> Result<String, String> {
    if (min..=max).contains(&value) {
        Ok(value.to_string())
    } else {
        Err(format!("argument must be between {min} and {max} inclusive"))
    }
}

/// `10`, `10b`, `1k` (1000), `1kb` (1024), and so on to `gb`; `None` for anything else.
pub(super) fn memory(word: &str) -> Option<i64> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = word.split_at(digits);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

fn absolute(word: &str) -> Result<String, String> {
    let path = std::path::absolute(word).map_err(|error| error.to_string())?;
    // Without the `.` components that `absolute` keeps.
    Ok(path.components().collect::<std::path::PathBuf>().to_string_lossy().into_owned())
}

fn save(words: &[&str]) -> Result<String, String> {
    let number = |word: &str, min: i64| word.parse::<i64>().is_ok_and(|n| n >= min);
    let pairs = words.chunks(2).all(|pair| pair.len() == 2 && number(pair[0], 1) && number(pair[1], 0));
    if pairs { Ok(words.join(" ")) } else { Err("Invalid save parameters".into()) }
}

/// Replaces the classes that `words` names in `old`.
fn output_limits(words: &[&str], old: &str) -> Result<String, String> {
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let mut limits: Vec<String> = old.split(' ').map(str::to_owned).collect();
    for group in words.chunks_exact(4) {
        let class = match group[0].to_ascii_lowercase().as_str() {
            "normal" => 0,
            "slave" | "replica" => 1,
            "pubsub" => 2,
            _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
        };
        let seconds = group[3].parse::<u32>().ok().map(i64::from);
        for (at, value) in [memory(group[1]), memory(group[2]), seconds].into_iter().enumerate() {
            let why = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
            limits[class * 4 + 1 + at] = value.ok_or(why)?.to_string();
        }
    }
    Ok(limits.join(" "))
}

/// The letters in the order in which CONFIG GET shows them.
const EVENTS: &[(char, EventClass)] = &[
    ('g', EventClass::GENERIC),
    ('$', EventClass::STRING),
    ('l', EventClass::LIST),
    ('s', EventClass::SET),
    ('h', EventClass::HASH),
    ('z', EventClass::SORTED_SET),
    ('x', EventClass::EXPIRED),
    ('e', EventClass::EVICTED),
    ('t', EventClass::STREAM),
    ('d', EventClass::MODULE),
    ('K', EventClass::KEYSPACE),
    ('E', EventClass::KEYEVENT),
    ('m', EventClass::KEY_MISS),
    ('n', EventClass::NEW),
];

/// The classes that `notify-keyspace-events` names.
pub(super) fn events(letters: &str) -> Result<EventClass, String> {
    let mut classes = EventClass::empty();
    for letter in letters.chars() {
        classes |= match EVENTS.iter().find(|(known, _)| *known == letter) {
            Some((_, class)) => *class,
            None if letter == 'A' => EventClass::ALL,
            None => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
        };
    }
    Ok(classes)
}

fn events_text(classes: EventClass) -> String {
    let all = classes.contains(EventClass::ALL);
    let letters = EVENTS
        .iter()
        .filter(|(_, class)| classes.contains(*class) && !(all && EventClass::ALL.contains(*class)));
    all.then_some('A').into_iter().chain(letters.map(|(letter, _)| *letter)).collect()
}
