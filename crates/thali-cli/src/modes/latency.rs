//! `--latency`, `--latency-history`, `--latency-dist`: how long PING takes. `--intrinsic-latency`: what the
//! machine takes away from a program that only computes.

use std::time::{Duration, Instant};

use crate::client::{Client, print_now};
use crate::format::Form;
use crate::interrupt::Halt;
use crate::stop::Stop;

const BETWEEN_SAMPLES: Duration = Duration::from_millis(10);
const ONE_SHOT_DEFAULT: Duration = Duration::from_secs(1);
const HISTORY_DEFAULT: Duration = Duration::from_secs(15);
const SPECTRUM_DEFAULT: Duration = Duration::from_secs(1);
/// Spectra between legends.
const PAGE_SPECTRA: u64 = 20;

/// Milliseconds of some samples.
#[derive(Debug, Default)]
struct Samples {
    min: u128,
    max: u128,
    total: u128,
    count: u128,
}

impl Samples {
    fn add(&mut self, millis: u128) {
        self.min = if self.count == 0 { millis } else { self.min.min(millis) };
        self.max = self.max.max(millis);
        self.total += millis;
        self.count += 1;
    }

    fn text(&self, form: Form) -> String {
        let Self { min, max, count, .. } = self;
        let average = self.total as f64 / (*count).max(1) as f64;
        match form {
            Form::Standard => format!("min: {min}, max: {max}, avg: {average:.2} ({count} samples)"),
            Form::Csv => format!("{min},{max},{average:.2},{count}\n"),
            Form::Raw => format!("{min} {max} {average:.2} {count}\n"),
            Form::Json | Form::QuotedJson => {
                format!("{{\"min\": {min}, \"max\": {max}, \"avg\": {average:.2}, \"count\": {count}}}\n")
            }
        }
    }
}

/// Samples until Ctrl-C on a terminal, else for one interval.
pub(crate) fn run(client: &mut Client, with_history: bool) -> Result<(), Stop> {
    let given = Some(client.options.interval).filter(|interval| !interval.is_zero());
    let form = client.options.style.form;
    let mut begin = Instant::now();
    let mut samples = Samples::default();
    loop {
        let start = Instant::now();
        client.ask_patiently(&["PING"])?;
        samples.add(start.elapsed().as_millis());
        if form == Form::Standard {
            print_now(&format!("\x1b[0G\x1b[2K{}", samples.text(form)))?;
        } else if with_history {
            print_now(&samples.text(form))?;
        } else if begin.elapsed() > given.unwrap_or(ONE_SHOT_DEFAULT) {
            return print_now(&samples.text(form));
        }
        if with_history && begin.elapsed() > given.unwrap_or(HISTORY_DEFAULT) {
            print_now(&format!(" -- {:.2} seconds range\n", begin.elapsed().as_secs_f64()))?;
            begin = Instant::now();
            samples = Samples::default();
        }
        std::thread::sleep(BETWEEN_SAMPLES);
    }
}

/// The upper end of each bucket in microseconds, and its letter; beyond the last one is `?`.
const BUCKETS: [(u128, char); 29] = [
    (10, '.'),
    (125, '-'),
    (250, '*'),
    (500, '#'),
    (1_000, '1'),
    (2_000, '2'),
    (3_000, '3'),
    (4_000, '4'),
    (5_000, '5'),
    (6_000, '6'),
    (7_000, '7'),
    (8_000, '8'),
    (9_000, '9'),
    (10_000, 'A'),
    (20_000, 'B'),
    (30_000, 'C'),
    (40_000, 'D'),
    (50_000, 'E'),
    (100_000, 'F'),
    (200_000, 'G'),
    (300_000, 'H'),
    (400_000, 'I'),
    (500_000, 'J'),
    (1_000_000, 'K'),
    (2_000_000, 'L'),
    (4_000_000, 'M'),
    (8_000_000, 'N'),
    (16_000_000, 'O'),
    (30_000_000, 'P'),
];
/// Xterm's colours from nothing to everything.
const COLOURS: [u8; 8] = [0, 17, 19, 27, 51, 118, 226, 196];
const GREYS: [u8; 8] = [0, 233, 236, 239, 242, 246, 250, 255];

