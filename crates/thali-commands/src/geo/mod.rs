//! Places on Earth: members of sorted sets whose scores are cells of a map, see [`thali_data::geo`].

pub mod geoadd;
pub mod geodist;
pub mod geopos;
pub mod georadius;
pub mod geosearch;
mod search;

use thali_data::double::parse_double;
use thali_data::geo::Point;
use thali_resp::Reply;

use crate::{Access, Categories, Command, ErrorReply, Flags, Group, Keys, Spec, is_word};

/// The commands of this group.
pub const TABLE: &[Command] = &[
    Command { spec: &geoadd::SPEC, run: geoadd::run },
    Command { spec: &geodist::SPEC, run: geodist::run },
    Command { spec: &geopos::GEOHASH, run: geopos::geohash },
    Command { spec: &geopos::GEOPOS, run: geopos::geopos },
    Command { spec: &georadius::GEORADIUS, run: georadius::georadius },
    Command { spec: &georadius::GEORADIUS_RO, run: georadius::georadius_ro },
    Command { spec: &georadius::GEORADIUSBYMEMBER, run: georadius::georadiusbymember },
    Command { spec: &georadius::GEORADIUSBYMEMBER_RO, run: georadius::georadiusbymember_ro },
    Command { spec: &geosearch::GEOSEARCH, run: geosearch::geosearch },
    Command { spec: &geosearch::GEOSEARCHSTORE, run: geosearch::geosearchstore },
];

/// What the commands share that read one set of places.
const READ_ONE: Spec = Spec {
    group: Group::Geo,
    since: "3.2.0",
    flags: Flags::READONLY,
    keys: Keys::one(Access::READ),
    categories: Categories::GEO,
    ..Spec::BASE
};

/// What the commands share that may put what they found under a key.
const STORING: Spec = Spec { flags: Flags::WRITE.union(Flags::DENYOOM), ..READ_ONE };

/// Two arguments as a place.
fn point(longitude: &[u8], latitude: &[u8]) -> Result<Point, ErrorReply> {
    let [longitude, latitude] =
        [longitude, latitude].map(|text| parse_double(text).ok_or(ErrorReply::NOT_FLOAT));
    let (longitude, latitude) = (longitude?, latitude?);
    Point::new(longitude, latitude).ok_or_else(|| {
        ErrorReply::owned(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}"))
    })
}

/// Metres in a unit.
fn unit_m(word: &[u8]) -> Result<f64, ErrorReply> {
    const UNITS_M: [(&str, f64); 4] = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let found = UNITS_M.iter().find(|(name, _)| is_word(word, name));
    found
        .map(|(_, metres)| *metres)
        .ok_or(ErrorReply::new("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// Replies longitude and latitude, with 17 digits behind the point less the zeros at the end.
fn write_point(reply: &mut Reply<'_>, point: Point) {
    reply.array(2);
    for coordinate in [point.longitude, point.latitude] {
        let text = format!("{coordinate:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        reply.double_text(if text == "-0" { "0" } else { text }.as_bytes());
    }
}

/// Replies a distance, with four digits behind the point and as a string in RESP3, too.
fn write_distance(reply: &mut Reply<'_>, distance: f64) {
    let scaled = (distance * 10_000.0).round_ties_even() as u64;
    reply.bulk(format!("{}.{:04}", scaled / 10_000, scaled % 10_000).as_bytes());
}
