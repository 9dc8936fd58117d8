//! The search around a place that GEOSEARCH, GEORADIUS and their relatives share: options, the search itself,
//! and what becomes of the places found.
//!
//! Options are read in their order, and the first fault is the reply; a member that is missing is one. Where
//! the key is missing, members cannot be looked up, and all else is read as ever.

use std::cmp::Ordering;

use thali_data::SortedSet;
use thali_data::double::parse_double;
use thali_data::geo::{Form, Point, Shape};
use thali_data::sorted_set::{ScoreBound, ScoreRange};
use thali_resp::Reply;

use super::{point, unit_m, write_distance, write_point};
use crate::sorted_sets::zrange::store;
use crate::{Context, ErrorReply, Flow, Outcome, integer, is_word};

/// The words that a command takes beside those that all take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// FROMMEMBER, FROMLONLAT, BYRADIUS, BYBOX.
    Search,
    /// As [`Dialect::Search`], and STOREDIST as a word alone.
    SearchStore,
    /// STORE and STOREDIST with a key.
    Radius,
    RadiusReadOnly,
}

impl Dialect {
    fn is_search(self) -> bool {
        matches!(self, Self::Search | Self::SearchStore)
    }

    fn stores_by_option(self) -> bool {
        self == Self::Radius
    }
}

/// What is searched, and where what is found goes unless an option says so.
pub(super) struct Search<'a> {
    pub dialect: Dialect,
    pub source: &'a [u8],
    pub destination: Option<&'a [u8]>,
}

/// Center and area, where a command's fixed arguments say them.
pub(super) type Fixed = (Option<Point>, Option<Area>);

/// A form, and the metres in a unit of it.
pub(super) type Area = (Form, f64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Nearest,
    Farthest,
}

/// Where a search starts from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Nowhere,
    /// `None`: the key is missing, and so is the member.
    Member(Option<Point>),
    Place(Point),
}

struct Options<'a> {
    with_distance: bool,
    with_hash: bool,
    with_place: bool,
    order: Option<Order>,
    /// 0: all.
    count: usize,
    /// Any `count` places will do.
    any: bool,
    from: From,
    area: Option<Area>,
    destination: Option<&'a [u8]>,
    /// Distances become the scores of what is stored.
    stores_distances: bool,
}

