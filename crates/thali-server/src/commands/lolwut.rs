//! LOLWUT: a picture, and which version this is.
//!
//! A thali is a round plate on which each dish has a bowl of its own.

use thali_commands::{Flags, Flow, Group, Outcome, Random, Spec, integer, is_word};
use thali_resp::Reply;

use super::Entry;
use crate::REDIS_VERSION;
use crate::call::Call;
use crate::table::Handler;

const LOLWUT: Spec = Spec {
    name: "lolwut",
    summary: "Displays computer art and the server version",
    syntax: "[VERSION version]",
    since: "5.0.0",
    group: Group::Server,
    complexity: "O(N) where N is the number of characters of the picture",
    arity: -1,
    flags: Flags::READONLY.union(Flags::FAST),
    ..Spec::BASE
};

pub(super) const TABLE: &[Entry] = &[(&LOLWUT, Handler::Server(lolwut))];

const BOWLS_DEFAULT: i64 = 7;
const BOWLS_MAX: i64 = 12;
const COLUMNS_DEFAULT: i64 = 66;
const COLUMNS_MIN: i64 = 24;
const COLUMNS_MAX: i64 = 240;

/// `LOLWUT [VERSION n] [columns [bowls]]`. There is one picture, whichever version is asked for; what other pictures
/// of Redis take behind these numbers is passed over.
fn lolwut(call: &mut Call<'_, '_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let numbers = match args.get(1..).unwrap_or_default() {
        [word, version, rest @ ..] if is_word(word, "VERSION") => {
            integer(version)?;
            rest
        }
        rest => rest,
    };
    let number = |at: usize, default: i64| numbers.get(at).map_or(Ok(default), |number| integer(number));
    let columns = number(0, COLUMNS_DEFAULT)?.clamp(COLUMNS_MIN, COLUMNS_MAX);
    let bowls = number(1, BOWLS_DEFAULT)?.clamp(0, BOWLS_MAX);
    let mut text = plate(columns as usize, bowls as usize, call.cx.random);
    // Clients find Redis's version by these words.
    text.push_str(&format!(
        "\nDinner is served. Thali {}, Redis ver. {REDIS_VERSION}\n",
        env!("CARGO_PKG_VERSION")
    ));
    reply.verbatim("txt", text.as_bytes());
    Ok(Flow::Done)
}

/// What may be in a bowl, from thin to thick.
const DISHES: [char; 9] = ['.', ':', '~', '*', 'o', '%', '&', '#', '@'];

/// A plate of so many columns with bowls around a heap of rice.
fn plate(columns: usize, bowls: usize, random: &mut Random) -> String {
    // Characters are twice as high as wide.
    let rows = columns / 2;
    let radius = columns as f64 / 2.0 - 1.0;
    let begin = random.below(360) as f64;
    let ring = radius * 0.62;
    let share = std::f64::consts::TAU / bowls.max(1) as f64;
    let bowl_radius = (ring * (share / 2.0).sin() * 0.85).min(radius * 0.3);
    let dishes: Vec<(f64, f64, char)> = (0..bowls)
        .map(|bowl| {
            let angle = begin.to_radians() + share * bowl as f64;
            (ring * angle.cos(), ring * angle.sin(), DISHES[random.below(DISHES.len())])
        })
        .collect();
    let mut text = String::new();
    for row in 0..rows {
        let mut line = String::new();
        for column in 0..columns {
            let (x, y) = (column as f64 + 0.5 - columns as f64 / 2.0, (row as f64 + 0.5) * 2.0 - rows as f64);
            let bowl = dishes.iter().find(|(bx, by, _)| (x - bx).hypot(y - by) <= bowl_radius);
            let center = x.hypot(y);
            line.push(match bowl {
                Some((bx, by, dish)) if (x - bx).hypot(y - by) < bowl_radius - 1.2 => *dish,
                Some(_) => 'O',
                None if (center - radius).abs() < 1.0 => '=',
                None if center < radius * 0.22 => ['\'', '`', ',', ' '][random.below(4)],
                None => ' ',
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bowl_is_on_the_plate() {
        for (columns, bowls) in [(24, 0), (66, 7), (240, 12)] {
            let text = plate(columns, bowls, &mut Random::new(7));
            assert_eq!(text.lines().count(), columns / 2);
            assert!(text.lines().all(|line| line.chars().count() <= columns));
            assert_eq!(text.contains('O'), bowls > 0, "{text}");
        }
    }
}
