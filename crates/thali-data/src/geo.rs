//! Places on Earth as scores of a sorted set, and the score ranges that cover an area around a place.
//!
//! A place is a cell of a grid: both coordinates are halved 26 times and the answers interleaved, longitude
//! first, which gives 52 bits that a double holds exactly. What is near on the map mostly is near in the
//! order of these numbers, so an area is searched as at most nine cells of a coarser grid, each of which is
//! one range of scores.
//!
//! ```text
//! bit  51  50  49  48        1   0
//!     lon lat lon lat  …   lon lat      the first halving stands highest; 1 = the upper half
//! ```
//!
//! Scores, printed coordinates, distances and the order of results are Redis's to the last bit, so each
//! formula here is computed in the same order as there.
//! SOURCE: Redis 7.2 `geohash.c` (grid, neighbours), `geohash_helper.c` (distances, areas), `geo.c` (the nine
//! ranges); limits of the map from EPSG:900913.

use std::ops::Range;

/// How often each coordinate is halved for a score.
const STEPS_MAX: u32 = 26;

pub const LONGITUDE_MAX: f64 = 180.0;
/// The map ends before the poles.
pub const LATITUDE_MAX: f64 = 85.05112878;

const EARTH_RADIUS_M: f64 = 6372797.560856;
/// Half of the map's width at the equator.
const MERCATOR_MAX_M: f64 = 20037726.37;
const RADIANS_PER_DEGREE: f64 = std::f64::consts::PI / 180.0;

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

impl Point {
    /// A place on the map; `None` beyond its edges.
    pub fn new(longitude: f64, latitude: f64) -> Option<Self> {
        let is_on_map = longitude.abs() <= LONGITUDE_MAX && latitude.abs() <= LATITUDE_MAX;
        is_on_map.then_some(Self { longitude, latitude })
    }

    /// The middle of the finest cell that a score names. Any score names one, though nobody may have meant it.
    pub fn of_score(score: f64) -> Self {
        let area = Cell { bits: bits_of_score(score), steps: STEPS_MAX }.area();
        let middle = |range: Range<f64>, max: f64| ((range.start + range.end) / 2.0).min(max).max(-max);
        Self {
            longitude: middle(area.longitude, LONGITUDE_MAX),
            latitude: middle(area.latitude, LATITUDE_MAX),
        }
    }

    /// The score of the finest cell that holds the place.
    pub fn score(self) -> f64 {
        Cell::of(self, STEPS_MAX).bits as f64
    }

    /// The standard geohash, whose grid reaches to the poles. 52 bits fill ten letters; the eleventh is always 0.
    pub fn geohash(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = Cell::of_grid(self, STEPS_MAX, 90.0).bits;
        let mut text = [LETTERS[0]; 11];
        for (i, letter) in text.iter_mut().take(10).enumerate() {
            *letter = LETTERS[(bits >> (52 - (i + 1) * 5)) as usize & 31];
        }
        text
    }

    /// Metres to another place along a great circle.
    pub fn distance_m(self, other: Self) -> f64 {
        let half = ((radians(other.longitude) - radians(self.longitude)) / 2.0).sin();
        if half == 0.0 {
            return self.distance_north_m(other);
        }
        let (own, others) = (radians(self.latitude), radians(other.latitude));
        let rise = ((others - own) / 2.0).sin();
        let chord = rise * rise + own.cos() * others.cos() * half * half;
        2.0 * EARTH_RADIUS_M * chord.sqrt().asin()
    }

    /// Metres between the latitudes.
    fn distance_north_m(self, other: Self) -> f64 {
        EARTH_RADIUS_M * (radians(other.latitude) - radians(self.latitude)).abs()
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * RADIANS_PER_DEGREE
}

fn degrees(radians: f64) -> f64 {
    radians / RADIANS_PER_DEGREE
}

/// A score's bits as C converts a double on x86-64: scores that no place has are the same places there.
fn bits_of_score(score: f64) -> u64 {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    let truncated = |value: f64| match (-TWO_TO_63..TWO_TO_63).contains(&value) {
        true => value as i64 as u64,
        false => 1 << 63,
    };
    if score < TWO_TO_63 { truncated(score) } else { truncated(score - TWO_TO_63) ^ 1 << 63 }
}

/// A rectangle of the grid that halves each coordinate `steps` times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    bits: u64,
    steps: u32,
}

struct Area {
    longitude: Range<f64>,
    latitude: Range<f64>,
}

impl Cell {
    fn of(point: Point, steps: u32) -> Self {
        Self::of_grid(point, steps, LATITUDE_MAX)
    }