impl<'a> Options<'a> {
    fn parse(
        search: &Search<'a>,
        (center, area): Fixed,
        set: Option<&SortedSet>,
        words: &[&'a [u8]],
    ) -> Result<Self, ErrorReply> {
        let mut options = Self {
            with_distance: false,
            with_hash: false,
            with_place: false,
            order: None,
            count: 0,
            any: false,
            from: center.map_or(From::Nowhere, From::Place),
            area,
            destination: search.destination,
            stores_distances: false,
        };
        let mut rest = words;
        while let Some((word, tail)) = rest.split_first() {
            let used = options.take(search.dialect, set, word, tail)?;
            rest = &tail[used..];
        }
        Ok(options)
    }

    /// Takes one option; gives how many arguments belong to its word.
    fn take(
        &mut self,
        dialect: Dialect,
        set: Option<&SortedSet>,
        word: &[u8],
        tail: &[&'a [u8]],
    ) -> Result<usize, ErrorReply> {
        match tail {
            _ if is_word(word, "WITHDIST") => self.with_distance = true,
            _ if is_word(word, "WITHHASH") => self.with_hash = true,
            _ if is_word(word, "WITHCOORD") => self.with_place = true,
            _ if is_word(word, "ANY") => self.any = true,
            _ if is_word(word, "ASC") => self.order = Some(Order::Nearest),
            _ if is_word(word, "DESC") => self.order = Some(Order::Farthest),
            [count, ..] if is_word(word, "COUNT") => {
                let count = integer(count)?;
                let count = usize::try_from(count).ok().filter(|count| *count > 0);
                self.count = count.ok_or(ErrorReply::new("ERR COUNT must be > 0"))?;
                return Ok(1);
            }
            [key, ..] if dialect.stores_by_option() && is_word(word, "STORE") => {
                (self.destination, self.stores_distances) = (Some(*key), false);
                return Ok(1);
            }
            [key, ..] if dialect.stores_by_option() && is_word(word, "STOREDIST") => {
                (self.destination, self.stores_distances) = (Some(*key), true);
                return Ok(1);
            }
            _ if dialect == Dialect::SearchStore && is_word(word, "STOREDIST") => {
                self.stores_distances = true;
            }
            _ if dialect.is_search() => return self.take_search(set, word, tail),
            _ => return Err(ErrorReply::SYNTAX),
        }
        Ok(0)
    }

    /// As [`Options::take`], for the words of GEOSEARCH alone.
    fn take_search(
        &mut self,
        set: Option<&SortedSet>,
        word: &[u8],
        tail: &[&'a [u8]],
    ) -> Result<usize, ErrorReply> {
        let (may_be_circle, may_be_box) = match self.area {
            None => (true, true),
            Some((Form::Circle { .. }, _)) => (true, false),
            Some((Form::Box { .. }, _)) => (false, true),
        };
        match tail {
            [member, ..] if is_word(word, "FROMMEMBER") && !matches!(self.from, From::Place(_)) => {
                self.from = From::Member(set.map(|set| place_of(set, member)).transpose()?);
                Ok(1)
            }
            [longitude, latitude, ..]
                if is_word(word, "FROMLONLAT") && !matches!(self.from, From::Member(_)) =>
            {
                self.from = From::Place(point(longitude, latitude)?);
                Ok(2)
            }
            [radius, unit, ..] if is_word(word, "BYRADIUS") && may_be_circle => {
                self.area = Some(circle(radius, unit)?);
                Ok(2)
            }
            [width, height, unit, ..] if is_word(word, "BYBOX") && may_be_box => {
                let number = |text: &[u8], error| parse_double(text).ok_or(ErrorReply::new(error));
                let width = number(width, "ERR need numeric width")?;
                let height = number(height, "ERR need numeric height")?;
                if width < 0.0 || height < 0.0 {
                    return Err(ErrorReply::new("ERR height or width cannot be negative"));
                }
                self.area = Some((Form::Box { width, height }, unit_m(unit)?));
                Ok(3)
            }
            _ => Err(ErrorReply::SYNTAX),
        }
    }

    /// What no option alone is guilty of.
    fn check(&self, dialect: Dialect, name: &[u8]) -> Result<(), ErrorReply> {
        if self.destination.is_some() && (self.with_distance || self.with_hash || self.with_place) {
            let who = if dialect.is_search() { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(ErrorReply::owned(format!(
                "ERR {who} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let needs = |what: &str| {
            ErrorReply::owned(
                [format!("ERR exactly one of {what} can be specified for ").as_bytes(), name].concat(),
            )
        };
        if dialect.is_search() && self.from == From::Nowhere {
            return Err(needs("FROMMEMBER or FROMLONLAT"));
        }
        if dialect.is_search() && self.area.is_none() {
            return Err(needs("BYRADIUS and BYBOX"));
        }
        if self.any && self.count == 0 {
            return Err(ErrorReply::new("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }
}

/// A radius with its unit.
pub(super) fn circle(radius: &[u8], unit: &[u8]) -> Result<Area, ErrorReply> {
    let radius = parse_double(radius).ok_or(ErrorReply::new("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(ErrorReply::new("ERR radius cannot be negative"));
    }
    Ok((Form::Circle { radius }, unit_m(unit)?))
}

/// Where a member is.
pub(super) fn place_of(set: &SortedSet, member: &[u8]) -> Result<Point, ErrorReply> {
    let score = set.score(member).ok_or(ErrorReply::new("ERR could not decode requested zset member"))?;
    Ok(Point::of_score(score))
}

/// A member within the area.
struct Found<'s> {
    member: &'s [u8],
    score: f64,
    place: Point,
    distance_m: f64,
}

/// Runs a search: reads the fixed arguments with `fixed`, which is told of the set, and then the options
/// `words`. `name` is the command as the client wrote it.
pub(super) fn run<'a>(
    cx: &mut Context<'_>,
    name: &[u8],
    search: &Search<'a>,
    fixed: impl FnOnce(Option<&SortedSet>) -> Result<Fixed, ErrorReply>,
    words: &[&'a [u8]],
    reply: &mut Reply<'_>,
) -> Outcome {
    let set = cx.read::<SortedSet>(search.source)?;
    let options = Options::parse(search, fixed(set)?, set, words)?;
    options.check(search.dialect, name)?;
    let center = match options.from {
        From::Place(center) | From::Member(Some(center)) => Some(center),
        From::Member(None) | From::Nowhere => None,
    };
    let (unit_m, mut found) = match (set, center, options.area) {
        (Some(set), Some(center), Some((form, unit_m))) => {
            (unit_m, find(set, &Shape { center, form, unit_m }, if options.any { options.count } else { 0 }))
        }
        // Without a key nothing was looked up, and nothing is found.
        _ => (1.0, Vec::new()),
    };
    arrange(&mut found, &options);
    let Some(destination) = options.destination else {
        write(reply, &found, &options, unit_m);
        return Ok(Flow::Done);
    };
    let mut result = SortedSet::new();
    for found in &found {
        let score = if options.stores_distances { found.distance_m / unit_m } else { found.score };
        result.insert(found.member, score, cx.limits);
    }
    let event = if search.dialect.is_search() { "geosearchstore" } else { "georadiusstore" };
    store(cx, destination, result, event, reply);
    Ok(Flow::Done)
}

/// The members within the area, or the first `count_max` of them where that is not 0.
fn find<'s>(set: &'s SortedSet, shape: &Shape, count_max: usize) -> Vec<Found<'s>> {
    let mut found = Vec::new();
    for scores in shape.score_ranges() {
        let min = ScoreBound { score: scores.start, exclusive: false };
        let max = ScoreBound { score: scores.end, exclusive: true };
        for (member, score) in set.range(set.ranks_by_score(&ScoreRange { min, max })) {
            let place = Point::of_score(score);
            if let Some(distance_m) = shape.distance_m(place) {
                found.push(Found { member, score, place, distance_m });
                if found.len() == count_max {
                    return found;
                }
            }
        }
    }
    found
}

/// Puts what was found in order and keeps `COUNT` of it. Places at equal distances stay as they were found.
fn arrange(found: &mut Vec<Found<'_>>, options: &Options<'_>) {
    // The nearest so many: a count alone asks for an order.
    let by_count = (options.count > 0 && !options.any).then_some(Order::Nearest);
    let nearer =
        |a: &Found<'_>, b: &Found<'_>| a.distance_m.partial_cmp(&b.distance_m).unwrap_or(Ordering::Equal);
    match options.order.or(by_count) {
        Some(Order::Nearest) => found.sort_by(nearer),
        Some(Order::Farthest) => found.sort_by(|a, b| nearer(b, a)),
        None => {}
    }
    if options.count > 0 {
        found.truncate(options.count);
    }
}

fn write(reply: &mut Reply<'_>, found: &[Found<'_>], options: &Options<'_>, unit_m: f64) {
    let extras = [options.with_distance, options.with_hash, options.with_place];
    let extras_len = extras.iter().filter(|wanted| **wanted).count();
    reply.array(found.len());
    for found in found {
        if extras_len > 0 {
            reply.array(extras_len + 1);
        }
        reply.bulk(found.member);
        if options.with_distance {
            write_distance(reply, found.distance_m / unit_m);
        }
        if options.with_hash {
            reply.integer(hash_of(found.score));
        }
        if options.with_place {
            write_point(reply, found.place);
        }
    }
}

/// A score as C converts it to an integer on x86-64: beyond the range of one it is the smallest.
fn hash_of(score: f64) -> i64 {
    let fits = (i64::MIN as f64..-(i64::MIN as f64)).contains(&score);
    if fits { score as i64 } else { i64::MIN }
}
