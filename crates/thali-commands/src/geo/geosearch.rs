//! GEOSEARCH and GEOSEARCHSTORE: the members in a circle or a box around a member or a place.

use thali_resp::Reply;

use super::search::{self, Dialect, Search};
use crate::{Access, Context, Keys, Outcome, Spec};

pub const GEOSEARCH: Spec = Spec {
    name: "geosearch",
    summary: "Queries a geospatial index for members inside an area of a box or a circle.",
    syntax: "key <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | \
             BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] \
             [WITHHASH]",
    since: "6.2.0",
    complexity: "O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area around the \
                 shape provided as the filter and M is the number of items inside the shape",
    arity: -7,
    ..super::READ_ONE
};

pub const GEOSEARCHSTORE: Spec = Spec {
    name: "geosearchstore",
    summary: "Queries a geospatial index for members inside an area of a box or a circle, optionally stores the \
              result.",
    syntax: "destination source <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | \
             KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] \
             [STOREDIST]",
    since: GEOSEARCH.since,
    complexity: GEOSEARCH.complexity,
    arity: -8,
    keys: Keys::Pair { first: (1, Access::WRITE), second: (2, Access::READ) },
    ..super::STORING
};

pub fn geosearch(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let search = Search { dialect: Dialect::Search, source: args[1], destination: None };
    search::run(cx, args[0], &search, |_| Ok((None, None)), &args[2..], reply)
}

pub fn geosearchstore(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let search = Search { dialect: Dialect::SearchStore, source: args[2], destination: Some(args[1]) };
    search::run(cx, args[0], &search, |_| Ok((None, None)), &args[3..], reply)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    fn sicily() -> Store {
        let mut store = Store::new();
        store.check(&[
            ("GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", ":2"),
            ("GEOADD g 12.758489 38.788135 edge1 17.241510 38.788135 edge2", ":2"),
        ]);
        store
    }

    #[test]
    fn circles_and_boxes() {
        sicily().check(&[
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC", "*2\n$7\nCatania\n$7\nPalermo"),
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km DESC COUNT 1", "*1\n$7\nPalermo"),
            (
                "GEOSEARCH g FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHDIST COUNT 3",
                "*3\n*2\n$7\nCatania\n$7\n56.4413\n*2\n$7\nPalermo\n$8\n190.4424\n*2\n$5\nedge2\n$8\n279.7403",
            ),
            (
                "GEOSEARCH g FROMMEMBER Catania BYRADIUS 1 m WITHCOORD WITHHASH WITHDIST",
                "*1\n*4\n$7\nCatania\n$6\n0.0000\n:3479447370796909\n*2\n$20\n15.08726745843887329\n$20\n\
                 37.50266842333162032",
            ),
            ("GEOSEARCH g FROMLONLAT 0 0 BYRADIUS 1 km", "*0"),
            ("GEOSEARCH none FROMMEMBER x BYRADIUS 1 km", "*0"),
            ("GEOSEARCH g FROMLONLAT 15 37 BYRADIUS inf km COUNT 2 ANY", "*2\n$7\nPalermo\n$5\nedge1"),
        ]);
    }

    #[test]
    fn faults_in_redis_words() {
        let syntax = "-ERR syntax error";
        sicily().check(&[
            ("GEOSEARCH g FROMMEMBER x BYRADIUS 1 km", "-ERR could not decode requested zset member"),
            ("GEOSEARCH g FROMMEMBER Palermo FROMLONLAT 1 1 BYRADIUS 1 km", syntax),
            ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS 1 km BYBOX 1 1 km", syntax),
            ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS 1 km STOREDIST", syntax),
            (
                "GEOSEARCH g FROMLONLAT 1 1 ASC ASC",
                "-ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH",
            ),
            (
                "geosearch g BYRADIUS 1 km ASC ASC",
                "-ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for geosearch",
            ),
            ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS x km", "-ERR need numeric radius"),
            ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS -1 km", "-ERR radius cannot be negative"),
            ("GEOSEARCH g FROMLONLAT 1 1 BYBOX x 1 km", "-ERR need numeric width"),
            ("GEOSEARCH g FROMLONLAT 1 1 BYBOX 1 x km", "-ERR need numeric height"),
            ("GEOSEARCH g FROMLONLAT 1 1 BYBOX 1 -1 km", "-ERR height or width cannot be negative"),
            ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS 1 km COUNT 0", "-ERR COUNT must be > 0"),
            ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS 1 km ANY", "-ERR the ANY argument requires COUNT argument"),
            (
                "GEOSEARCHSTORE d g FROMLONLAT 1 1 BYRADIUS 1 km WITHDIST",
                "-ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
            ),
        ]);
    }

    #[test]
    fn what_is_found_goes_into_a_key() {
        let mut store = sicily();
        store.check(&[("GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km", ":2")]);
        assert_eq!(store.events, ["new d", "geosearchstore d"]);
        store.check(&[
            (
                "ZRANGE d 0 -1 WITHSCORES",
                "*4\n$7\nPalermo\n$16\n3479099956230698\n$7\nCatania\n$16\n3479447370796909",
            ),
            ("GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 100 km STOREDIST", ":1"),
            ("ZRANGE d 0 -1", "*1\n$7\nCatania"),
            ("GEOSEARCHSTORE d g FROMLONLAT 0 0 BYRADIUS 1 m", ":0"),
        ]);
        assert_eq!(store.events, ["del d"]);
        store.check(&[("GEOSEARCHSTORE d none FROMLONLAT 0 0 BYRADIUS 1 m", ":0")]);
        assert!(store.effects.is_empty());
    }
}