    fn of_grid(point: Point, steps: u32, latitude_max: f64) -> Self {
        let place = |coordinate: f64, max: f64| {
            let part = (coordinate + max) / (max + max);
            (part * (1u64 << steps) as f64) as u32
        };
        let (x, y) = (place(point.longitude, LONGITUDE_MAX), place(point.latitude, latitude_max));
        Self { bits: spread(y) | spread(x) << 1, steps }
    }

    fn area(self) -> Area {
        let cells = (1u64 << self.steps) as f64;
        let range = |at: u32, max: f64| {
            let edge = |at: u32| -max + f64::from(at) / cells * (max + max);
            edge(at)..edge(at.wrapping_add(1))
        };
        Area {
            longitude: range(gather(self.bits >> 1), LONGITUDE_MAX),
            latitude: range(gather(self.bits), LATITUDE_MAX),
        }
    }

    /// The cell so many to the east and to the north; the grid has no edges.
    fn neighbour(self, (east, north): (i32, i32)) -> Self {
        let moved = |at: u32, by: i32| match by {
            0 => at,
            by => at.wrapping_add_signed(by) & ((1u64 << self.steps) - 1) as u32,
        };
        let (x, y) = (moved(gather(self.bits >> 1), east), moved(gather(self.bits), north));
        Self { bits: spread(y) | spread(x) << 1, ..self }
    }

    /// The scores of all places in the cell.
    fn scores(self) -> Range<f64> {
        let shift = 2 * (STEPS_MAX - self.steps);
        (self.bits << shift) as f64..((self.bits + 1) << shift) as f64
    }
}