/// A line of coloured letters each second.
pub(crate) fn spectrum(client: &mut Client) -> Result<(), Stop> {
    let palette = if client.options.monochrome { GREYS } else { COLOURS };
    let interval = match client.options.interval {
        Duration::ZERO => SPECTRUM_DEFAULT,
        given => given,
    };
    let mut counts = [0u64; BUCKETS.len() + 1];
    let mut begin = Instant::now();
    let mut spectra = 0;
    loop {
        let start = Instant::now();
        client.ask_patiently(&["PING"])?;
        let micros = start.elapsed().as_micros();
        counts[BUCKETS.iter().position(|(end, _)| micros <= *end).unwrap_or(BUCKETS.len())] += 1;
        if begin.elapsed() > interval {
            if spectra % PAGE_SPECTRA == 0 {
                print_now(&legend(&palette))?;
            }
            spectra += 1;
            print_now(&line(&counts, &palette))?;
            counts.fill(0);
            begin = Instant::now();
        }
        std::thread::sleep(BETWEEN_SAMPLES);
    }
}

fn line(counts: &[u64], palette: &[u8]) -> String {
    let total: u64 = counts.iter().sum();
    let letters = BUCKETS.iter().map(|(_, letter)| *letter).chain(['?']);
    let mut text = String::from("\x1b[38;5;0m");
    for (letter, count) in letters.zip(counts) {
        let strength = (*count as f64 / total.max(1) as f64 * (palette.len() - 1) as f64).ceil() as usize;
        text += &format!("\x1b[48;5;{}m{letter}", palette[strength]);
    }
    text + "\x1b[0m\n"
}

fn legend(palette: &[u8]) -> String {
    let rule = "-".repeat(45);
    let scale: String = palette.iter().map(|colour| format!("\x1b[48;5;{colour}m ")).collect();
    format!(
        "{rule}\n\
         . - * #          .01 .125 .25 .5 milliseconds\n\
         1,2,3,...,9      from 1 to 9     milliseconds\n\
         A,B,C,D,E        10,20,30,40,50  milliseconds\n\
         F,G,H,I,J        .1,.2,.3,.4,.5       seconds\n\
         K,L,M,N,O,P,?    1,2,4,8,16,30,>30    seconds\n\
         From 0 to 100%: {scale}\x1b[0m\n\
         {rule}\n"
    )
}

/// Computes for so many seconds and tells each time that took longer than all before.
pub(crate) fn intrinsic(seconds: u64) -> Result<(), Stop> {
    let halt = Halt::install()?;
    let begin = Instant::now();
    let length = Duration::from_secs(seconds);
    let (mut runs, mut longest) = (0u64, 0u128);
    loop {
        let start = Instant::now();
        std::hint::black_box(busy_work(runs));
        let micros = start.elapsed().as_micros();
        runs += 1;
        if micros > longest {
            longest = micros;
            print_now(&format!("Max latency so far: {longest} microseconds.\n"))?;
        }
        if halt.is_raised() || begin.elapsed() > length {
            let average = begin.elapsed().as_secs_f64() * 1e6 / runs as f64;
            return print_now(&format!(
                "\n{runs} total runs (avg latency: {average:.4} microseconds / {:.2} nanoseconds per run).\n\
                 Worst run took {:.0}x longer than the average latency.\n",
                average * 1e3,
                longest as f64 / average
            ));
        }
    }
}

/// Some arithmetic that nobody can leave out: less than a microsecond.
fn busy_work(seed: u64) -> u64 {
    (0..100).fold(seed, |sum, n| std::hint::black_box(sum.rotate_left(5) ^ n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_shown_in_each_form() {
        let mut samples = Samples::default();
        [2, 1, 3].into_iter().for_each(|millis| samples.add(millis));
        assert_eq!(samples.text(Form::Standard), "min: 1, max: 3, avg: 2.00 (3 samples)");
        assert_eq!(samples.text(Form::Raw), "1 3 2.00 3\n");
        assert_eq!(samples.text(Form::Csv), "1,3,2.00,3\n");
        assert_eq!(samples.text(Form::Json), "{\"min\": 1, \"max\": 3, \"avg\": 2.00, \"count\": 3}\n");
    }

    #[test]
    fn the_strongest_bucket_has_the_last_colour() {
        let mut counts = [0; BUCKETS.len() + 1];
        counts[1] = 4;
        let text = line(&counts, &COLOURS);
        assert!(text.contains("\x1b[48;5;0m.\x1b[48;5;196m-"), "{text:?}");
    }
}
