//! How many empty jobs a second one worker takes: `worker_rate STORE JOBS CONCURRENCY`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bullmq::options::RedisConnectionOptions;
use bullmq::{BulkJob, Queue, QueueOptions};
use serde_json::{Value, json};
use thali_client::StoreAddress;
use thali_jobs::worker::{Worker, WorkerConfig};

const BATCH: usize = 1000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [store, jobs, concurrency] = args.as_slice() else { return Err("STORE JOBS CONCURRENCY".into()) };
    let (jobs, concurrency): (usize, usize) = (jobs.parse()?, concurrency.parse()?);
    let store = StoreAddress::parse(store)?;
    let name = format!("rate-{}", std::process::id());
    let connection = RedisConnectionOptions::new().url(store.url());
    let queue = Queue::with_options(&name, QueueOptions { connection, ..QueueOptions::default() }).await?;
    for _ in 0..jobs.div_ceil(BATCH) {
        let batch = (0..BATCH).map(|number| BulkJob::new("x", json!({ "number": number }))).collect();
        queue.add_bulk(batch).await?;
    }
    let done = Arc::new(AtomicUsize::new(0));
    let counted = done.clone();
    let started = Instant::now();
    let handler = move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok(Value::Null) }
    };
    let worker = Worker::start(&store, WorkerConfig::new(&name, concurrency), handler).await?;
    while done.load(Ordering::Relaxed) < jobs {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{jobs} jobs in {seconds:.2} s: {:.0} a second at concurrency {concurrency}",
        jobs as f64 / seconds
    );
    worker.drain(Duration::from_secs(1)).await;
    queue.obliterate(true, BATCH).await?;
    Ok(())
}
