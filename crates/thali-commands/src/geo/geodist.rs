//! GEODIST: how far two members are from each other.

use thali_data::SortedSet;
use thali_data::geo::Point;
use thali_resp::Reply;

use crate::{Context, ErrorReply, Flow, Outcome, Spec};

pub const SPEC: Spec = Spec {
    name: "geodist",
    summary: "Returns the distance between two members of a geospatial index.",
    syntax: "key member1 member2 [M | KM | FT | MI]",
    arity: -4,
    ..super::READ_ONE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let unit_m = match &args[4..] {
        [] => 1.0,
        [unit] => super::unit_m(unit)?,
        _ => return Err(ErrorReply::SYNTAX),
    };
    let set = cx.read::<SortedSet>(args[1])?;
    let place = |member| set.and_then(|set| set.score(member)).map(Point::of_score);
    match (place(args[2]), place(args[3])) {
        (Some(from), Some(to)) => super::write_distance(reply, from.distance_m(to) / unit_m),
        _ => reply.null(),
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;
    use thali_resp::Protocol;

    #[test]
    fn distances_in_every_unit() {
        let mut store = Store::new();
        store.check(&[
            ("GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", ":2"),
            ("GEODIST g Palermo Catania", "$11\n166274.1516"),
            ("GEODIST g Palermo Catania km", "$8\n166.2742"),
            ("GEODIST g Palermo Catania MI", "$8\n103.3182"),
            ("GEODIST g Palermo Catania ft", "$11\n545518.8700"),
            ("GEODIST g Palermo Palermo", "$6\n0.0000"),
            ("GEODIST g Palermo x", "$-1"),
            ("GEODIST none a b", "$-1"),
            ("GEODIST g a b cm", "-ERR unsupported unit provided. please use M, KM, FT, MI"),
            ("GEODIST g a b m m", "-ERR syntax error"),
        ]);
        store.protocol = Protocol::Resp3;
        store.check(&[("GEODIST g Palermo Catania km", "$8\n166.2742"), ("GEODIST g Palermo x", "_")]);
    }
}
