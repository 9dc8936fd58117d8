//! Results for people: on the terminal, and as a part of docs/performance.md with its pictures.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::cases::Bound;
use super::plot::{Dot, Plot, Row};
use super::results::{CaseResult, ContenderResult, Results};
use super::shown;

const BEGIN: &str =
    "<!-- Written by `cargo xtask bench report`: what stands up to the end mark is written over. -->";
const END: &str = "<!-- End of what the bench wrote. -->";

#[derive(Args)]
pub struct ReportArguments {
    /// What `bench store` wrote.
    #[arg(default_value = "target/bench-store.json")]
    file: PathBuf,
}

pub fn run(arguments: &ReportArguments) -> Result<()> {
    publish(&Results::read(&arguments.file)?)
}

/// All figures of a case, a line for each contender, and how its goals stand.
pub fn case_text(case: &CaseResult) -> String {
    let mut out = format!("\n{}: {}\n", case.name, case.what);
    for contender in &case.contenders {
        let _ = writeln!(out, "  {:<16} {}", contender.name, all_figures(contender, spread));
    }
    for goal in &case.goals {
        if let Some(judged) = case.judge(goal) {
            let _ = writeln!(
                out,
                "  {} {} (goal {}): {}",
                goal.figure,
                shown(judged.value),
                judged.goal,
                if judged.is_reached() { "reached" } else { "not reached" }
            );
        }
    }
    out
}

/// Every goal, the farthest first.
pub fn by_distance(results: &Results) -> String {
    let mut lines: Vec<(f64, String)> = Vec::new();
    for case in &results.cases {
        for goal in &case.goals {
            let Some(judged) = case.judge(goal) else { continue };
            let best = judged.best.as_ref().map(|(name, value)| format!("{name} {}", shown(*value)));
            let line = format!(
                "{:>6} off  {:<18} {:<30} {:>8} (goal {:<6}) ours {:>8}, {}",
                format!("{:.2}×", judged.distance),
                case.name,
                goal.figure,
                shown(judged.value),
                judged.goal,
                shown(judged.ours),
                best.unwrap_or_default()
            );
            lines.push((judged.distance, line));
        }
    }
    lines.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    lines.into_iter().map(|(_, line)| line + "\n").collect()
}

/// Writes the part of docs/performance.md between the marks, and the pictures beside it.
pub fn publish(results: &Results) -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = docs.join("performance.md");
    let pictures = docs.join("performance");
    fs::create_dir_all(&pictures)?;
    let old = fs::read_to_string(&page).with_context(|| format!("read {}", page.display()))?;
    let part = part(results, |name, svg| {
        let path = pictures.join(name);
        fs::write(&path, svg).with_context(|| format!("write {}", path.display()))
    })?;
    fs::write(&page, replaced(&old, &part))?;
    println!("{} is written", page.canonicalize()?.display());
    Ok(())
}

fn replaced(page: &str, part: &str) -> String {
    let part = format!("{BEGIN}\n\n{part}\n{END}\n");
    match (page.split_once(BEGIN), page.split_once(END)) {
        (Some((before, _)), Some((_, after))) => format!("{before}{part}{}", after.trim_start_matches('\n')),
        _ => format!("{}\n\n## The store\n\n{part}", page.trim_end()),
    }
}

fn part(results: &Results, mut picture: impl FnMut(&str, &str) -> Result<()>) -> Result<String> {
    let machine = &results.machine;
    let mut out = format!(
        "{} at commit {} on {} ({} cores, {} GiB, {}): `{}`{}.\n\n\
         Medians of all rounds, with the lowest and the highest; in pictures the line through a dot. Servers take \
         turns. A ratio is Thali's median over the best peer's.\n",
        results.date,
        results.commit,
        machine.cpu,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        results.command,
        if results.quick { ", short runs and a tenth of the large numbers" } else { "" },
    );
    let mut groups: Vec<&str> = results.cases.iter().map(|case| case.group.as_str()).collect();
    groups.dedup();
    for group in groups {
        let cases: Vec<&CaseResult> = results.cases.iter().filter(|case| case.group == group).collect();
        let _ = write!(out, "\n### {}\n\n", capital(group));
        for figure in figures(&cases) {
            let plot = Plot { title: format!("{group}: {figure}"), rows: rows(&cases, figure) };
            if let Some(svg) = plot.svg() {
                let name = format!("{}.svg", slug(&format!("{group}-{figure}")));
                picture(&name, &svg)?;
                let _ = writeln!(out, "![{group}: {figure}](performance/{name})\n");
            }
        }
        table(&mut out, &cases);
    }
    Ok(out)
}

