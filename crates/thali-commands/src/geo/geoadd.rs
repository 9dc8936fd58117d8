//! GEOADD: members at places, which is ZADD with the scores of the places. Journaled as that.

use thali_resp::Reply;

use crate::sorted_sets::zadd;
use crate::{Access, Context, ErrorReply, Flags, Keys, Outcome, Spec, is_word};

pub const SPEC: Spec = Spec {
    name: "geoadd",
    summary: "Adds one or more members to a geospatial index. The key is created if it doesn't exist.",
    syntax: "key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
    complexity: "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
    arity: -5,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: Keys::one(Access::WRITE),
    ..super::READ_ONE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let is_option = |word: &&&[u8]| ["NX", "XX", "CH"].iter().any(|option| is_word(word, option));
    let options_len = args[2..].iter().take_while(is_option).count();
    let (options, members) = args[2..].split_at(options_len);
    let has = |option: &str| options.iter().any(|word| is_word(word, option));
    let (members, rest) = members.as_chunks::<3>();
    if !rest.is_empty() || has("NX") && has("XX") {
        return Err(ErrorReply::SYNTAX);
    }
    let mut scores = Vec::with_capacity(members.len());
    for [longitude, latitude, _] in members {
        scores.push((super::point(longitude, latitude)?.score() as u64).to_string());
    }
    let mut request: Vec<&[u8]> = vec![b"ZADD", args[1]];
    request.extend(options);
    for (score, [_, _, member]) in scores.iter().zip(members) {
        request.extend([score.as_bytes(), *member]);
    }
    let dirty = cx.dirty;
    let outcome = zadd::zadd(cx, &request, reply)?;
    if cx.dirty > dirty {
        cx.effect(&request);
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn it_is_zadd_with_the_scores_of_places() {
        let mut store = Store::new();
        store.check(&[
            ("GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", ":2"),
            (
                "ZRANGE g 0 -1 WITHSCORES",
                "*4\n$7\nPalermo\n$16\n3479099956230698\n$7\nCatania\n$16\n3479447370796909",
            ),
            ("GEOADD g NX CH 1 1 Palermo", ":0"),
            ("GEOADD g XX CH 1 1 Palermo 2 2 x", ":1"),
        ]);
        assert_eq!(store.effects, ["ZADD g XX CH 3377822707026402 Palermo 3378191666521995 x"]);
        assert_eq!(store.events, ["zadd g"]);
        store.check(&[("GEOADD g XX CH 1 1 Palermo", ":0")]);
        assert!(store.effects.is_empty());
    }

    #[test]
    fn faults_leave_the_set_alone() {
        Store::new().check(&[
            ("GEOADD g 1 1", "-ERR wrong number of arguments for 'geoadd' command"),
            ("GEOADD g 1 1 a 2", "-ERR syntax error"),
            ("GEOADD g NX XX 1 1 a", "-ERR syntax error"),
            ("GEOADD g CH CH CH", "-ERR syntax error"),
            ("GEOADD g x 1 a", "-ERR value is not a valid float"),
            ("GEOADD g nan 1 a", "-ERR value is not a valid float"),
            ("GEOADD g 1 1 a 181 -86.5 b", "-ERR invalid longitude,latitude pair 181.000000,-86.500000"),
            ("GEOADD g inf 0 a", "-ERR invalid longitude,latitude pair inf,0.000000"),
            ("EXISTS g", ":0"),
            ("SET s v", "+OK"),
            ("GEOADD s 1 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ]);
    }
}
