//! GEORADIUS and GEORADIUSBYMEMBER with their `_RO` forms: GEOSEARCH's circles in the words of before.

use thali_data::SortedSet;
use thali_resp::Reply;

use super::search::{self, Dialect, Search, circle, place_of};
use crate::{Access, Context, Flags, Keys, Outcome, Spec, is_word};

pub const GEORADIUS: Spec = Spec {
    name: "georadius",
    summary: "Queries a geospatial index for members within a distance from a coordinate, optionally stores the \
              result.",
    syntax: "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT \
             count [ANY]] [ASC | DESC] [STORE key] [STOREDIST key]",
    complexity: "O(N+log(M)) where N is the number of elements inside the bounding box of the circular area \
                 delimited by center and radius and M is the number of items inside the index.",
    arity: -6,
    flags: super::STORING.flags.union(Flags::MOVABLE_KEYS),
    keys: Keys::Found(push_keys),
    ..super::STORING
};

pub const GEORADIUS_RO: Spec = Spec {
    name: "georadius_ro",
    summary: "Returns members from a geospatial index that are within a distance from a coordinate.",
    syntax: "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT \
             count [ANY]] [ASC | DESC]",
    since: "3.2.10",
    complexity: GEORADIUS.complexity,
    arity: -6,
    ..super::READ_ONE
};

pub const GEORADIUSBYMEMBER: Spec = Spec {
    name: "georadiusbymember",
    summary: "Queries a geospatial index for members within a distance from a member, optionally stores the \
              result.",
    syntax: "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] \
             [ASC | DESC] [STORE key] [STOREDIST key]",
    arity: -5,
    ..GEORADIUS
};

pub const GEORADIUSBYMEMBER_RO: Spec = Spec {
    name: "georadiusbymember_ro",
    summary: "Returns members from a geospatial index that are within a distance from a member.",
    syntax: "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] \
             [ASC | DESC]",
    arity: -5,
    ..GEORADIUS_RO
};

/// The source, then what stands behind STORE and behind STOREDIST, which may be given together.
fn push_keys(args: &[&[u8]], push: &mut dyn FnMut(usize, Access)) {
    if args.len() > 1 {
        push(1, Access::READ);
    }
    for wanted in ["STORE", "STOREDIST"] {
        let mut at = 5;
        while at + 1 < args.len() {
            let is_store = ["STORE", "STOREDIST"].iter().any(|word| is_word(args[at], word));
            if is_word(args[at], wanted) {
                push(at + 1, Access::WRITE);
            }
            at += 1 + usize::from(is_store);
        }
    }
}

pub fn georadius(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    around_place(cx, args, Dialect::Radius, reply)
}

pub fn georadius_ro(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    around_place(cx, args, Dialect::RadiusReadOnly, reply)
}

pub fn georadiusbymember(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    around_member(cx, args, Dialect::Radius, reply)
}

pub fn georadiusbymember_ro(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    around_member(cx, args, Dialect::RadiusReadOnly, reply)
}

fn around_place(cx: &mut Context<'_>, args: &[&[u8]], dialect: Dialect, reply: &mut Reply<'_>) -> Outcome {
    let search = Search { dialect, source: args[1], destination: None };
    let fixed = |_: Option<&SortedSet>| {
        let center = super::point(args[2], args[3])?;
        Ok((Some(center), Some(circle(args[4], args[5])?)))
    };
    search::run(cx, args[0], &search, fixed, &args[6..], reply)
}

fn around_member(cx: &mut Context<'_>, args: &[&[u8]], dialect: Dialect, reply: &mut Reply<'_>) -> Outcome {
    let search = Search { dialect, source: args[1], destination: None };
    let fixed = |set: Option<&SortedSet>| {
        // Without the key nothing is read but the options.
        let Some(set) = set else { return Ok((None, None)) };
        let center = place_of(set, args[2])?;
        Ok((Some(center), Some(circle(args[3], args[4])?)))
    };
    search::run(cx, args[0], &search, fixed, &args[5..], reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Store;

    #[test]
    fn circles_around_places_and_members() {
        let mut store = Store::new();
        store.check(&[
            ("GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", ":2"),
            ("GEORADIUS g 15 37 200 km DESC", "*2\n$7\nPalermo\n$7\nCatania"),
            ("GEORADIUS_RO g 15 37 100 km WITHDIST", "*1\n*2\n$7\nCatania\n$7\n56.4413"),
            ("GEORADIUSBYMEMBER g Palermo 200 km COUNT 1", "*1\n$7\nPalermo"),
            ("GEORADIUSBYMEMBER_RO g Palermo 1 m STORE d", "-ERR syntax error"),
            ("GEORADIUSBYMEMBER g x 1 m", "-ERR could not decode requested zset member"),
            ("GEORADIUSBYMEMBER none x y z", "*0"),
            ("GEORADIUSBYMEMBER none x y z STORE d", ":0"),
            ("GEORADIUS none 15 x 1 km", "-ERR value is not a valid float"),
            ("GEORADIUS g 15 37 200 km STORE d STOREDIST e", ":2"),
            ("ZRANGE e 0 -1", "*2\n$7\nCatania\n$7\nPalermo"),
            (
                "GEORADIUS g 15 37 1 km STORE d WITHHASH",
                "-ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
            ),
        ]);
        store.run("GEORADIUS g 15 37 200 km STORE d");
        assert_eq!(store.events, ["new d", "georadiusstore d"]);
        store.run("GEORADIUS g 15 37 200 km");
        assert!(store.effects.is_empty());
    }

    #[test]
    fn every_key_to_store_to_is_a_key() {
        let check = |line: &str, expected: &[usize]| {
            let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let mut found = Vec::new();
            GEORADIUS.keys.each(&args, &mut |at, _| found.push(at));
            assert_eq!(found, expected, "{line}");
        };
        check("GEORADIUS k 1 1 1 m", &[1]);
        check("GEORADIUS k 1 1 1 m STORE d", &[1, 7]);
        check("GEORADIUSBYMEMBER k m 1 m STOREDIST d store e", &[1, 8, 6]);
        check("GEORADIUS k 1 1 1 m STORE store STORE d", &[1, 7, 9]);
        check("GEORADIUSBYMEMBER k m 1 m STORE", &[1]);
    }
}