fn table(out: &mut String, cases: &[&CaseResult]) {
    out.push_str("| case | figure | judged | best other | ratio | goal | |\n|---|---|---|---|---|---|---|\n");
    for case in cases {
        for goal in &case.goals {
            let (Some(judged), Some(ours)) = (case.judge(goal), case.contenders.first()) else { continue };
            let other = judged.best.as_ref().and_then(|(name, _)| {
                let contender = case.contenders.iter().find(|contender| contender.name == *name)?;
                Some(format!("{name} {}", spread(contender, &goal.figure)))
            });
            let ratio =
                judged.best.as_ref().map_or_else(|| "–".to_owned(), |(_, best)| shown(judged.ours / best));
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {ratio} | {} | {} |",
                case.name,
                goal.figure,
                spread(ours, &goal.figure),
                other.unwrap_or_else(|| "–".to_owned()),
                judged.goal,
                if judged.is_reached() { "reached" } else { "**not reached**" }
            );
        }
    }
    let _ = writeln!(out, "\n<details><summary>What was done, and all medians</summary>\n");
    for case in cases {
        let _ = writeln!(out, "- **{}**: {}", case.name, case.what);
        for contender in &case.contenders {
            let median = |contender: &ContenderResult, name: &str| {
                contender.median(name).map_or_else(String::new, shown)
            };
            let _ = writeln!(
                out,
                "  - {} ({}): {}",
                contender.name,
                contender.version,
                all_figures(contender, median)
            );
        }
    }
    out.push_str("\n</details>\n");
}

/// What goals are about, each once.
fn figures<'a>(cases: &[&'a CaseResult]) -> Vec<&'a str> {
    let mut figures: Vec<&str> = Vec::new();
    for goal in cases.iter().flat_map(|case| &case.goals) {
        if !figures.contains(&goal.figure.as_str()) {
            figures.push(&goal.figure);
        }
    }
    figures
}

fn rows(cases: &[&CaseResult], figure: &str) -> Vec<Row> {
    let with_goal = cases.iter().filter_map(|case| {
        let goal = case.goals.iter().find(|goal| goal.figure == figure)?;
        let judged = case.judge(goal)?;
        let best = judged.best.as_ref().map(|(_, best)| *best);
        let at = match goal.bound {
            Bound::Max(max) => Some(max),
            Bound::UnderPeer(ratio) | Bound::OverPeer(ratio) => best.map(|best| best * ratio),
        };
        Some((case, at))
    });
    with_goal
        .map(|(case, goal)| {
            let dots = case.contenders.iter().filter_map(|contender| {
                let figures = contender.figures(figure);
                let (low, high) = (*figures.first()?, *figures.last()?);
                Some(Dot { name: contender.name.clone(), median: contender.median(figure)?, low, high })
            });
            Row { label: case.name.clone(), dots: dots.collect(), goal }
        })
        .collect()
}

/// Each figure of a contender by name, as `show` puts it.
fn all_figures(contender: &ContenderResult, show: impl Fn(&ContenderResult, &str) -> String) -> String {
    let names = contender.runs.first().into_iter().flat_map(|run| run.keys());
    names.map(|name| format!("{name} {}", show(contender, name))).collect::<Vec<_>>().join("; ")
}

/// The median, and where rounds differ the lowest and the highest.
fn spread(contender: &ContenderResult, figure: &str) -> String {
    let figures = contender.figures(figure);
    match (contender.median(figure), figures.first(), figures.last()) {
        (Some(median), Some(low), Some(high)) if figures.len() > 1 => {
            format!("{} ({}–{})", shown(median), shown(*low), shown(*high))
        }
        (Some(median), _, _) => shown(median),
        _ => "–".to_owned(),
    }
}

fn slug(words: &str) -> String {
    let letters = words.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let mut slug: String = letters.collect();
    while slug.contains("--") {
        slug = slug.replace("--", "-");
    }
    slug
}

fn capital(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_written_over() {
        let first = replaced("# Page\n\nText.\n", "one\n");
        assert!(
            first.starts_with("# Page\n\nText.\n\n## The store\n\n<!--") && first.contains("one"),
            "{first}"
        );
        let second = replaced(&format!("{first}\n## After\n"), "two\n");
        assert!(second.contains("two") && !second.contains("one"), "{second}");
        assert!(second.starts_with("# Page") && second.ends_with("## After\n"), "{second}");
        assert_eq!(replaced(&second, "two\n"), second);
    }

    #[test]
    fn names_of_files_are_plain() {
        assert_eq!(slug("50 clients, pipeline 16-p99.9_ms"), "50-clients-pipeline-16-p99-9-ms");
    }
}
