//! The worker of Thali's side: the same as bench/peers/worker.js, an echo of the job's data.

use anyhow::{Context, Result};
use clap::Args;
use thali_client::StoreAddress;
use thali_jobs::worker::{Worker, WorkerConfig};

#[derive(Args)]
pub struct WorkerArguments {
    #[arg(long)]
    store: String,
    #[arg(long)]
    queue: String,
    #[arg(long)]
    concurrency: usize,
}

pub fn run(arguments: &WorkerArguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = StoreAddress::parse(&arguments.store)?;
        let config = WorkerConfig::new(&arguments.queue, arguments.concurrency);
        let _worker = Worker::start(&store, config, |job, _| async move { Ok(job.data().clone()) })
            .await
            .context("start the worker")?;
        println!("Ready to work");
        std::future::pending().await
    })
}
