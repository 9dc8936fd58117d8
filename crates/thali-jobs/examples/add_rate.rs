//! How fast jobs are added, by this crate and by the official one: jobs a second, and CPU time of this
//! process for each job.
//!
//! `cargo run --release -p thali-jobs --example add_rate -- redis://127.0.0.1:6379 [jobs] [callers] [lanes]`

use serde_json::value::RawValue;
use std::time::{Duration, Instant};
use thali_client::StoreAddress;
use thali_jobs::queue::{NewJob, Queues, QueuesConfig};

const DATA: &str =
    r#"{"user":"a3f9","source":"print('hello')","language":"python","limits":{"ms":1000,"mb":64}}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let store = args.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let mut number = |default: usize| args.next().map_or(Ok(default), |text| text.parse());
    let (jobs, callers, lanes) = (number(100_000)?, number(100)?, number(1)?);
    let address = StoreAddress::parse(&store)?;
    let queues = Queues::open(&address, QueuesConfig { lanes, ..QueuesConfig::default() })?;
    let data: &'static RawValue = serde_json::from_str(DATA)?;

    let own = queues.clone();
    run("this crate, one by one", jobs, callers, |each| {
        let own = own.clone();
        async move {
            for _ in 0..each {
                own.add("rate", &NewJob::new("n", data)).await.expect("added");
            }
        }
    })
    .await;

    let own = queues.clone();
    run("this crate, batches of 100", jobs, callers.min(10), |each| {
        let own = own.clone();
        async move {
            let batch: Vec<_> = (0..100).map(|_| NewJob::new("n", data)).collect();
            for _ in 0..each.div_ceil(100) {
                own.add_many("rate", &batch).await.expect("added");
            }
        }
    })
    .await;

    let options = bullmq::QueueOptions::new()
        .connection(bullmq::options::RedisConnectionOptions::new().url(address.url()));
    let official = bullmq::Queue::with_options("rate-official", options).await?;
    run("the official crate, one by one", jobs, callers, |each| {
        let official = official.clone();
        async move {
            for _ in 0..each {
                let value: serde_json::Value = serde_json::from_str(DATA).expect("JSON");
                official.add("n", value).await.expect("added");
            }
        }
    })
    .await;
    Ok(())
}

async fn run<F: Future<Output = ()> + Send + 'static>(
    name: &str,
    jobs: usize,
    callers: usize,
    work: impl Fn(usize) -> F,
) {
    let (started, cpu) = (Instant::now(), cpu_time());
    let tasks: Vec<_> = (0..callers).map(|_| tokio::spawn(work(jobs / callers))).collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let (elapsed, cpu) = (started.elapsed(), cpu_time() - cpu);
    println!(
        "{name:32} {:9.0} jobs/s {:7.2} µs of CPU a job",
        jobs as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / jobs as f64
    );
}

/// User and system time of this process; the kernel counts in hundredths of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has /proc");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in brackets").1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}
