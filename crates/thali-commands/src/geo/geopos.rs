//! GEOPOS and GEOHASH: where members are, as coordinates or as standard geohashes.

use thali_data::SortedSet;
use thali_data::geo::Point;
use thali_resp::Reply;

use crate::{Context, Flow, Outcome, Spec};

pub const GEOPOS: Spec = Spec {
    name: "geopos",
    summary: "Returns the longitude and latitude of members from a geospatial index.",
    syntax: "key member [member ...]",
    complexity: "O(1) for each member requested.",
    arity: -2,
    ..super::READ_ONE
};

pub const GEOHASH: Spec = Spec {
    name: "geohash",
    summary: "Returns members from a geospatial index as geohash strings.",
    syntax: "key member [member ...]",
    ..GEOPOS
};

pub fn geopos(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    each_place(cx, args, reply, |reply, place| match place {
        Some(place) => super::write_point(reply, place),
        None => reply.null_array(),
    })
}

pub fn geohash(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    each_place(cx, args, reply, |reply, place| match place {
        Some(place) => reply.bulk(&place.geohash()),
        None => reply.null(),
    })
}

fn each_place(
    cx: &Context<'_>,
    args: &[&[u8]],
    reply: &mut Reply<'_>,
    write: impl Fn(&mut Reply<'_>, Option<Point>),
) -> Outcome {
    let set = cx.read::<SortedSet>(args[1])?;
    reply.array(args.len() - 2);
    for member in &args[2..] {
        write(reply, set.and_then(|set| set.score(member)).map(Point::of_score));
    }
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;
    use thali_resp::Protocol;

    #[test]
    fn places_come_back_as_the_middle_of_their_cell() {
        let mut store = Store::new();
        store.check(&[
            ("GEOADD g 13.361389 38.115556 Palermo", ":1"),
            ("GEOPOS g Palermo x", "*2\n*2\n$20\n13.36138933897018433\n$20\n38.11555639549629859\n*-1"),
            ("GEOHASH g Palermo x", "*2\n$11\nsqc8b49rny0\n$-1"),
            ("GEOPOS none a", "*1\n*-1"),
            ("GEOPOS none", "*0"),
            ("GEOHASH none a", "*1\n$-1"),
            // Scores that nobody made from a place name one all the same.
            ("ZADD z 1 a -1 b inf c", ":3"),
            ("GEOHASH z a b c", "*3\n$11\n00bh0hbj210\n$11\nbp05b5048p0\n$11\n00bh0hbj200"),
        ]);
        store.protocol = Protocol::Resp3;
        store.check(&[("GEOPOS g Palermo", "*1\n*2\n,13.36138933897018433\n,38.11555639549629859")]);
    }
}
