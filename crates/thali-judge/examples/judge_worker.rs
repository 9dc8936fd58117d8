//! The judge's worker by itself: `judge_worker STORE CONCURRENCY JUDGE_COMMAND…`, on the queue `judge`,
//! with every verdict announced on `room:judge:feed`.

use thali_client::StoreAddress;
use thali_jobs::exec::{self, Announce, ExecConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let mut next = |what: &str| args.next().ok_or(format!("{what} is missing"));
    let store = StoreAddress::parse(&next("STORE")?.to_string_lossy())?;
    let concurrency = next("CONCURRENCY")?.to_string_lossy().parse()?;
    let mut config = ExecConfig::new(store, "judge", args);
    config.concurrency = concurrency;
    // The judge itself is trusted; what it runs is not, and it boxes that.
    config.trusted = true;
    config.announce = Some(Announce {
        channel: "room:judge:feed".into(),
        message: |job, result| Some(thali_judge::feed_entry(job.id(), result)),
    });
    let ended = exec::run(config).await?;
    println!("given back: {}", ended.given_back);
    Ok(())
}
