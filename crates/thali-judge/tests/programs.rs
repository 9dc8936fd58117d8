//! Every sample program gets the verdict that it deserves, and the machine survives.

use serde_json::{Value, json};
use thali_judge::{Kind, Problem, Progress, Stage, Submission, judge, samples, samples_json};
use thali_sandbox::Policy;

fn verdict(data: Value) -> thali_judge::Verdict {
    let submission: Submission = serde_json::from_value(data).unwrap();
    judge(&submission, &Policy::default(), &mut |_| {}).unwrap()
}

#[test]
fn all_programs_get_their_verdicts() {
    let samples = samples();
    assert_eq!(samples.len(), 24);
    let mut wrong = Vec::new();
    for sample in &samples {
        let verdict = verdict(sample.submission());
        println!(
            "{:20} {:?} {} ms {} KiB: {}",
            sample.id,
            verdict.verdict,
            verdict.time_ms,
            verdict.memory_kb,
            verdict.detail.lines().last().unwrap_or("")
        );
        if verdict.verdict != sample.verdict && verdict.verdict != Kind::Unavailable {
            wrong.push((sample.id.clone(), verdict));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for place in ["/tmp/escaped", "/var/tmp/escaped", "/dev/shm/escaped", "/escaped"] {
        assert!(!std::fs::exists(place).unwrap(), "{place}");
    }
}

#[test]
fn samples_for_the_page_hold_no_answers() {
    let page: Value = serde_json::from_str(&samples_json()).unwrap();
    assert_eq!(page["samples"].as_array().unwrap().len(), 24);
    assert_eq!(page["languages"].as_array().unwrap().len(), 4);
    assert_eq!(page["problems"].as_array().unwrap().len(), Problem::all().len());
    assert!(page["problems"][0]["cases"].is_null());
    assert!(page["samples"].as_array().unwrap().iter().any(|sample| sample["code_base64"].is_string()));
}

#[test]
fn progress_counts_the_cases() {
    let submission: Submission =
        serde_json::from_value(json!({"language": "shell", "problem": "reverse-lines", "code": "rev"}))
            .unwrap();
    let mut heard = Vec::new();
    let verdict = judge(&submission, &Policy::default(), &mut |progress| heard.push(progress)).unwrap();
    assert_eq!(heard[0], Progress { stage: Stage::Compiling, case: 0, cases: 6 });
    assert_eq!(heard[1], Progress { stage: Stage::Running, case: 0, cases: 6 });
    assert!(verdict.time_ms < 1000);
}

#[test]
fn what_cannot_be_judged_is_an_error() {
    for data in [
        json!({"language": "python", "problem": "none", "code": ""}),
        json!({"language": "python", "problem": "fizzbuzz"}),
        json!({"language": "python", "problem": "fizzbuzz", "code_base64": "%"}),
        json!({"language": "python", "problem": "fizzbuzz", "code": "x".repeat(70_000)}),
    ] {
        let submission: Submission = serde_json::from_value(data).unwrap();
        assert!(judge(&submission, &Policy::default(), &mut |_| {}).is_err());
    }
}

#[test]
fn hostile_includes_do_not_reach_the_verdict() {
    let verdict = verdict(
        json!({"language": "c", "problem": "fizzbuzz", "code": "#include \"/etc/passwd\"\nint main(void){}"}),
    );
    assert_eq!(verdict.verdict, Kind::CompileError);
    assert!(!verdict.detail.contains("root:"), "{}", verdict.detail);
}