/// Puts a zero before each bit.
fn spread(number: u32) -> u64 {
    let mut bits = u64::from(number);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Every second bit, the lowest first: the way back from [`spread`].
fn gather(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

/// The form of an area, in units of [`Shape::unit_m`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

/// An area around a place.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub center: Point,
    pub form: Form,
    /// Metres in a unit.
    pub unit_m: f64,
}

/// Where the cells that are searched lie around the one in the middle, east and north, in Redis's order.
const SEARCHED: [(i32, i32); 9] =
    [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];

impl Shape {
    /// Metres from the center, where the place lies in the area.
    pub fn distance_m(&self, point: Point) -> Option<f64> {
        let distance = self.center.distance_m(point);
        let is_within = match self.form {
            Form::Circle { radius } => distance <= radius * self.unit_m,
            Form::Box { width, height } => {
                let beside = Point { longitude: self.center.longitude, ..point };
                point.distance_north_m(self.center) <= height * self.unit_m / 2.0
                    && point.distance_m(beside) <= width * self.unit_m / 2.0
            }
        };
        is_within.then_some(distance)
    }

    /// Ranges of scores that hold every place in the area, in the order in which Redis looks at them.
    pub fn score_ranges(&self) -> impl Iterator<Item = Range<f64>> + use<> {
        let bounds = self.bounds();
        let mut cell = Cell::of(self.center, self.steps());
        // Near the edge of its cell the area may reach beyond the neighbours: a coarser grid is needed.
        let edge = |to: (i32, i32)| cell.neighbour(to).area();
        let is_too_fine = edge((0, 1)).latitude.end < bounds.latitude.end
            || edge((0, -1)).latitude.start > bounds.latitude.start
            || edge((1, 0)).longitude.end < bounds.longitude.end
            || edge((-1, 0)).longitude.start > bounds.longitude.start;
        if cell.steps > 1 && is_too_fine {
            cell = Cell::of(self.center, cell.steps - 1);
        }
        let area = cell.area();
        let may_skip = cell.steps >= 2;
        let skips_south = may_skip && area.latitude.start < bounds.latitude.start;
        let skips_north = may_skip && area.latitude.end > bounds.latitude.end;
        let skips_west = may_skip && area.longitude.start < bounds.longitude.start;
        let skips_east = may_skip && area.longitude.end > bounds.longitude.end;
        let mut last = None;
        SEARCHED.into_iter().filter_map(move |to| {
            let is_useless = match to {
                (_, north) if north < 0 && skips_south || north > 0 && skips_north => true,
                (east, _) => east < 0 && skips_west || east > 0 && skips_east,
            };
            let found = cell.neighbour(to);
            // On a grid this coarse, going east and west ends in the same cell.
            if is_useless || last == Some(found) {
                return None;
            }
            last = (to != (0, 0)).then_some(found);
            Some(found.scores())
        })
    }

    /// The rectangle around the area. Its width is measured on the side that is farther from the equator.
    fn bounds(&self) -> Area {
        let (width, height) = match self.form {
            Form::Circle { radius } => (radius, radius),
            Form::Box { width, height } => (width / 2.0, height / 2.0),
        };
        let (width_m, height_m) = (self.unit_m * width, self.unit_m * height);
        let Point { longitude, latitude } = self.center;
        let rise = degrees(height_m / EARTH_RADIUS_M);
        let far = if latitude < 0.0 { latitude - rise } else { latitude + rise };
        let reach = degrees(width_m / EARTH_RADIUS_M / radians(far).cos());
        Area { longitude: longitude - reach..longitude + reach, latitude: latitude - rise..latitude + rise }
    }

    /// How fine a grid can be so that a cell and its neighbours hold the area, as a first guess.
    fn steps(&self) -> u32 {
        let radius = match self.form {
            Form::Circle { radius } => radius,
            Form::Box { width, height } => {
                (width / 2.0 * (width / 2.0) + height / 2.0 * (height / 2.0)).sqrt()
            }
        };
        let mut reach_m = radius * self.unit_m;
        if reach_m == 0.0 {
            return STEPS_MAX;
        }
        let mut steps: i32 = -1;
        while reach_m < MERCATOR_MAX_M {
            reach_m *= 2.0;
            steps += 1;
        }
        // Cells are narrower towards the poles.
        let latitude = self.center.latitude.abs();
        steps -= i32::from(latitude > 66.0) + i32::from(latitude > 80.0);
        steps.clamp(1, STEPS_MAX as i32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(longitude: f64, latitude: f64) -> Point {
        Point::new(longitude, latitude).expect("on the map")
    }

    /// SOURCE: replies of redis-server 7.0.15 to GEOADD with ZSCORE, GEOHASH and GEODIST.
    #[test]
    fn known_places_have_redis_scores_and_distances() {
        let palermo = point(13.361389, 38.115556);
        let catania = point(15.087269, 37.502669);
        assert_eq!(palermo.score(), 3479099956230698.0);
        assert_eq!(catania.score(), 3479447370796909.0);
        let [palermo, catania] = [palermo, catania].map(|place| Point::of_score(place.score()));
        assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
        assert_eq!(&catania.geohash(), b"sqdtr74hyu0");
        assert_eq!(format!("{:.4}", palermo.distance_m(catania)), "166274.1516");
    }

    #[test]
    fn scores_without_a_place_are_read_as_c_reads_them() {
        for (score, bits) in [
            (-1.0, u64::MAX),
            (0.9, 0),
            (f64::INFINITY, 0),
            (f64::NEG_INFINITY, 1 << 63),
            (1e19, 10_000_000_000_000_000_000),
        ] {
            assert_eq!(bits_of_score(score), bits, "{score}");
        }
    }

    #[test]
    fn places_beyond_the_map_are_none() {
        assert!(Point::new(180.0, 85.05112878).is_some());
        for (longitude, latitude) in [(180.1, 0.0), (0.0, -85.06), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            assert!(Point::new(longitude, latitude).is_none(), "{longitude} {latitude}");
        }
    }

    fn places() -> impl Strategy<Value = Point> {
        (-180.0..180.0f64, -85.0..85.0f64).prop_map(|(longitude, latitude)| point(longitude, latitude))
    }

    proptest! {
        #[test]
        fn a_score_comes_back_as_a_place_close_by(place in places()) {
            let found = Point::of_score(place.score());
            prop_assert!(place.distance_m(found) < 0.6);
            prop_assert_eq!(Point::of_score(found.score()), found);
        }

        #[test]
        fn bits_spread_and_gather(number in any::<u32>()) {
            prop_assert_eq!(gather(spread(number)), number);
            prop_assert_eq!(gather(spread(number) << 1 | spread(!number)), !number);
        }

        /// Within the latitudes for which Redis's rectangle is wide enough.
        #[test]
        fn the_ranges_hold_every_place_of_the_area(
            longitude in -150.0..150.0f64, latitude in -60.0..60.0f64, radius in 1.0..500_000.0f64,
            by in (-4.0..4.0f64, -4.0..4.0f64),
        ) {
            let center = point(longitude, latitude);
            let place = point(longitude + by.0 * radius / 500_000.0, latitude + by.1 * radius / 500_000.0);
            let shape = Shape { center, form: Form::Circle { radius }, unit_m: 1.0 };
            prop_assume!(shape.distance_m(place).is_some());
            let score = place.score();
            prop_assert!(shape.score_ranges().any(|range| range.contains(&score)));
        }
    }
}
